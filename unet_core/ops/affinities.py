"""Ids of objects to affinities: whether two voxels at an offset belong to one object."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from unet_core.geometry import IGNORED_ID, Zyx
from unet_core.ops.boundary import IGNORED_CLASS


def affinities_of(ids: NDArray[np.uint32], offsets: Sequence[Zyx]) -> NDArray[np.uint8]:
    """Per offset and voxel, whether the voxel and that at the offset from it are of one object.

    Parameters
    ----------
    ids : (z, y, x) uint32
        One id per object; 0 is background, `IGNORED_ID` unknown.
    offsets
        Voxels (z, y, x) from one to the other, of any sign.

    Returns
    -------
    (offsets, z, y, x) uint8
        1 where both have the same id and it is not 0, else 0; 255 where either is `IGNORED_ID` or
        the second lies outside of `ids`.
    """
    affinities = np.full((len(offsets), *ids.shape), IGNORED_CLASS, np.uint8)
    for affinity, offset in zip(affinities, offsets, strict=True):
        pairs = list(zip(offset, ids.shape, strict=True))
        first = tuple(slice(max(0, -d), max(0, min(n, n - d))) for d, n in pairs)
        second = tuple(slice(max(0, d), max(0, min(n, n + d))) for d, n in pairs)
        one, other = ids[first], ids[second]
        known = (one != IGNORED_ID) & (other != IGNORED_ID)
        same = (one == other) & (one != 0)
        affinity[first] = np.where(known, same, IGNORED_CLASS)
    return affinities
