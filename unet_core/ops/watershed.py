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
    heights : (z, y, x) uint16
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
        Fragment of every voxel of `core`, from 1.
    """
    inner = core.relative_to(box.start)
    labels, first, size, lowest, drain = _drain(
        np.ascontiguousarray(heights), inner.start, inner.stop, box.start, shape, scope == "volume"
    )
    own = np.ascontiguousarray(heights[inner.slices])
    one, other, saddles = _saddles(labels, own, len(first), scope == "volume")
    edges = np.stack([one, other], axis=1)
    return labels, Fragments(first, size, lowest, drain, edges, saddles)


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
    keys = ((one.astype(np.int64) << 32) | other).ravel()
    heights = np.maximum(height_one, height_other).ravel()
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
    heights : (z, y, x) uint16
        Low inside objects.
    """
    labels, fragments = whole_fragments(heights, scope)
    none = np.zeros((0, 2), np.int64)
    objects, count = merge_fragments(fragments, none, depth=depth, min_size=min_size)
    return objects[labels - 1], count


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
def _lowest(heights: HeightArray, z: int, y: int, x: int, in_depth: bool) -> tuple[int, int, int]:
    """Step (z, y, x) to the lowest of a voxel and its neighbours."""
    # In C order, with <: of equally low voxels the one with the smallest index wins.
    low, step = np.int64(TOP + 1), (0, 0, 0)
    if in_depth and z > 0:
        low, step = np.int64(heights[z - 1, y, x]), (-1, 0, 0)
    if y > 0 and heights[z, y - 1, x] < low:
        low, step = np.int64(heights[z, y - 1, x]), (0, -1, 0)
    if x > 0 and heights[z, y, x - 1] < low:
        low, step = np.int64(heights[z, y, x - 1]), (0, 0, -1)
    if heights[z, y, x] < low:
        low, step = np.int64(heights[z, y, x]), (0, 0, 0)
    if x + 1 < heights.shape[2] and heights[z, y, x + 1] < low:
        low, step = np.int64(heights[z, y, x + 1]), (0, 0, 1)
    if y + 1 < heights.shape[1] and heights[z, y + 1, x] < low:
        low, step = np.int64(heights[z, y + 1, x]), (0, 1, 0)
    if in_depth and z + 1 < heights.shape[0] and heights[z + 1, y, x] < low:
        step = (1, 0, 0)
    return step


@njit(cache=True)
def _drain(
    heights: HeightArray, start: Zyx, stop: Zyx, origin: Zyx, shape: Zyx, in_depth: bool
) -> tuple[IdArray, IntArray, IntArray, HeightArray, IntArray]:
    """Fragments of the voxels ``start..stop`` of `heights`, whose first voxel is at `origin`."""
    depth, height, width = stop[0] - start[0], stop[1] - start[1], stop[2] - start[2]
    parent = np.arange(depth * height * width)
    leaves = np.full(parent.size, -1, np.int64)
    here = 0
    for z in range(start[0], stop[0]):
        for y in range(start[1], stop[1]):
            for x in range(start[2], stop[2]):
                dz, dy, dx = _lowest(heights, z, y, x, in_depth)
                nz, ny, nx = z + dz, y + dy, x + dx
                inside = start[0] <= nz < stop[0]
                inside = inside and start[1] <= ny < stop[1] and start[2] <= nx < stop[2]
                if inside:
                    parent[here] = here + (dz * height + dy) * width + dx
                else:
                    row = (nz + origin[0]) * shape[1] + ny + origin[1]
                    leaves[here] = row * shape[2] + nx + origin[2]
                here += 1
    labels, count = _number(parent)
    first = np.full(count, -1, np.int64)
    size = np.zeros(count, np.int64)
    lowest = np.empty(count, np.uint16)
    drain = np.empty(count, np.int64)
    here = 0
    for z in range(start[0], stop[0]):
        for y in range(start[1], stop[1]):
            row = ((z + origin[0]) * shape[1] + y + origin[1]) * shape[2] + origin[2]
            for x in range(start[2], stop[2]):
                fragment = np.int64(labels[here]) - 1
                size[fragment] += 1
                if first[fragment] < 0:
                    first[fragment] = row + x
                if parent[here] == here:
                    lowest[fragment] = heights[z, y, x]
                    drain[fragment] = leaves[here]
                here += 1
    return labels.reshape((depth, height, width)), first, size, lowest, drain


@njit(cache=True)
def _number(parent: IntArray) -> tuple[IdArray, int]:
    """Number trees from 1 in the order of their first members; `parent` then holds the roots."""
    labels = np.zeros(parent.size, np.uint32)
    of_root = np.zeros(parent.size, np.uint32)
    count = 0
    for i in range(parent.size):
        root = i
        while parent[root] != root:
            root = parent[root]
        j = i
        while parent[j] != root:
            above = parent[j]
            parent[j] = root
            j = above
        if of_root[root] == 0:
            count += 1
            of_root[root] = count
        labels[i] = of_root[root]
    return labels, count


@njit(cache=True)
def _saddles(
    labels: IdArray, heights: HeightArray, count: int, in_depth: bool
) -> tuple[IntArray, IntArray, HeightArray]:
    """Touching pairs (from 0, lower first, in order) and the lowest crossing of each."""
    depth, height, width = labels.shape
    steps = ((0, 0, 1), (0, 1, 0), (1, 0, 0))
    used = 3 if in_depth else 2
    begin = np.zeros(count + 2, np.int64)
    others = np.empty(0, np.int64)
    saddles = np.empty(0, np.uint16)
    for writing in (False, True):  # count the crossings of each lower label, then fill them in
        for k in range(used):
            dz, dy, dx = steps[k]
            for z in range(depth - dz):
                for y in range(height - dy):
                    for x in range(width - dx):
                        a, b = labels[z, y, x], labels[z + dz, y + dy, x + dx]
                        if a == b:
                            continue
                        low = np.int64(min(a, b)) - 1
                        if writing:
                            place = begin[low + 1]
                            others[place] = np.int64(max(a, b)) - 1
                            saddles[place] = max(heights[z, y, x], heights[z + dz, y + dy, x + dx])
                            begin[low + 1] += 1
                        else:
                            begin[low + 2] += 1
        if not writing:
            begin = np.cumsum(begin)
            others = np.empty(begin[-1], np.int64)
            saddles = np.empty(begin[-1], np.uint16)
    one = np.empty(others.size, np.int64)
    seen = np.full(count, -1, np.int64)  # where the pair of the current label is kept
    kept = 0
    for label in range(count):
        own = kept
        for crossing in range(begin[label], begin[label + 1]):
            pair = seen[others[crossing]]
            if pair >= own:
                saddles[pair] = min(saddles[pair], saddles[crossing])
            else:
                seen[others[crossing]] = kept
                one[kept], others[kept], saddles[kept] = label, others[crossing], saddles[crossing]
                kept += 1
    return one[:kept].copy(), others[:kept].copy(), saddles[:kept].copy()


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
