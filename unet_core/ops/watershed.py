"""Watershed whose basins are the same for every blocking.

Voxels are ordered by (height, index in the volume). Every voxel drains to the lowest of itself and
its face neighbours; what drains to the same minimum is a basin. Within a block this gives
fragments: basins, or parts of basins that drain out of the block at one voxel. Fragments are
joined to basins through those drains, and basins to objects across saddles, lowest saddle first,
while the shallower of two is less deep than asked (Kruskal). Drains, sizes, minima and saddles of
fragments add up over blocks exactly, so the objects are those of the whole volume.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit

from unet_core.config.result import Scope
from unet_core.geometry import Box, Zyx
from unet_core.ops.drains import crossed, drain
from unet_core.ops.heights import TOP, HeightArray
from unet_core.ops.union import IdArray, IntArray, ObjectArray, number_objects, unite


@dataclass(frozen=True)
class Fragments:
    """What one block knows of its fragments, numbered 1..n in raster order.

    Attributes
    ----------
    first, size : (n,) int64
        Smallest index in the volume (C order) and voxels of each fragment.
    lowest : (n,) uint16
        Height of its lowest voxel.
    drain : (n,) int64
        Index in the volume of the voxel outside of the block it drains to; -1: it has a minimum.
    edges : (m, 2) int64
        Pairs of touching fragments of this block, counted from 0, each once.
    saddles : (m,) uint16
        Per pair the lowest height at which it is crossed: min over touching voxels of the higher.
    """

    first: IntArray
    size: IntArray
    lowest: HeightArray
    drain: IntArray
    edges: IntArray
    saddles: HeightArray


def fragments_of(
    heights: HeightArray, box: Box, core: Box, *, shape: Zyx, scope: Scope
) -> tuple[IdArray, Fragments]:
    """Fragments of one block.

    Parameters
    ----------
    heights : (z, y, x) uint16, or int32 where some are OUTSIDE
        Of `box`: the block and one voxel around it, as far as the volume goes (`seen_by`).
    core
        The block.
    shape
        Of the volume.
    scope
        section: 4 neighbours in the section. volume: 6 neighbours.

    Returns
    -------
    (z, y, x) uint32, Fragments
        Fragment of every voxel of `core`, from 1; 0 where it is OUTSIDE.
    """
    inner = core.relative_to(box.start)
    labels, first, size, lowest, outlet = drain(
        np.ascontiguousarray(heights), inner.start, inner.stop, box.start, shape, scope == "volume"
    )
    own = np.ascontiguousarray(heights[inner.slices])
    one, other, saddles = crossed(labels, own, len(first), scope == "volume")
    edges = np.stack([one, other], axis=1)
    return labels, Fragments(first, size, lowest, outlet, edges, saddles)


def seen_by(core: Box, *, shape: Zyx, scope: Scope) -> Box:
    """The part of the volume whose heights decide the fragments of the block `core`."""
    return core.grow((int(scope == "volume"), 1, 1)).clip(shape)


def drained(drain: IntArray, face: IdArray, layer: Box, shape: Zyx) -> IntArray:
    """Fragments that drain into the outermost layer of the next block: (n, 2), from 0.

    Parameters
    ----------
    drain : (n,) int64
        Of the fragments of a block.
    face : (a, b) uint32
        Fragments of the next block in its layer.
    layer
        That layer, one voxel thick, in a volume of `shape`.
    """
    leaving = np.flatnonzero(drain >= 0)
    places = np.stack(np.unravel_index(drain[leaving], shape), axis=1)
    inside = ((places >= layer.start) & (places < layer.stop)).all(axis=1)
    z, y, x = (places[inside] - layer.start).T
    into = face.reshape(layer.shape)[z, y, x].astype(np.int64) - 1
    return np.stack([leaving[inside], into], axis=1)


def crossings(
    one: IdArray, other: IdArray, height_one: HeightArray, height_other: HeightArray
) -> tuple[IntArray, HeightArray]:
    """Pairs of fragments that touch across a face, from 0, and the saddle of each.

    All arrays are (a, b): fragments and heights on the two sides of the face.
    """
    both = (one > 0) & (other > 0)
    keys = (one[both].astype(np.int64) << 32) | other[both]
    heights = np.maximum(height_one[both], height_other[both])
    order = np.lexsort((heights, keys))
    keys, start = np.unique(keys[order], return_index=True)
    pairs = np.stack([keys >> 32, keys & (2**32 - 1)], axis=1) - 1
    return pairs, heights[order][start]


def merge_fragments(
    fragments: Fragments, links: IntArray, *, depth: int, min_size: int
) -> tuple[ObjectArray, int]:
    """The object of every fragment.

    Parameters
    ----------
    fragments
        Those of all blocks, one after the other; edges also across faces.
    links : (n, 2) int64
        Fragments that drain into others.
    depth
        Basins are joined where ``saddle - higher minimum < depth`` (steps of height, >= 1).
    min_size
        Objects with fewer voxels then join the neighbour across their lowest saddle; one without
        a neighbour becomes 0.

    Returns
    -------
    (n,) uint64, int
        Ids 1..n in raster order of the objects' first voxels; 0 for objects in which no voxel has
        any probability; number of objects.
    """
    member, sets = unite(len(fragments.first), links)
    firsts, sizes = np.full(sets, np.iinfo(np.int64).max), np.zeros(sets, np.int64)
    lowest = np.full(sets, TOP, np.uint16)
    np.minimum.at(firsts, member, fragments.first)
    np.add.at(sizes, member, fragments.size)
    np.minimum.at(lowest, member, fragments.lowest)
    rank = np.empty(sets, np.int64)
    rank[np.argsort(firsts)] = np.arange(sets)  # ids that no blocking changes: ties go by them
    one, other, saddles = _sorted_edges(rank[member][fragments.edges], fragments.saddles)
    by_rank = np.argsort(rank)
    merged = _merge(lowest[by_rank], sizes[by_rank], one, other, saddles, depth, min_size)
    _, merged = np.unique(merged[rank], return_inverse=True)
    bottom = np.full(sets, TOP, np.uint16)
    np.minimum.at(bottom, merged, lowest)
    sizes[bottom[merged] == TOP] = -1  # below any min_size
    kept = int(merged.max(initial=-1)) + 1
    objects, count = number_objects(firsts, sizes, merged, kept, min_size=min_size)
    return objects[member], count


def watershed(
    heights: HeightArray, *, scope: Scope, depth: int, min_size: int
) -> tuple[ObjectArray, int]:
    """Objects of a volume that is in memory, and their number; see `merge_fragments`.

    Parameters
    ----------
    heights : (z, y, x) uint16, or int32 where some are OUTSIDE
        Low inside objects.
    """
    labels, fragments = whole_fragments(heights, scope)
    none = np.zeros((0, 2), np.int64)
    objects, count = merge_fragments(fragments, none, depth=depth, min_size=min_size)
    return np.append(np.uint64(0), objects)[labels], count


def whole_fragments(heights: HeightArray, scope: Scope) -> tuple[IdArray, Fragments]:
    """Fragments of a volume that is in memory: its basins."""
    z, y, x = heights.shape
    whole = Box((0, 0, 0), (z, y, x))
    return fragments_of(heights, whole, whole, shape=(z, y, x), scope=scope)


def _sorted_edges(edges: IntArray, saddles: HeightArray) -> tuple[IntArray, IntArray, HeightArray]:
    edges = np.sort(edges, axis=1)
    apart = edges[:, 0] != edges[:, 1]
    edges, saddles = edges[apart], saddles[apart]
    order = np.lexsort((edges[:, 1], edges[:, 0], saddles))
    return edges[order, 0], edges[order, 1], saddles[order]


@njit(cache=True)
def _merge(
    lowest: HeightArray,
    size: IntArray,
    one: IntArray,
    other: IntArray,
    saddles: HeightArray,
    depth: int,
    min_size: int,
) -> IntArray:
    """Representative of each basin: joined by depth, then the small across their lowest saddle."""
    parent = np.arange(lowest.size)
    lowest, size = lowest.astype(np.int64), size.copy()
    for by_size in (False, True):
        for edge in range(one.size):
            a, b = np.int64(one[edge]), np.int64(other[edge])
            while parent[a] != a:
                parent[a] = parent[parent[a]]
                a = parent[a]
            while parent[b] != b:
                parent[b] = parent[parent[b]]
                b = parent[b]
            if a == b:
                continue
            if by_size:
                joined = size[a] < min_size or size[b] < min_size
            else:
                joined = np.int64(saddles[edge]) - max(lowest[a], lowest[b]) < depth
            if joined:
                root, leaf = min(a, b), max(a, b)
                parent[leaf] = root
                lowest[root] = min(lowest[root], lowest[leaf])
                size[root] += size[leaf]
    for i in range(parent.size):
        parent[i] = parent[parent[i]]
    return parent
