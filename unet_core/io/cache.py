"""Decoded chunks kept in memory, so that blocks whose halos overlap do not decode them again."""

import itertools
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from threading import Lock

import numpy as np

from unet_core.geometry import Box, Zyx
from unet_core.io.arrays import Array, ZarrArray, chunk_of, mirrored, read


class Cache:
    """Reads boxes of one array and keeps the chunks decoded last, `most_bytes` of them at most.

    Safe to share between threads of one process, which then read one at a time: no chunk is
    decoded twice because two of them asked at once. What is kept never changes what is read.

    Parameters
    ----------
    most_bytes
        Of decoded chunks that are kept between reads; 0 keeps none.
        `traversal.walk` says how many a volume needs.
    """

    def __init__(self, array: ZarrArray, *, most_bytes: int) -> None:
        self._array = array
        self._most_bytes = most_bytes
        self._chunks: OrderedDict[Zyx, Array] = OrderedDict()  # by place in the grid, oldest first
        self._lock = Lock()
        self._leading: tuple[int, ...] = array.shape[:-3]
        self._volume = Box((0, 0, 0), _zyx(array.shape[-3:]))
        self._chunk = chunk_of(array)
        self.kept_bytes = 0
        """Decoded bytes in memory now."""
        self.decoded_bytes = 0
        """Bytes of all chunks decoded so far."""
        self.needed_bytes = 0
        """Bytes of all boxes read so far."""

    def read(self, box: Box) -> Array:
        """The voxels of `box`, which lies in the volume: (..., z, y, x).

        Raises
        ------
        StoreError
            If a chunk of it cannot be read.
        """
        out = np.empty((*self._leading, *box.shape), dtype=self._array.dtype)
        with self._lock:
            missing = set()
            for cell in self._cells(box):
                if cell in self._chunks:
                    self._chunks.move_to_end(cell)
                    _copy(self._chunks[cell], self._box(cell), out, box)
                else:
                    missing.add(cell)
            for first, last in rectangles(missing):
                whole = Box(self._box(first).start, self._box(last).stop)
                voxels = read(self._array, whole)
                self.decoded_bytes += voxels.nbytes
                _copy(voxels, whole, out, box)
                self._keep(voxels, whole)
            self.needed_bytes += out.nbytes
        return out

    def read_mirrored(self, box: Box) -> Array:
        """The voxels of `box` as `arrays.read_mirrored` gives them.

        Raises
        ------
        StoreError
            If a chunk of it cannot be read.
        """
        return mirrored(self.read, box, _zyx(self._array.shape[-3:]))

    def _keep(self, voxels: Array, box: Box) -> None:
        for cell in self._cells(box):
            place = self._box(cell).relative_to(box.start)
            chunk = voxels[(..., *place.slices)]
            if chunk.nbytes > self._most_bytes:
                continue
            # A copy: a view would keep all that was read with it.
            self._chunks[cell] = chunk.copy()
            self.kept_bytes += chunk.nbytes
            while self.kept_bytes > self._most_bytes:
                self.kept_bytes -= self._chunks.popitem(last=False)[1].nbytes

    def _cells(self, box: Box) -> Iterator[Zyx]:
        """Places in the grid of the chunks that `box` touches, in C order."""
        axes = (
            range(a // c, -(-b // c))
            for a, b, c in zip(box.start, box.stop, self._chunk, strict=True)
        )
        return map(_zyx, itertools.product(*axes))

    def _box(self, cell: Zyx) -> Box:
        start = _zyx(i * c for i, c in zip(cell, self._chunk, strict=True))
        return Box(
            start, _zyx(a + c for a, c in zip(start, self._chunk, strict=True))
        ).intersection(self._volume)


def rectangles(cells: Iterable[Zyx]) -> list[tuple[Zyx, Zyx]]:
    """Rectangles of grid cells, as (first, last) cell, that hold each of `cells` once and no other.

    Few, not fewest: each grows from the first cell left as far as it can along x, then y, then z.
    """
    left = set(cells)
    found = []
    for first in sorted(left):
        if first not in left:
            continue
        last = first
        for axis in (2, 1, 0):
            while (face := _face(first, last, axis)) <= left:
                last = max(face)
        held = set(_between(first, last))
        left -= held
        found.append((first, last))
    return found


def _face(first: Zyx, last: Zyx, axis: int) -> set[Zyx]:
    """Cells by which the rectangle `first`..`last` grows along `axis`."""
    lows, highs = list(first), list(last)
    lows[axis] = highs[axis] = last[axis] + 1
    return set(_between(_zyx(lows), _zyx(highs)))


def _between(first: Zyx, last: Zyx) -> Iterator[Zyx]:
    axes = (range(a, b + 1) for a, b in zip(first, last, strict=True))
    return map(_zyx, itertools.product(*axes))


def _copy(source: Array, source_box: Box, target: Array, target_box: Box) -> None:
    """Copy the voxels that both arrays hold, each of which covers its box."""
    shared = source_box.intersection(target_box)
    into = shared.relative_to(target_box.start).slices
    target[(..., *into)] = source[(..., *shared.relative_to(source_box.start).slices)]


def _zyx(values: Iterable[int]) -> Zyx:
    z, y, x = values
    return int(z), int(y), int(x)
