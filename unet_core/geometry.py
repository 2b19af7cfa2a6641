"""Boxes, blocks and tiles: integer arithmetic on voxel grids, without any array."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

from unet_core.errors import PlanError

Zyx = tuple[int, int, int]
"""Voxels or coordinates along (z, y, x)."""

IGNORED_ID = 2**32 - 1
"""The id in truth stores whose voxels count for nothing in loss and score."""


@dataclass(frozen=True, order=True)
class Box:
    """A half-open region of voxels, ``[start, stop)``; may reach beyond the volume."""

    start: Zyx
    stop: Zyx

    @property
    def shape(self) -> Zyx:
        """Voxels per axis."""
        z, y, x = (b - a for a, b in zip(self.start, self.stop, strict=True))
        return z, y, x

    @property
    def size(self) -> int:
        """Voxels in all; 0 where an axis is empty."""
        return prod(max(0, n) for n in self.shape)

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """Index of this box into a (z, y, x) array."""
        z, y, x = (slice(a, b) for a, b in zip(self.start, self.stop, strict=True))
        return z, y, x

    def grow(self, halo: Sequence[int]) -> "Box":
        """This box with `halo` more voxels on both sides of every axis."""
        (z0, y0, x0), (z1, y1, x1), (z, y, x) = self.start, self.stop, halo
        return Box((z0 - z, y0 - y, x0 - x), (z1 + z, y1 + y, x1 + x))

    def clip(self, shape: Sequence[int]) -> "Box":
        """The part of this box that lies in a volume of `shape`."""
        return self.intersection(Box((0, 0, 0), _zyx(shape)))

    def intersection(self, other: "Box") -> "Box":
        """What two boxes share; of size 0 where they share nothing."""
        start = tuple(map(max, self.start, other.start))
        stop = tuple(map(max, start, map(min, self.stop, other.stop)))
        return Box(_zyx(start), _zyx(stop))

    def shift(self, by: Sequence[int]) -> "Box":
        """This box moved by `by` voxels."""
        start = tuple(a + d for a, d in zip(self.start, by, strict=True))
        stop = tuple(b + d for b, d in zip(self.stop, by, strict=True))
        return Box(_zyx(start), _zyx(stop))

    def relative_to(self, origin: Sequence[int]) -> "Box":
        """This box in coordinates that count from `origin`."""
        return self.shift([-o for o in origin])


@dataclass(frozen=True, order=True)
class Block:
    """A worker's unit: a `write` box of whole shards and the halo it is read with."""

    write: Box
    halo: Zyx = (0, 0, 0)

    @property
    def name(self) -> str:
        """Its first voxel, ``z-y-x``: the same whatever else is in the plan."""
        return "-".join(str(a) for a in self.write.start)

    @property
    def read(self) -> Box:
        """The write box with its halo; may reach beyond the volume, where it is mirrored."""
        return self.write.grow(self.halo)


def split(shape: Sequence[int], *, block: Sequence[int]) -> Iterator[Box]:
    """Boxes of at most `block` voxels that hold every voxel of `shape` once, in C order."""
    if min(block) < 1:
        raise PlanError(f"a block must have >= 1 voxel per axis, got {tuple(block)}")
    starts = (range(0, n, b) for n, b in zip(shape, block, strict=True))
    for start in itertools.product(*starts):
        stop = [min(a + b, n) for a, b, n in zip(start, block, shape, strict=True)]
        yield Box(_zyx(start), _zyx(stop))


def blocks(
    shape: Sequence[int], *, block: Sequence[int], halo: Sequence[int] = (0, 0, 0)
) -> list[Block]:
    """The plan of a blockwise stage: every voxel of `shape` written once, in C order.

    `block` is the shard of the store that is written (`io.arrays.shard_of`), so that no two
    blocks share a file.
    """
    return [Block(box, _zyx(halo)) for box in split(shape, block=block)]


def whole_shards(box: Box, *, shard: Sequence[int], shape: Sequence[int]) -> bool:
    """Whether `box` covers every shard it touches, up to the volume's edge."""
    return all(
        a % s == 0 and (b % s == 0 or b == n)
        for a, b, s, n in zip(box.start, box.stop, shard, shape, strict=True)
    )


def _zyx(values: Sequence[int]) -> Zyx:
    z, y, x = values
    return int(z), int(y), int(x)
