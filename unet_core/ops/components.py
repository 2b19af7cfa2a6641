"""Connected components of one block, and what it hands to its neighbours."""

from dataclasses import dataclass
from typing import Any, TypeVar

import cc3d
import numpy as np
import numpy.typing as npt
from numba import njit

from unet_core.config.result import Scope
from unet_core.geometry import Zyx

IdArray = npt.NDArray[np.uint32]
Number = TypeVar("Number", bound=np.generic)
IntArray = npt.NDArray[np.int64]
MaskArray = npt.NDArray[np.bool_] | npt.NDArray[np.uint8]

FACES = {"section": ("y0", "y1", "x0", "x1"), "volume": ("z0", "z1", "y0", "y1", "x0", "x1")}
"""Sides of a block over which objects go on: first (0) and last (1) layer along an axis."""


@dataclass(frozen=True)
class Pieces:
    """The parts of objects that lie in one block, numbered 1..n in raster order.

    Attributes
    ----------
    first : (n,) int64
        Smallest index, in C order of the whole volume, of the voxels of each piece.
    size : (n,) int64
        Voxels of each piece.
    faces
        Side (`FACES`) to the piece numbers of the block's outermost layer there; 0 is outside.
    """

    first: IntArray
    size: IntArray
    faces: dict[str, IdArray]


def label_block(mask: MaskArray, scope: Scope) -> tuple[IdArray, int]:
    """Number the components of a mask 1..n, in raster order of their first voxels.

    Parameters
    ----------
    mask : (z, y, x) bool or uint8
        Non-zero is inside.
    scope
        section: 4-connected, sections apart. volume: 6-connected.

    Returns
    -------
    (z, y, x) uint32, int
        0 is outside; number of components.
    """
    # As uint8 in C order: cc3d 4 labels background of boolean images with an odd number of
    # columns, and numbers components of Fortran arrays in another order.
    solid = np.ascontiguousarray(mask if mask.dtype == np.bool_ else mask != 0).view(np.uint8)
    if solid.size == 0:
        return np.zeros(solid.shape, np.uint32), 0
    if scope == "volume":
        found, n = cc3d.connected_components(
            solid, connectivity=6, return_N=True, out_dtype=np.uint32
        )
        return np.ascontiguousarray(found).astype(np.uint32, copy=False), int(n)
    labels, count = np.zeros(solid.shape, np.uint32), 0
    for section, out in zip(solid, labels, strict=True):
        found, n = cc3d.connected_components(
            section, connectivity=4, return_N=True, out_dtype=np.uint32
        )
        np.add(found, np.uint32(count), out=out, where=section != 0)
        count += int(n)
    return labels, count


def label_whole(mask: MaskArray, scope: Scope, min_size: int) -> tuple[IdArray, int]:
    """Components of a volume in memory, without those of fewer than `min_size` voxels.

    Returns
    -------
    (z, y, x) uint32, int
        Ids 1..n in raster order, 0 outside; n.
    """
    labels, count = label_block(mask, scope)
    _, size = _first_and_size(labels, count, (0, 0, 0), labels.shape)
    kept = np.append(False, size >= min_size)
    table = np.where(kept, np.cumsum(kept), 0).astype(np.uint32)
    return table[labels], int(kept.sum())


def inside(stored: npt.NDArray[Any], threshold: float) -> npt.NDArray[np.bool_]:
    """Where a stored probability is above a threshold.

    Parameters
    ----------
    stored : (...) uint8 in 0..255 or float in 0..1
    threshold
        In 0..1; compared strictly, in float64, with the value that is stored.
    """
    if stored.dtype == np.uint8:
        above: npt.NDArray[np.bool_] = (np.arange(256) / 255 > threshold)[stored]
        return above
    # As a numpy float64: a plain float would be rounded to the array's half precision first.
    return np.asarray(stored > np.float64(threshold))


def pieces_of(labels: IdArray, count: int, *, start: Zyx, shape: Zyx, scope: Scope) -> Pieces:
    """What a block must tell of its labels so that they can be joined with those around.

    Parameters
    ----------
    labels : (z, y, x) uint32
        Piece numbers 1..count, 0 outside.
    start, shape
        Where the block begins in the volume; shape of the volume.
    """
    first, size = _first_and_size(np.ascontiguousarray(labels), count, start, shape)
    return Pieces(first, size, faces_of(labels, scope))


def faces_of(values: npt.NDArray[Number], scope: Scope) -> dict[str, npt.NDArray[Number]]:
    """Copies of the outermost layers of a (z, y, x) block, by side (`FACES`)."""
    return {
        side: np.take(values, -1 if side[1] == "1" else 0, axis="zyx".index(side[0]))
        for side in FACES[scope]
    }


@njit(cache=True)
def _first_and_size(
    labels: IdArray, count: int, start: Zyx, shape: Zyx
) -> tuple[IntArray, IntArray]:
    first = np.full(count, -1, np.int64)
    size = np.zeros(count, np.int64)
    for z in range(labels.shape[0]):
        for y in range(labels.shape[1]):
            row = ((z + start[0]) * shape[1] + y + start[1]) * shape[2] + start[2]
            for x in range(labels.shape[2]):
                piece = np.int64(labels[z, y, x]) - 1
                if piece >= 0:
                    size[piece] += 1
                    if first[piece] < 0:
                        first[piece] = row + x
    return first, size
