"""Patches from a bank: which ones a step sees, and how they become tensors."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unet_core.config import NetworkConfig
from unet_core.config.networks.geometry import own_lost
from unet_core.geometry import Zyx
from unet_core.net.device import memory_format

Item = TypeVar("Item")


class ArrayLike(Protocol):
    """A numpy or zarr array: has a shape, and is read by its first axis."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Patches first."""
        ...

    def __getitem__(self, index: Any, /) -> Any: ...


@dataclass(frozen=True)
class Bank:
    """Patches of one fold."""

    raw: ArrayLike
    """(n, c, z, y, x) float16, normalised intensities."""

    target: ArrayLike
    """(n, z, y, x) uint8, class per voxel, or (n, offsets, z, y, x), affinities; 255 ignored."""

    border: ArrayLike
    """(n, z, y, x) float16, border term of the loss weight."""

    def __len__(self) -> int:
        return self.raw.shape[0]

    @property
    def patch(self) -> Zyx:
        """Voxels of a patch."""
        z, y, x = self.raw.shape[2:]
        return z, y, x


class Batch(NamedTuple):
    """What one step sees; without z where the network is 2-D: sections are inputs then."""

    raw: Tensor
    """(b, inputs, [z,] y, x) float32, those of `NetworkConfig.inputs`"""

    target: Tensor
    """(b, [offsets,] [z',] y', x') uint8, as large as the network's output"""

    border: Tensor
    """(b, [z',] y', x') float32"""


def drawn(seed: int, step: int, *, batch: int, patches: int) -> list[int]:
    """Which patches step `step` (from 0) sees.

    Every epoch is a permutation of the whole bank, drawn from the seed and the epoch's number
    alone: a run can start at any step, and no two steps of an epoch share a patch.
    """
    positions = range(step * batch, (step + 1) * batch)
    orders = {
        epoch: np.random.default_rng([seed, epoch]).permutation(patches)
        for epoch in {position // patches for position in positions}
    }
    return [int(orders[position // patches][position % patches]) for position in positions]


def read_batch(bank: Bank, indices: list[int], model: NetworkConfig, *, pin: bool) -> Batch:
    """Patches as tensors, target and border cropped to the centre that the network predicts.

    Of a 2-D network that is the middle section, of which all its sections are inputs.
    """
    depth, *plane = bank.raw.shape[2:]
    sizes = plane if model.dimensions == 2 else [depth, *plane]
    lost = own_lost(model)[3 - model.dimensions :]
    centre: list[slice | int] = [
        slice(beyond, size - beyond) for beyond, size in zip(lost, sizes, strict=True)
    ]
    middle: list[slice | int] = [depth // 2] if model.dimensions == 2 else []

    def stacked(array: ArrayLike, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        return np.stack([np.asarray(array[i]) for i in indices]).astype(dtype, copy=False)

    def cropped(array: ArrayLike, dtype: npt.DTypeLike) -> Tensor:
        index = (..., *middle, *centre)
        return torch.from_numpy(np.ascontiguousarray(stacked(array, dtype)[index]))

    raw = torch.from_numpy(
        stacked(bank.raw, np.float32).reshape(len(indices), model.inputs, *sizes)
    )
    parts = Batch(
        raw.contiguous(memory_format=memory_format(model.dimensions)),
        cropped(bank.target, np.uint8),
        cropped(bank.border, np.float32),
    )
    return Batch(*(part.pin_memory() for part in parts)) if pin else parts


def read_ahead(read: Callable[[int], Item], steps: range, *, ahead: int = 2) -> Iterator[Item]:
    """``read(step)`` for every step, in order, read by another thread while the caller computes."""
    waiting: list[Future[Item]] = []
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="patches") as reader:
        try:
            for step in steps:
                waiting.append(reader.submit(read, step))
                if len(waiting) > ahead:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        finally:
            for future in waiting:
                future.cancel()
