"""Masks that are coarser than the volume they belong to."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from unet_core.geometry import Zyx

Mask = npt.NDArray[np.bool_]


def factors_between(coarse: Sequence[int], fine: Sequence[int]) -> Zyx | None:
    """Voxels (z, y, x) of a `fine` shape that one voxel of a `coarse` one spans.

    The last voxel may span fewer. None: they do not fit by whole factors.
    """
    if min(*coarse, *fine) < 1:
        return None
    factors = [-(-n // m) for m, n in zip(coarse, fine, strict=True)]
    if any(-(-n // f) != m for m, n, f in zip(coarse, fine, factors, strict=True)):
        return None
    z, y, x = factors
    return z, y, x


def spread(coarse: Mask, factors: Sequence[int]) -> Mask:
    """Every voxel of a (z, y, x) mask as `factors` voxels."""
    for axis, factor in enumerate(factors):
        if factor > 1:
            coarse = np.repeat(coarse, factor, axis=axis)
    return coarse
