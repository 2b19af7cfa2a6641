"""Where the voxels of one block drain to, and what parts the fragments: the compiled loops."""

import numpy as np
from numba import njit

from unet_core.geometry import Zyx
from unet_core.ops.heights import TOP, HeightArray
from unet_core.ops.union import IdArray, IntArray


@njit(cache=True)
def _lowest(heights: HeightArray, z: int, y: int, x: int, in_depth: bool) -> tuple[int, int, int]:
    """Step (z, y, x) to the lowest of a voxel, which is not OUTSIDE, and its neighbours."""
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
def drain(
    heights: HeightArray, start: Zyx, stop: Zyx, origin: Zyx, shape: Zyx, in_depth: bool
) -> tuple[IdArray, IntArray, IntArray, HeightArray, IntArray]:
    """Fragments of the voxels ``start..stop`` of `heights`, whose first voxel is at `origin`.

    Voxels that are OUTSIDE are in none: nothing drains there, for all others are lower.
    """
    depth, height, width = stop[0] - start[0], stop[1] - start[1], stop[2] - start[2]
    parent = np.arange(depth * height * width)
    leaves = np.full(parent.size, -1, np.int64)
    here = 0
    for z in range(start[0], stop[0]):
        for y in range(start[1], stop[1]):
            for x in range(start[2], stop[2]):
                if heights[z, y, x] > TOP:
                    parent[here] = -1
                    here += 1
                    continue
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
    outlet = np.empty(count, np.int64)
    here = 0
    for z in range(start[0], stop[0]):
        for y in range(start[1], stop[1]):
            row = ((z + origin[0]) * shape[1] + y + origin[1]) * shape[2] + origin[2]
            for x in range(start[2], stop[2]):
                fragment = np.int64(labels[here]) - 1
                if fragment >= 0:
                    size[fragment] += 1
                    if first[fragment] < 0:
                        first[fragment] = row + x
                    if parent[here] == here:
                        lowest[fragment] = heights[z, y, x]
                        outlet[fragment] = leaves[here]
                here += 1
    return labels.reshape((depth, height, width)), first, size, lowest, outlet


@njit(cache=True)
def _number(parent: IntArray) -> tuple[IdArray, int]:
    """Number trees from 1 in the order of their first members; `parent` then holds the roots.

    Members of no tree have parent -1 and number 0.
    """
    labels = np.zeros(parent.size, np.uint32)
    of_root = np.zeros(parent.size, np.uint32)
    count = 0
    for i in range(parent.size):
        if parent[i] < 0:
            continue
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
def crossed(
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
                        if a == b or a == 0 or b == 0:
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
