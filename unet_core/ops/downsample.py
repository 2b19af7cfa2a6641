"""The next level of a pyramid: mean for intensities, mode for labels."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from unet_core.geometry import Zyx

Array = npt.NDArray[Any]

_MOST_LEVELS = 32


def level_factors(shape: Zyx, voxel_size_nm: Sequence[float], *, smallest_px: int) -> list[Zyx]:
    """Per level, how many voxels of level 0 one of its voxels spans, (z, y, x); level 0 first.

    An axis is halved where its voxels are less than twice as long as the shortest edge among the
    axes that can still be halved, so that voxels become isotropic first. Levels are added until
    y and x are at most `smallest_px`.
    """
    factors: list[Zyx] = [(1, 1, 1)]
    edges = [float(edge) for edge in voxel_size_nm]
    while len(factors) < _MOST_LEVELS:
        _, y, x = now = level_shape(shape, factors[-1])
        if y <= smallest_px and x <= smallest_px:
            break
        finest = min(edge for edge, n in zip(edges, now, strict=True) if n > 1)
        steps = [
            2 if n > 1 and edge < 2 * finest else 1 for edge, n in zip(edges, now, strict=True)
        ]
        edges = [edge * step for edge, step in zip(edges, steps, strict=True)]
        fz, fy, fx = (f * step for f, step in zip(factors[-1], steps, strict=True))
        factors.append((fz, fy, fx))
    return factors


def level_shape(shape: Sequence[int], factor: Sequence[int]) -> Zyx:
    """Shape (z, y, x) of a level: a last, partial voxel counts as one."""
    z, y, x = (-(-n // f) for n, f in zip(shape, factor, strict=True))
    return z, y, x


def mean_level(finer: Array, step: Zyx) -> Array:
    """Mean of every `step` voxels; at the far edges of those there are.

    Parameters
    ----------
    finer : (..., z, y, x) uint8, uint16, int16 or float32
        Begins at a multiple of `step`.
    step
        Voxels (z, y, x) that become one; 1 or 2 each.

    Returns
    -------
    (..., ceil(z / step), …) of the same dtype
        Whole numbers are rounded, halves up.
    """
    whole = finer.dtype.kind in "iu"
    # Twice the sum of eight values of 16 bits fits 32 bits.
    total: Array = np.zeros(_shape(finer, step), np.int32 if whole else np.float64)
    count = np.zeros(total.shape[-3:], np.int32)
    for part in _parts(finer, step):
        z, y, x = part.shape[-3:]
        total[..., :z, :y, :x] += part
        count[:z, :y, :x] += 1
    mean: Array = (2 * total + count) // (2 * count) if whole else total / count
    return mean.astype(finer.dtype)


def mode_level(finer: Array, step: Zyx) -> Array:
    """Most frequent of every `step` values; the smallest of those that are equally frequent.

    Parameters
    ----------
    finer : (z, y, x) integers
        Begins at a multiple of `step`.
    step
        Voxels (z, y, x) that become one; 1 or 2 each.

    Returns
    -------
    (ceil(z / step), …) of the same dtype
    """
    best = np.empty(_shape(finer, step), finer.dtype)
    _most_frequent(np.ascontiguousarray(finer), *step, best)
    return best


@njit(cache=True)
def _most_frequent(finer: Array, sz: int, sy: int, sx: int, best: Array) -> None:
    depth, height, width = finer.shape
    for z, y, x in np.ndindex(best.shape):
        z1, y1 = min(z * sz + sz, depth), min(y * sy + sy, height)
        x1 = min(x * sx + sx, width)
        winner, most = finer[z * sz, y * sy, x * sx], 0
        for cz in range(z * sz, z1):
            for cy in range(y * sy, y1):
                for cx in range(x * sx, x1):
                    candidate, votes = finer[cz, cy, cx], 0
                    for vz in range(z * sz, z1):
                        for vy in range(y * sy, y1):
                            for vx in range(x * sx, x1):
                                votes += finer[vz, vy, vx] == candidate
                    if votes > most or (votes == most and candidate < winner):
                        winner, most = candidate, votes
        best[z, y, x] = winner


def _parts(finer: Array, step: Zyx) -> Iterator[Array]:
    """The first voxels of all cells of `step`, the second ones, …: each a strided view."""
    for z, y, x in itertools.product(*(range(s) for s in step)):
        part = finer[..., z :: step[0], y :: step[1], x :: step[2]]
        if part.size:
            yield part


def _shape(finer: Array, step: Zyx) -> tuple[int, ...]:
    return (*finer.shape[:-3], *level_shape(finer.shape[-3:], step))
