"""The order in which blocks are read, so that little is decoded again: integer arithmetic alone."""

import itertools
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

from unet_core.geometry import Block, Zyx


@dataclass(frozen=True)
class Walk:
    """Blocks in an order in which those whose halos overlap follow soon on each other."""

    blocks: list[Block]
    """All blocks of the plan, once each."""

    cache_voxels: int
    """Decoded voxels that must be kept in memory between reads for `amplification`."""

    amplification: float
    """Voxels decoded for one that is written, at most: of whole chunks, over all blocks."""


def walk(
    plan: Sequence[Block],
    *,
    shape: Sequence[int],
    chunk: Sequence[int],
    most_voxels: int | None = None,
    at_most: float = 1.2,
    runs: int = 1,
) -> Walk:
    """The order of `plan` that decodes little again, with the smallest cache that does.

    In strips along z whose section (y, x) is some blocks wide and high, each in C order: the
    cache holds one layer of a strip (one row of it where layers share nothing), and only the
    strips' sides are decoded twice. A run that ends with a strip costs nothing more, one that
    ends within a strip what is read before and after that place.

    Parameters
    ----------
    shape
        Of the volume that is read.
    chunk
        Of the array that is read (`io.arrays.chunk_of`).
    most_voxels
        Largest cache; None: any. Where none is large enough for `at_most`, the best that fits.
    at_most
        Amplification above which a larger cache is worth its memory.
    runs
        Equal pieces of the order (the i-th from ``n * i // runs`` on) that are read by processes
        of their own, each with such a cache.
    """
    axes = [_axis(plan, axis, shape[axis], chunk[axis]) for axis in range(3)]
    volume = sum(block.write.size for block in plan)
    z, y, x = axes
    columns = Counter(block.write.start[1:] for block in plan)
    plain = prod(axis.decoded(axis.count) for axis in axes) / volume
    ways = [(0, plain, 1, 1)]
    for high, wide in itertools.product(y.cuts if z.overlaps else [1], x.cuts):
        keep = _kept(axes, high, wide)
        once = z.decoded(1) * y.decoded(high) * x.decoded(wide)
        strips = Counter[tuple[int, int]]()
        for (b, c), count in columns.items():
            strips[y.part(b, high), x.part(c, wide)] += count
        again = _within(strips, runs) * _shared(axes, high, wide)
        ways.append((keep, (once + again) / volume, high, wide))
    fitting = [way for way in ways if most_voxels is None or way[0] <= most_voxels]
    good = [way for way in fitting if way[1] <= at_most]
    least = min(good) if good else min(fitting, key=lambda way: (way[1], way[0]))
    keep, amplification, high, wide = least

    def place(block: Block) -> tuple[int, int, Zyx]:
        _, b, c = block.write.start
        return y.part(b, high), x.part(c, wide), block.write.start

    return Walk(sorted(plan, key=place), keep, amplification)


@dataclass(frozen=True)
class _Axis:
    """The blocks of a plan along one axis: where they start, and the chunks that they read."""

    starts: list[int]
    reads: list[tuple[int, int]]

    @property
    def count(self) -> int:
        return len(self.starts)

    @property
    def overlaps(self) -> bool:
        return self.overlap > 0

    @property
    def overlap(self) -> int:
        """Most voxels that two neighbours both read."""
        return max((max(0, a[1] - b[0]) for a, b in itertools.pairwise(self.reads)), default=0)

    @property
    def cuts(self) -> list[int]:
        """Numbers of parts that differ in the width of the widest, from 1 to one per block."""
        return sorted({-(-self.count // width) for width in range(1, self.count + 1)})

    def part(self, start: int, parts: int) -> int:
        """Which of `parts` parts holds the block that starts at `start`."""
        return bisect_left(self.starts, start) * parts // self.count

    def spans(self, parts: int) -> list[int]:
        """Voxels read for each of `parts` parts."""
        edges = [-(-self.count * i // parts) for i in range(parts + 1)]
        return [self.reads[b - 1][1] - self.reads[a][0] for a, b in itertools.pairwise(edges)]

    def decoded(self, parts: int) -> int:
        return sum(self.spans(parts))


def _axis(plan: Sequence[Block], axis: int, n: int, chunk: int) -> _Axis:
    """Reads are rounded to whole chunks and end with the volume, about which they are mirrored."""
    found = {
        block.write.start[axis]: (
            max(0, block.read.start[axis]) // chunk * chunk,
            min(n, -(-block.read.stop[axis] // chunk) * chunk),
        )
        for block in plan
    }
    starts = sorted(found)
    return _Axis(starts, [found[start] for start in starts])


def _kept(axes: Sequence[_Axis], high: int, wide: int) -> int:
    """Voxels touched between two reads of one chunk in strips of `high` x `wide` parts."""
    z, y, x = axes
    layer, row, cell = (max(axis.spans(axis.count)) for axis in axes)
    height, width = max(y.spans(high)), max(x.spans(wide))
    if z.overlaps and high < y.count:
        return layer * (height + row) * width
    if z.overlaps or y.overlaps:
        return layer * row * (width + (cell if wide < x.count else 0))
    return layer * row * cell if x.overlaps else 0


def _within(strips: Mapping[tuple[int, int], int], runs: int) -> int:
    """How many of `runs` equal runs end within a strip; `strips`: blocks of each."""
    total = sum(strips.values())
    ends = {total * number // runs for number in range(1, runs)}
    return len(ends - set(itertools.accumulate(strips[key] for key in sorted(strips))))


def _shared(axes: Sequence[_Axis], high: int, wide: int) -> int:
    """Most voxels read both before and after some place in a strip: decoded twice by two runs."""
    z, y, x = axes
    layer, row, cell = (max(axis.spans(axis.count)) for axis in axes)
    height, width = max(y.spans(high)), max(x.spans(wide))
    layers = z.overlap * (height + row) * width
    return layers + layer * y.overlap * (width + cell) + layer * row * x.overlap
