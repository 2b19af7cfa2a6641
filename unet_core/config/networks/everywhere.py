"""Layers whose results depend on the whole map, so that tiles cannot be exact."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from unet_core.config.networks.layers import Axes, Interval, Layer


@dataclass(frozen=True)
class Everywhere(Layer):
    """Every result depends on the whole map, or on where in it the result lies."""

    def seen(self, axis: int, made: Interval, sizes: Sequence[int]) -> list[Interval]:
        return [(0, size) for size in sizes]

    @property
    def is_local(self) -> bool:
        return False


@dataclass(frozen=True)
class Bins(Everywhere):
    """Means over `count` parts of the map per axis (adaptive average pooling)."""

    count: int = 1

    @property
    def told(self) -> str:
        return "pooled means see the whole tile"

    def size(self, axis: int, sizes: Sequence[int]) -> int:
        return self.count


@dataclass(frozen=True)
class Resized(Everywhere):
    """The first input, interpolated to the size of the second."""

    align_corners: bool = False
    mode: Literal["linear", "nearest"] = "linear"

    @property
    def told(self) -> str:
        return "interpolation to another map's size depends on the tile's"

    def size(self, axis: int, sizes: Sequence[int]) -> int:
        return sizes[1]


@dataclass(frozen=True)
class Aligned(Everywhere):
    """`factor` times the voxels, interpolated linearly between corners that stay corners."""

    factor: Axes

    @property
    def told(self) -> str:
        return "interpolation between corners (align_corners) depends on the tile's size"

    def size(self, axis: int, sizes: Sequence[int]) -> int:
        return sizes[0] * self.factor[axis]

    def scale(self, axis: int) -> tuple[int, int]:
        return 1, self.factor[axis]
