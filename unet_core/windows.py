"""Windows of one size laid over a whole volume: integer arithmetic, without any array."""

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod
from typing import Literal

from unet_core.geometry import Box, Zyx

Weight = Literal["count", "gaussian"]


@dataclass(frozen=True)
class Windows:
    """How a network that is shown inputs of one size is laid over one volume.

    One grid for the whole volume, whatever is computed of it: every result is the weighted mean
    over the windows that hold it, in the order of the grid, so blocks, workers and parts of the
    volume do not change it. Along an axis on which the volume is smaller than a window, there is
    one, which reaches beyond the volume's end, where the volume is mirrored.
    """

    shape: Zyx
    """Voxels of the volume."""

    size: Zyx
    """Voxels that the network yields at a time."""

    stride: Zyx
    """Most voxels from one window to the next."""

    halo: Zyx = (0, 0, 0)
    """Voxels per side that the network sees beyond."""

    weight: Weight = "count"
    """count: each counts alike, every `stride` voxels begins one, and the last is pulled back
    inside (mmsegmentation). gaussian: a Gaussian about the window's middle, its standard deviation
    an eighth of the window; windows are spread evenly (nnU-Net)."""

    @cached_property
    def starts(self) -> tuple[tuple[int, ...], ...]:
        """First voxels of the windows, per axis."""
        axes = zip(self.shape, self.size, self.stride, strict=True)
        return tuple(starts(*axis, even=self.weight == "gaussian") for axis in axes)

    @property
    def count(self) -> int:
        """Windows over the whole volume."""
        return prod(map(len, self.starts))

    def touching(self, box: Box) -> list[Box]:
        """The windows that hold any voxel of `box`, in the order of the grid (C)."""
        return [
            Box(_zyx(corner), _zyx([a + n for a, n in zip(corner, self.size, strict=True)]))
            for corner in itertools.product(*self._touching(box))
        ]

    def counted(self, box: Box) -> int:
        """How many windows hold any voxel of `box`."""
        return prod(map(len, self._touching(box)))

    def read(self, box: Box) -> Box:
        """All that is seen for `box`, which holds a voxel of the volume."""
        axes = self._touching(box)
        start = [axis[0] for axis in axes]
        stop = [axis[-1] + n for axis, n in zip(axes, self.size, strict=True)]
        return self.seen(Box(_zyx(start), _zyx(stop)))

    def seen(self, window: Box) -> Box:
        """What the network sees for one window."""
        return window.grow(self.halo)

    @property
    def seen_size(self) -> Zyx:
        """Voxels that the network sees at a time."""
        z, y, x = (n + 2 * halo for n, halo in zip(self.size, self.halo, strict=True))
        return z, y, x

    @property
    def reach(self) -> Zyx:
        """Most voxels per side that are seen around what is computed."""
        z, y, x = (n - 1 + halo for n, halo in zip(self.size, self.halo, strict=True))
        return z, y, x

    def most_read(self, box: Zyx) -> Zyx:
        """Most voxels per axis that are seen for any box of so many voxels."""
        axes = zip(self.starts, self.size, self.halo, box, strict=True)
        z, y, x = (
            min(side + 2 * (size - 1), at[-1] + size) + 2 * halo for at, size, halo, side in axes
        )
        return z, y, x

    def repeated(self, box: Zyx) -> float:
        """Windows computed over those there are, where boxes of so many voxels are computed apart.

        A window that several boxes share is computed for each of them.
        """
        times = 1.0
        for axis in range(3):
            of = [
                self._along(axis, a, a + box[axis]) for a in range(0, self.shape[axis], box[axis])
            ]
            times *= sum(map(len, of)) / len(self.starts[axis])
        return times

    def _touching(self, box: Box) -> list[tuple[int, ...]]:
        return [self._along(i, box.start[i], box.stop[i]) for i in range(3)]

    def _along(self, axis: int, start: int, stop: int) -> tuple[int, ...]:
        at = self.starts[axis]
        return at[bisect_right(at, start - self.size[axis]) : bisect_left(at, stop)]


@lru_cache(maxsize=1024)
def starts(length: int, window: int, stride: int, *, even: bool) -> tuple[int, ...]:
    """First voxels of the windows along an axis of `length` voxels.

    As many as `stride` needs, ``max(length - window + stride - 1, 0) // stride + 1``. Number i of n
    starts at ``min(i stride, length - window)``, or if `even` at
    ``round((length - window) / (n - 1) i)``.
    """
    room = max(length - window, 0)
    last = -(-room // stride)
    if even:
        return tuple(round(room / max(last, 1) * i) for i in range(last + 1))
    return tuple(min(i * stride, room) for i in range(last + 1))


def _zyx(values: Sequence[int]) -> Zyx:
    z, y, x = values
    return z, y, x
