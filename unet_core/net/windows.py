"""Weighted sums of a network's results over windows, in one order whatever is computed of them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unet_core.geometry import Box, Zyx
from unet_core.windows import Weight, Windows

Along = npt.NDArray[np.float32]
"""One number per voxel of an axis."""


@dataclass(frozen=True)
class Windowed:
    """Voxels that are computed at a time, and what a network sees for them in windows."""

    core: Box
    """Of the volume; never empty."""

    windows: Windows

    @property
    def read(self) -> Box:
        """All that is seen; may reach beyond the volume."""
        return self.windows.read(self.core)

    @property
    def inset(self) -> Zyx:
        """Voxels from the first that is seen to the first of `core`."""
        return self.core.relative_to(self.read.start).start

    @property
    def shown(self) -> Zyx:
        """Voxels that the network sees at a time."""
        return self.windows.seen_size

    @property
    def places(self) -> tuple[Box, ...]:
        """The windows, in coordinates that count from the first voxel of `core`."""
        touching = self.windows.touching(self.core)
        return tuple(window.relative_to(self.core.start) for window in touching)


def mean_over_windows(
    tile: Windowed, seen: Tensor, values: Callable[[Tensor], Tensor], *, batch: int
) -> Tensor:
    """Weighted mean of ``values`` over all windows that hold a voxel of the core.

    Every voxel is the sum over its windows in the order of the grid, one product and one addition
    each: the same bits whatever else is computed with it.

    Parameters
    ----------
    seen : (c, z, y, x)
        What ``tile.read`` holds, on the device.
    values
        (n, c, z, y, x) -> (n, k, z', y', x') float32, results of n windows.
    batch
        Windows shown at a time; the last are made up to as many, so that no pass has another size.

    Returns
    -------
    (k, z, y, x) float32, of the core
    """
    windows, core = tile.windows, tile.core
    weight = _product(weights_of(windows), seen.device)
    total: Tensor | None = None
    for boxes in _batches(windows.touching(core), batch):
        inputs = [seen[(..., *_within(windows.seen(box), tile.read).slices)] for box in boxes]
        results = values(torch.stack([*inputs, *[inputs[-1]] * (batch - len(inputs))]))
        if total is None:
            total = results.new_zeros((results.shape[1], *core.shape))
        for box, result in zip(boxes, results, strict=False):
            shared = box.intersection(core)
            own = _within(shared, box).slices
            # Not addcmul: it may round once where these round twice, by where a vector ends.
            total[(..., *_within(shared, core).slices)] += result[(..., *own)] * weight[own]
    if total is None:
        raise ValueError("no window")
    return total.div_(_product(totals_of(windows, core), seen.device))


def weights_of(windows: Windows) -> tuple[Along, ...]:
    """Of the voxels of a window, per axis; the weight of a voxel is their product."""
    return tuple(weights_along(n, windows.weight) for n in windows.size)


def totals_of(windows: Windows, box: Box) -> tuple[Along, ...]:
    """Sums of the weights of all windows, per axis of `box`; of a voxel it is their product."""
    return tuple(
        _totals(at, n, size, windows.weight)[a:b]
        for at, n, size, a, b in zip(
            windows.starts, windows.shape, windows.size, box.start, box.stop, strict=True
        )
    )


def weights_along(size: int, weight: Weight) -> Along:
    """Weights of the voxels of a window along one axis; the largest is 1, all are positive.

    gaussian: ``exp(-(i - size // 2)^2 / (2 sd^2))``, sd = size / 8, so never below exp(-8).
    """
    if weight == "count":
        return np.ones(size, np.float32)
    offset = np.arange(size) - size // 2
    return np.exp(-0.5 * (offset / (size * _SD)) ** 2).astype(np.float32)


_SD = 1 / 8
"""Standard deviation of a Gaussian weight, in windows."""


@lru_cache(maxsize=64)
def _totals(starts: Sequence[int], length: int, size: int, weight: Weight) -> Along:
    one = weights_along(size, weight).astype(np.float64)
    total = np.zeros(max(length, starts[-1] + size))
    for start in starts:
        total[start : start + size] += one
    return total.astype(np.float32)


def _batches(boxes: Sequence[Box], batch: int) -> Iterator[Sequence[Box]]:
    return (boxes[i : i + batch] for i in range(0, len(boxes), batch))


def _within(box: Box, outer: Box) -> Box:
    return box.relative_to(outer.start)


def _product(along: Sequence[Along], device: torch.device) -> Tensor:
    """(z, y, x) from what it is along each axis."""
    z, y, x = along
    return torch.from_numpy(z[:, None, None] * y[:, None] * x).to(device)
