"""Masks: which voxels of a volume are computed."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from unet_core.geometry import Box
from unet_core.io.arrays import open_level, read

Mask = npt.NDArray[np.bool_]


def read_mask(store: Path, box: Box) -> Mask:
    """Where the voxels of `box` are to be computed: (z, y, x)."""
    mask: Mask = read(open_level(store), box) != 0
    return mask


def any_of(mask: Mask, by: Sequence[int]) -> Mask:
    """Whether cells of `by` voxels hold one of a (z, y, x) mask; the last may be partial."""
    for axis, factor in enumerate(by):
        if factor > 1:
            starts = np.arange(0, mask.shape[axis], factor)
            mask = np.logical_or.reduceat(mask, starts, axis=axis)
    return mask
