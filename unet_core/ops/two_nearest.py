"""Distances to the nearest and to the second nearest of many objects, exact up to a bound."""

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from unet_core.errors import ConfigError
from unet_core.geometry import IGNORED_ID

# uint32 in every comparison: numba turns a plain int constant against uint32 into a slower int64.
_IGNORED = np.uint32(IGNORED_ID)
_NONE = np.uint32(0)


def reach_vx(bound: float, spacing: float) -> int:
    """Voxels along one axis that hold every voxel within `bound`, both in in-plane pixels.

    This is the halo that makes `two_nearest` of a block equal to that of the whole volume.
    """
    return math.ceil(bound / spacing)


def two_nearest(
    ids: NDArray[np.uint32],
    wanted: NDArray[np.bool_],
    *,
    bound: float,
    z_spacing: float | None = None,
) -> NDArray[np.float32]:
    """Squared distances to the nearest and second nearest distinct object, bounded.

    Distances are Euclidean, from voxel centre to voxel centre; within an object the nearest is
    the object itself, at 0. Two labels per voxel are enough in a separable transform: a label
    that two others beat at (z, y', x) is beaten by them at (z, y, x) too, since both sides grow
    by (y - y')^2.

    Parameters
    ----------
    ids : (z, y, x) uint32
        One id per object; 0 and `IGNORED_ID` are no objects.
    wanted : (z, y, x) bool
        Where the distances are needed; elsewhere the result is infinite.
    bound
        In-plane pixels, >= 0; objects farther than this are not seen.
    z_spacing
        Distance of two sections in in-plane pixels; None measures within each section.

    Returns
    -------
    (2, z, y, x) float32
        Squared distances in in-plane pixels, ascending; infinite where no object (no second
        object) is within `bound`.
    """
    if z_spacing is not None and not z_spacing > 0:
        raise ConfigError(
            f"the distance of two sections must be > 0 in-plane pixels, got {z_spacing}; set "
            "voxel_size_nm in the volume sheet"
        )
    ids = np.ascontiguousarray(ids, np.uint32)
    wanted = np.ascontiguousarray(wanted, np.bool_)
    out = np.full((2, *ids.shape), np.inf, np.float32)
    if not ids.size:
        return out
    limit, reach = np.float32(bound * bound), reach_vx(bound, 1.0)
    if z_spacing is None:
        _per_section(ids, wanted, limit, reach, out)
    else:
        step, depth = np.float32(z_spacing**2), reach_vx(bound, z_spacing)
        _in_volume(ids, wanted, limit, reach, step, depth, out)
    return out


@njit(cache=True, inline="always")
def _keep(d: Any, label: Any, d1: Any, l1: Any, d2: Any, l2: Any) -> Any:
    """The best two of two distinct labels and one more; which of equals is kept cannot matter."""
    if label == l1:
        return min(d, d1), l1, d2, l2
    if d < d1:
        return d, label, d1, l1
    if d < d2:
        return d1, l1, d, label
    return d1, l1, d2, l2


@njit(cache=True)
def _along_row(ids: Any, limit: Any, near: Any, labels: Any) -> None:
    """Best two along one row: (x,) ids -> near (2, x) squared distances, labels (2, x)."""
    n = ids.shape[0]
    l1, l2, p1, p2 = _NONE, _NONE, 0, 0
    for x in range(n):
        label = ids[x]
        if label != _NONE and label != _IGNORED:
            if label != l1:
                l2, p2 = l1, p1
            l1, p1 = label, x
        d1, d2 = np.float32((x - p1) ** 2), np.float32((x - p2) ** 2)
        near[0, x] = d1 if l1 != _NONE and d1 <= limit else np.inf
        near[1, x] = d2 if l2 != _NONE and d2 <= limit else np.inf
        labels[0, x], labels[1, x] = l1, l2
    l1, l2, p1, p2 = _NONE, _NONE, 0, 0
    for x in range(n - 1, -1, -1):
        label = ids[x]
        if label != _NONE and label != _IGNORED:
            if label != l1:
                l2, p2 = l1, p1
            l1, p1 = label, x
        best = near[0, x], labels[0, x], near[1, x], labels[1, x]
        d = np.float32((x - p1) ** 2)
        if l1 != _NONE and d <= limit:
            best = _keep(d, l1, best[0], best[1], best[2], best[3])
            d = np.float32((x - p2) ** 2)
            if l2 != _NONE and d <= limit:
                best = _keep(d, l2, best[0], best[1], best[2], best[3])
        near[0, x], labels[0, x], near[1, x], labels[1, x] = best


@njit(cache=True)
def _across(near: Any, labels: Any, i: int, x: int, limit: Any, step: Any, reach: int) -> Any:
    """Best two at (i, x), seen from the best two of the rows i - reach ... i + reach."""
    n = near.shape[0]
    d1, l1, d2, l2 = near[i, 0, x], labels[i, 0, x], near[i, 1, x], labels[i, 1, x]
    for k in range(1, reach + 1):
        away = np.float32(k * k) * step
        if away >= d2 or away > limit:
            break
        for j in (i - k, i + k):
            if 0 <= j < n:
                d = near[j, 0, x] + away
                if d < d2 and d <= limit:
                    d1, l1, d2, l2 = _keep(d, labels[j, 0, x], d1, l1, d2, l2)
                    d = near[j, 1, x] + away
                    if d < d2 and d <= limit:
                        d1, l1, d2, l2 = _keep(d, labels[j, 1, x], d1, l1, d2, l2)
    return d1, l1, d2, l2


@njit(cache=True)
def _per_section(ids: Any, wanted: Any, limit: Any, reach: int, out: Any) -> None:
    nz, ny, nx = ids.shape
    near = np.empty((ny, 2, nx), np.float32)
    labels = np.empty((ny, 2, nx), np.uint32)
    one = np.float32(1)
    for z in range(nz):
        for y in range(ny):
            _along_row(ids[z, y], limit, near[y], labels[y])
        for y in range(ny):
            for x in range(nx):
                if wanted[z, y, x]:
                    d1, _, d2, _ = _across(near, labels, y, x, limit, one, reach)
                    out[0, z, y, x], out[1, z, y, x] = d1, d2


@njit(cache=True)
def _in_volume(
    ids: Any, wanted: Any, limit: Any, reach: int, step: Any, depth: int, out: Any
) -> None:
    nz, ny, nx = ids.shape
    row_near = np.empty((ny, 2, nx), np.float32)
    row_labels = np.empty((ny, 2, nx), np.uint32)
    near = np.empty((ny, nz, 2, nx), np.float32)
    labels = np.empty((ny, nz, 2, nx), np.uint32)
    one = np.float32(1)
    for z in range(nz):
        for y in range(ny):
            _along_row(ids[z, y], limit, row_near[y], row_labels[y])
        for y in range(ny):
            for x in range(nx):
                d1, l1, d2, l2 = _across(row_near, row_labels, y, x, limit, one, reach)
                near[y, z, 0, x], labels[y, z, 0, x] = d1, l1
                near[y, z, 1, x], labels[y, z, 1, x] = d2, l2
    for y in range(ny):
        for z in range(nz):
            for x in range(nx):
                if wanted[z, y, x]:
                    d1, _, d2, _ = _across(near[y], labels[y], z, x, limit, step, depth)
                    out[0, z, y, x], out[1, z, y, x] = d1, d2
