"""The landscape a watershed runs on: low inside objects, integers, equal for every blocking."""

from collections.abc import Sequence
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import correlate1d

from unet_core.config.result import Scope
from unet_core.geometry import Zyx

HeightArray = npt.NDArray[np.integer[Any]]
"""uint16, or int32 where some voxels are OUTSIDE."""

ProbabilityArray = npt.NDArray[np.uint8] | npt.NDArray[np.floating]

TOP = 65535
"""Height of probability 0; probability 1 is 0. 257 steps per step of a stored uint8."""

OUTSIDE = TOP + 1
"""Height of voxels that belong to no object and part those beside them."""

_ONE = 4096
"""Sum of the smoothing weights along an axis; three axes of it times TOP stay below 2**53."""


def heights_of(probability: ProbabilityArray) -> HeightArray:
    """Heights ``65535 * (1 - p)``, rounded.

    Parameters
    ----------
    probability : (...) uint8 in 0..255 or float in 0..1
        As stored; exact for uint8.
    """
    if probability.dtype == np.uint8:
        exactly: HeightArray = (255 - probability.astype(np.uint16)) * np.uint16(257)
        return exactly
    wanted = np.rint(TOP * (1 - probability.astype(np.float64)))
    return np.clip(wanted, 0, TOP).astype(np.uint16)


def fenced(heights: HeightArray, inside: npt.NDArray[np.bool_] | None) -> HeightArray:
    """The same heights, OUTSIDE where `inside` is False; None: nowhere."""
    if inside is None:
        return heights
    return np.where(inside, heights.astype(np.int32), np.int32(OUTSIDE))


def depth_steps(depth: float) -> int:
    """A depth on the probability's scale of 0 to 1 in steps of height, at least 1.

    At 1 only basins without any depth are merged: the fragments of flat minima.
    """
    return max(1, round(depth * TOP))


def smoothing_sd(
    smoothing_px: float, voxel_size_nm: Sequence[float], scope: Scope
) -> tuple[float, float, float]:
    """Standard deviations (z, y, x) in voxels of a smoothing that is given in in-plane pixels.

    In volumes z is smoothed over the same length as y and x are; sections are not mixed.
    """
    z, y, x = voxel_size_nm
    along_z = smoothing_px * (y + x) / (2 * z) if scope == "volume" else 0.0
    return along_z, smoothing_px, smoothing_px


def smoothing_reach(sigma: Sequence[float]) -> Zyx:
    """Voxels (z, y, x) that smoothing with standard deviations `sigma` sees to each side."""
    z, y, x = (ceil(3 * s) for s in sigma)
    return z, y, x


def smooth(heights: HeightArray, sigma: Sequence[float]) -> HeightArray:
    """Gaussian smoothing that consumes its reach on every side, in exact arithmetic.

    Weights are integers that sum to 4096 per axis, so all sums are integers below 2**53: the
    result of a voxel is the same bits in whatever block it is computed.

    Parameters
    ----------
    heights : (z, y, x) uint16
        With `smoothing_reach(sigma)` more voxels on every side than are wanted.
    sigma
        Standard deviations (z, y, x), voxels; 0 leaves an axis as it is.

    Returns
    -------
    (z', y', x') uint16
        Smaller by the reach on every side, rounded to the nearest height (halves up).
    """
    reach = smoothing_reach(sigma)
    if not any(reach):
        return heights
    sums, scale = heights.astype(np.float64), 1
    for axis, (s, r) in enumerate(zip(sigma, reach, strict=True)):
        if r:
            sums = correlate1d(sums, _weights(s, r), axis=axis, mode="nearest")
            sums = np.take(sums, np.arange(r, sums.shape[axis] - r), axis=axis)
            scale *= _ONE
    return np.floor((sums + scale // 2) / scale).astype(np.uint16)


def _weights(sigma: float, reach: int) -> npt.NDArray[np.float64]:
    offsets = np.arange(-reach, reach + 1)
    bell = np.exp(-0.5 * (offsets / sigma) ** 2)
    weights: npt.NDArray[np.float64] = np.rint(_ONE * bell / bell.sum())
    weights[reach] += _ONE - weights.sum()
    return weights
