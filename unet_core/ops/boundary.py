"""Ids of truth to the classes that the network learns."""

import numpy as np
from numpy.typing import NDArray

from unet_core.errors import ConfigError
from unet_core.geometry import IGNORED_ID, Zyx
from unet_core.ops.two_nearest import reach_vx, two_nearest

IGNORED_CLASS = 255
"""Class of voxels that count for nothing in loss and score."""


def border_reach(border_px: int, *, z_spacing: float | None = None) -> Zyx:
    """Voxels (z, y, x) beyond a block on which its borders depend, as in `target_of_instances`."""
    return 0 if z_spacing is None else reach_vx(border_px, z_spacing), border_px, border_px


def target_of_instances(
    ids: NDArray[np.uint32], *, border_px: int, z_spacing: float | None = None
) -> NDArray[np.uint8]:
    """Class per voxel, 1 inside of an object and 0 elsewhere, with touching objects drawn apart.

    A voxel of an object becomes class 0 where a voxel of another object lies within `border_px`
    (Euclidean, centre to centre). An object's edge against background stays. Exact for blocks that
    are read with a halo of `border_reach`.

    Parameters
    ----------
    ids : (z, y, x) uint32
        One id per object; 0 is background, `IGNORED_ID` unknown (and no object).
    border_px
        In-plane pixels, >= 0; 0 draws no border.
    z_spacing
        Distance of two sections in in-plane pixels; None looks within each section alone.

    Returns
    -------
    (z, y, x) uint8
        0, 1, or 255 where `ids` is `IGNORED_ID`.
    """
    inside = (ids != 0) & (ids != IGNORED_ID)
    if border_px:
        second = two_nearest(ids, inside, bound=border_px, z_spacing=z_spacing)[1]
        inside &= np.isinf(second)
    target: NDArray[np.uint8] = inside.astype(np.uint8)
    target[ids == IGNORED_ID] = IGNORED_CLASS
    return target


def target_of_classes(classes: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """Class per voxel of semantic truth: the value itself, 255 where it is `IGNORED_ID`.

    Parameters
    ----------
    classes : (z, y, x) uint32
        Values 0..254, or `IGNORED_ID`.

    Raises
    ------
    ConfigError
        For any other value: those are ids of objects, or 255 has not been declared as ignored.
    """
    ignored = classes == IGNORED_ID
    target = np.where(ignored, IGNORED_CLASS, classes)
    highest = int(target.max(initial=0, where=~ignored))
    if highest >= IGNORED_CLASS:
        raise ConfigError(
            f"truth of kind semantic holds the class {highest}; classes are 0..254: set "
            "truth.kind to instances if the values are ids of objects, or truth.ignore_label "
            f"to {highest} if it marks voxels without annotation"
        )
    return target.astype(np.uint8)
