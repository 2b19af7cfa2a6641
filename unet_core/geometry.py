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


@dataclass(frozen=True)
class Tile:
    """What one pass of the network yields (`core`) and what it sees for that (`read`)."""

    core: Box
    """Part of a block; never empty."""

    read: Box
    """Its sizes are those the network accepts; may reach beyond the volume."""

    inset: Zyx
    """Voxels from the first of the result, uncropped, to the first of `core`."""


@dataclass(frozen=True)
class Tiling:
    """How a network is laid over a volume, per axis (z, y, x).

    Poolings tie a result to where its pooling grid lies, so tiles start on multiples of `stride`
    counted from the volume's first voxel, whatever the block: then neighbours, other blocks and
    a pass over the whole volume agree.

    Raises
    ------
    PlanError
        If `tile` is no multiple of `stride`.
    """

    tile: Zyx
    """Most voxels that one pass yields."""

    stride: Zyx
    """Shifts that the network commutes with; 1 along an axis it does not see."""

    halo: Zyx
    """Voxels per side that are seen around a tile; 0 along an axis it does not see."""

    lost: Zyx
    """Voxels per side by which a result is smaller than its input; at most `halo`."""

    least: Zyx = (1, 1, 1)
    """Fewest voxels that one pass yields, for a smaller block too; multiples of `stride`, or 1."""

    def __post_init__(self) -> None:
        for tile, stride in zip(self.tile, self.stride, strict=True):
            if tile < 1 or tile % stride:
                nearest = max(1, (2 * tile + stride) // (2 * stride)) * stride
                raise PlanError(
                    f"infer.tile_px must be a multiple of {stride} px (the network's stride, "
                    f"infer.downsample), got {tile}: other tiles would not agree with each other; "
                    f"the nearest that does: {nearest}"
                )

    @property
    def reach(self) -> Zyx:
        """Most voxels per side that are seen around a block: the halo and the way to the grid."""
        axes = zip(self.halo, self.stride, self.least, strict=True)
        z, y, x = (halo + max(stride, least) - 1 for halo, stride, least in axes)
        return z, y, x

    def tiles(self, write: Box) -> list[Tile]:
        """Tiles whose cores hold every voxel of `write` once, in C order.

        Along each axis as few as possible and as equal as the stride allows.
        """
        axes = [
            _cuts(a, b, tile, stride)
            for a, b, tile, stride in zip(
                write.start, write.stop, self.tile, self.stride, strict=True
            )
        ]
        return [self._tile(write, corner) for corner in itertools.product(*axes)]

    def _tile(self, write: Box, cell: Sequence[tuple[int, int]]) -> Tile:
        start, stop = _zyx([a for a, _ in cell]), _zyx([b for _, b in cell])
        core = Box(start, stop).intersection(write)
        least = [a + n for a, n in zip(start, self.least, strict=True)]
        read = Box(start, _zyx(tuple(map(max, stop, least)))).grow(self.halo)
        first = [a + lost for a, lost in zip(read.start, self.lost, strict=True)]
        return Tile(core, read, core.relative_to(first).start)


def coarse(box: Box, by: Sequence[int]) -> Box:
    """The voxels, each of `by` voxels, that hold any voxel of `box`."""
    start = [a // f for a, f in zip(box.start, by, strict=True)]
    stop = [-(-b // f) for b, f in zip(box.stop, by, strict=True)]
    return Box(_zyx(start), _zyx(stop))


def fine(box: Box, by: Sequence[int]) -> Box:
    """The voxels that `box` stands for, whose voxels are each of `by`; may leave the volume."""
    start = [a * f for a, f in zip(box.start, by, strict=True)]
    stop = [b * f for b, f in zip(box.stop, by, strict=True)]
    return Box(_zyx(start), _zyx(stop))


def by(sizes: Sequence[int]) -> str:
    """Sizes as messages have them: 1 x 512 x 512."""
    return " x ".join(map(str, sizes))


def hull(boxes: Sequence[Box]) -> Box:
    """The least box that holds all of `boxes`, of which there is at least one."""
    start = (min(box.start[axis] for box in boxes) for axis in range(3))
    stop = (max(box.stop[axis] for box in boxes) for axis in range(3))
    return Box(_zyx(tuple(start)), _zyx(tuple(stop)))


def _cuts(start: int, stop: int, tile: int, stride: int) -> list[tuple[int, int]]:
    """Intervals of the grid of `stride` that hold `start`..`stop`: few, equal, at most `tile`."""
    first, last = start // stride, -(-stop // stride)
    parts = -(-(last - first) * stride // tile)
    cuts = [(first + (last - first) * i // parts) * stride for i in range(parts + 1)]
    return list(itertools.pairwise(cuts))


def _zyx(values: Sequence[int]) -> Zyx:
    z, y, x = values
    return int(z), int(y), int(x)
