"""The terms of the U-Net's loss weight that press on borders and on what is near objects."""

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from unet_core.ops.two_nearest import reach_vx, two_nearest

REACH_SIGMAS = 6.0
"""The border term is 0 where the second nearest object is farther than this many sigma: there it
is below w0 * exp(-18), 1.5e-7 for w0 = 10, less than float32 rounds of a weight near 10."""


def border_halo(sigma_px: float, *, z_spacing: float | None = None) -> tuple[int, int, int]:
    """Voxels (z, y, x) beyond a block on which its border term depends.

    `z_spacing` as in `border_term`.
    """
    bound = REACH_SIGMAS * sigma_px
    in_plane = reach_vx(bound, 1.0)
    return 0 if z_spacing is None else reach_vx(bound, z_spacing), in_plane, in_plane


def border_term(
    ids: NDArray[np.uint32],
    target: NDArray[np.uint8],
    *,
    weight: float = 10.0,
    sigma_px: float = 5.0,
    z_spacing: float | None = None,
) -> NDArray[np.float32]:
    """Loss weight per voxel that presses on thin borders between objects.

    ``weight * exp(-(d1 + d2)**2 / (2 * sigma_px**2))`` with d1 and d2 the distances, from voxel
    centre to voxel centre, to the nearest and the second nearest object (Ronneberger et al. 2015,
    eq. 2): a straight gap of g pixels gives d1 + d2 = g + 1. Distances are measured to the objects
    as annotated. Where `target` draws a border into touching objects, a voxel's own object is at
    d1 = 0, as in the U-Net's original plug-in.

    A block read with a halo of `border_halo` gives, bit for bit, its part of the whole volume.

    Parameters
    ----------
    ids : (z, y, x) uint32
        One id per object, the same in all blocks; 0 and `IGNORED_ID` are no objects.
    target : (z, y, x) uint8
        The term is applied to class 0 alone.
    weight, sigma_px
        Height; width in in-plane pixels.
    z_spacing
        Distance of two sections in in-plane pixels; None measures within each section.

    Returns
    -------
    (z, y, x) float32 in 0..weight
        0 where `target` is not 0, and where fewer than two objects are within 6 sigma.
    """
    if weight == 0:
        return np.zeros(ids.shape, np.float32)
    near = two_nearest(ids, target == 0, bound=REACH_SIGMAS * sigma_px, z_spacing=z_spacing)
    term = np.zeros(near[0].size, np.float32)
    _decay(near[0].ravel(), near[1].ravel(), weight, 0.5 / sigma_px**2, term)
    return term.reshape(ids.shape)


def near_term(
    ids: NDArray[np.uint32],
    target: NDArray[np.uint8],
    *,
    weight: float,
    sigma_px: float,
    z_spacing: float | None = None,
) -> NDArray[np.float32]:
    """Loss weight per voxel of background that falls with the distance d1 to the nearest object.

    ``weight * exp(-d1**2 / (2 * sigma_px**2))`` (Falk et al. 2019, the second part of the weight of
    background). Parameters, distances and halo are those of `border_term`.

    Returns
    -------
    (z, y, x) float32 in 0..weight
        0 where `target` is not 0, and where no object is within 6 sigma.
    """
    if weight == 0:
        return np.zeros(ids.shape, np.float32)
    near = two_nearest(ids, target == 0, bound=REACH_SIGMAS * sigma_px, z_spacing=z_spacing)[0]
    term = np.zeros(near.size, np.float32)
    _fall(near.ravel(), weight, 0.5 / sigma_px**2, term)
    return term.reshape(ids.shape)


@njit(cache=True)
def _fall(near: Any, weight: float, rate: float, term: Any) -> None:
    for i in range(near.size):  # one by one, as in _decay
        if near[i] < np.inf:
            term[i] = weight * math.exp(-rate * np.float64(near[i]))


@njit(cache=True)
def _decay(near: Any, second: Any, weight: float, rate: float, term: Any) -> None:
    # One voxel at a time with the C library's exp: numpy's differs in the last bit between the
    # body and the tail of an array, and the result would depend on the blocks.
    for i in range(near.size):
        if second[i] < np.inf:
            total = math.sqrt(np.float64(near[i])) + math.sqrt(np.float64(second[i]))
            term[i] = weight * math.exp(-rate * total * total)
