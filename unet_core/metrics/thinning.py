"""Objects of a section with borders thinned to about one pixel, by the exact rule of ISBI 2012."""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

Labels2d = npt.NDArray[np.int32]
Mask2d = npt.NDArray[np.bool_]


def components(values: npt.NDArray[Any]) -> Labels2d:
    """4-connected components of equal non-zero value in a section.

    Parameters
    ----------
    values : (y, x) integers or bool

    Returns
    -------
    (y, x) int32
        1..n in raster order of the first pixel; 0 where `values` is 0.
    """
    return _components(np.ascontiguousarray(values))  # type: ignore[no-any-return]


def thin_borders(inside: Mask2d) -> Labels2d:
    """Label the objects of a section, and grow them until the borders are about 1 px wide.

    Objects are the 4-connected components, ids 1..n in raster order. See `grow_labels`.

    Parameters
    ----------
    inside : (y, x) bool
        Interior of the objects. If there is none, the whole section is one object.

    Returns
    -------
    (y, x) int32
        0 on the dams.
    """
    return grow_labels(components(inside))


def grow_labels(labels: Labels2d) -> Labels2d:
    """Grow the objects of a section over the borders between them, until about 1 px is left.

    They grow in one pass of a first-in-first-out queue; a pixel that two of them reach becomes a
    dam. The order is that of the challenge's own program (columns outer at the start; neighbours
    left, up, right, down), so scores are the same to the last bit.

    Parameters
    ----------
    labels : (y, x) int32
        Objects, which may touch; 0 is border. If there is no object, the whole section is one.

    Returns
    -------
    (y, x) int32
        The same ids; 0 on the dams.
    """
    if labels.size and not labels.any():
        return np.ones(labels.shape, np.int32)
    grown = labels.astype(np.int32, order="C")
    _grow(grown)
    return grown


@njit(cache=True)
def _root(parent: Any, node: int) -> int:
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


@njit(cache=True)
def _components(values: Any) -> Any:
    height, width = values.shape
    labels = np.zeros((height, width), np.int32)
    # A new provisional id needs a pixel whose left neighbour differs, or is 0.
    parent = np.zeros(height * width + 1, np.int32)
    n = 0
    for y in range(height):
        for x in range(width):
            value = values[y, x]
            if value == 0:
                continue
            left = labels[y, x - 1] if x > 0 and values[y, x - 1] == value else 0
            up = labels[y - 1, x] if y > 0 and values[y - 1, x] == value else 0
            if left == 0 and up == 0:
                n += 1
                parent[n] = n
                labels[y, x] = n
            elif left == 0 or up == 0 or left == up:
                labels[y, x] = max(left, up)
            else:
                a, b = _root(parent, left), _root(parent, up)
                # The smaller id was seen first: the root stays the first in raster order.
                parent[max(a, b)] = min(a, b)
                labels[y, x] = min(a, b)
    final = np.zeros(n + 1, np.int32)
    count = 0
    for i in range(1, n + 1):
        root = _root(parent, i)
        if root == i:
            count += 1
            final[i] = count
        else:
            final[i] = final[root]
    for y in range(height):
        for x in range(width):
            labels[y, x] = final[labels[y, x]]
    return labels


@njit(cache=True)
def _grow(labels: Any) -> None:
    """Flood the zeros of `labels` in place; ids must be > 0, dams end as 0."""
    height, width = labels.shape
    untouched, waiting, dam, outside = 0, -1, -2, -3
    row = width + 2
    # With a frame around no neighbour needs to be asked whether it exists.
    flat = np.full((height + 2) * row, outside, np.int32)
    for y in range(height):
        flat[(y + 1) * row + 1 : (y + 1) * row + 1 + width] = labels[y]
    steps = (-1, -row, 1, row)
    queue = np.empty(height * width, np.int64)
    end = 0
    for x in range(1, width + 1):
        for p in range(row + x, (height + 1) * row, row):
            if flat[p] == untouched:
                for step in steps:
                    if flat[p + step] > 0:
                        flat[p] = waiting
                        queue[end] = p
                        end += 1
                        break
    start = 0
    while start < end:
        p = queue[start]
        start += 1
        own, from_dam = waiting, False
        for step in steps:
            other = flat[p + step]
            if other > 0:
                # A dam that was only inherited gives way to a label.
                if own == waiting or (own == dam and from_dam):
                    own = other
                elif own > 0 and own != other:
                    own, from_dam = dam, False
            elif other == dam:
                if own == waiting:
                    own, from_dam = dam, True
            elif other == untouched:
                flat[p + step] = waiting
                queue[end] = p + step
                end += 1
        flat[p] = own
    for y in range(height):
        for x in range(width):
            labels[y, x] = max(flat[(y + 1) * row + 1 + x], 0)
