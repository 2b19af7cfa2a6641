"""Pieces that meet at faces become one id per object, in raster order."""

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

IdArray = npt.NDArray[np.uint32]
IntArray = npt.NDArray[np.int64]
ObjectArray = npt.NDArray[np.uint64]


def meeting_pieces(one: IdArray, other: IdArray) -> IntArray:
    """Pairs of pieces that touch across a face, each once.

    Parameters
    ----------
    one, other : (a, b) uint32
        Piece numbers on the two sides of the face; 0 is outside.

    Returns
    -------
    (n, 2) int64
        Numbers of the piece in `one` and of that in `other`, ascending.
    """
    both = (one != 0) & (other != 0)
    keys = np.unique((one[both].astype(np.uint64) << np.uint64(32)) | other[both])
    return np.stack([keys >> np.uint64(32), keys & np.uint64(2**32 - 1)], axis=1).astype(np.int64)


def unite(count: int, links: IntArray) -> tuple[IntArray, int]:
    """Sets of pieces that are linked, directly or through others.

    Parameters
    ----------
    count
        Pieces 0..count-1 of all blocks.
    links : (m, 2) int64
        Pairs of pieces of one object.

    Returns
    -------
    (count,) int64, int
        Number of the set of each piece, from 0 in no promised order; number of sets.
    """
    if count == 0:
        return np.zeros(0, np.int64), 0
    ones = np.ones(len(links), np.int32)
    graph = coo_array((ones, (links[:, 0], links[:, 1])), shape=(count, count))
    sets, member = connected_components(graph, directed=False)
    return member.astype(np.int64), int(sets)


def number_objects(
    first: IntArray, size: IntArray, member: IntArray, sets: int, *, min_size: int
) -> tuple[ObjectArray, int]:
    """One id per object, 1..n in raster order of the objects' first voxels.

    Parameters
    ----------
    first, size : (pieces,) int64
        Smallest C-order index in the volume, and voxels, of every piece of all blocks.
    member : (pieces,) int64
        The set each piece belongs to (`unite`).
    sets
        Number of sets.
    min_size
        Objects with fewer voxels, all their pieces together, become 0.

    Returns
    -------
    (pieces,) uint64, int
        The object of each piece, 0 where it is too small; number of objects kept.
    """
    firsts = np.full(sets, np.iinfo(np.int64).max)
    np.minimum.at(firsts, member, first)
    sizes = np.zeros(sets, np.int64)
    np.add.at(sizes, member, size)
    kept = np.flatnonzero(sizes >= min_size)
    kept = kept[np.argsort(firsts[kept])]
    numbers = np.zeros(sets, np.uint64)
    numbers[kept] = np.arange(1, len(kept) + 1, dtype=np.uint64)
    return numbers[member], len(kept)
