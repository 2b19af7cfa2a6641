"""Masks: which voxels of a volume are computed."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from unet_core.errors import StoreError
from unet_core.geometry import Box, Zyx
from unet_core.io.arrays import open_level, read

Mask = npt.NDArray[np.bool_]


def read_mask(mask: Path, box: Box, shape: Zyx) -> Mask:
    """Where the voxels of `box` are to be computed: (z, y, x), of a raw volume of `shape`."""
    level = open_level(mask)
    factors = mask_factors(level.shape[-3:], shape, name=str(mask))
    (z0, y0, x0), (z1, y1, x1), (z, y, x) = box.start, box.stop, factors
    within = Box((z0 // z, y0 // y, x0 // x), (-(-z1 // z), -(-y1 // y), -(-x1 // x)))
    found: Mask = read(level, within) != 0
    for axis, factor in enumerate(factors):
        if factor > 1:
            found = np.repeat(found, factor, axis=axis)
    return found[box.relative_to((z0 // z * z, y0 // y * y, x0 // x * x)).slices]


def mask_factors(mask: Sequence[int], raw: Sequence[int], *, name: str) -> Zyx:
    """Raw voxels per axis that a voxel of a mask stands for.

    Raises
    ------
    StoreError
        If they are no whole numbers.
    """
    factors = [max(1, -(-n // max(1, m))) for m, n in zip(mask, raw, strict=False)]
    if len(mask) != 3 or any(-(-n // f) != m for m, n, f in zip(mask, raw, factors, strict=True)):
        raise StoreError(
            f"{name} is a mask of {' x '.join(map(str, mask))} voxels; of raw with "
            f"{' x '.join(map(str, raw))} it must have as many (z, y, x), or fewer by whole factors"
        )
    z, y, x = factors
    return z, y, x


def any_of(mask: Mask, downsample: Zyx) -> Mask:
    """Whether boxes of `downsample` voxels hold one of `mask` (z, y, x), which starts on one."""
    for axis, factor in enumerate(downsample):
        if factor > 1:
            starts = np.arange(0, mask.shape[axis], factor)
            mask = np.logical_or.reduceat(mask, starts, axis=axis)
    return mask


def around(mask: Mask) -> Box:
    """The least box that holds all voxels of `mask` (z, y, x); of size 0 where there is none."""
    if not mask.any():
        return Box((0, 0, 0), (0, 0, 0))
    lines = [mask.any(axis=(1, 2)), mask.any(axis=(0, 2)), mask.any(axis=(0, 1))]
    (z0, z1), (y0, y1), (x0, x1) = ((int(i[0]), int(i[-1]) + 1) for i in map(np.flatnonzero, lines))
    return Box((z0, y0, x0), (z1, y1, x1))
