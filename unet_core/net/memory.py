"""Memory that passes of a network take: formulas, and what a device has."""

import ctypes
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from math import prod

import torch

from unet_core.config import UNetConfig
from unet_core.config.shape import activation_mb, parameters

_SHARE = 0.5
"""Of the free memory of a GPU for feature maps; the rest is workspace of the library."""

INDEXED = 2**31
"""Elements of one feature map up to which all kernels count in 32 bits."""


KEPT = 1.6
"""Memory of passes over that of their maps where freed memory is kept for reuse: it lies in pieces
that do not fit what comes next. Measured: 0.9 to 1.58 for six networks (2-D, 3-D, width 16 to 64,
both number types)."""


def pass_mb(model: UNetConfig, sizes: Sequence[int], *, bytes_per_value: int) -> float:
    """Most memory (MB) that one pass over an input of `sizes` takes.

    The input in float32 and as the network sees it, and the maps of the finest level, or the last
    of them with logits, probabilities and their copies.
    """
    valid = replace(model, padding="valid")
    maps = activation_mb(valid, sizes, bytes_per_value=bytes_per_value)
    copies = 1 + (bytes_per_value == 2 or model.inputs > 1) + (model.sections > 1)
    inputs = model.inputs * prod(sizes) * (4 + bytes_per_value * (copies - 1)) / 1e6
    yielded = prod(valid.output_size(size) for size in sizes) / 1e6
    last = yielded * (bytes_per_value * (model.width + model.classes) + 3 * 4 * model.classes)
    return inputs + max(maps, last)


def weights_mb(model: UNetConfig) -> float:
    """Memory (MB) of the weights, in float32 and once more as the kernels want them."""
    return 2 * 4 * parameters(model) / 1e6


@lru_cache(maxsize=1)  # a call is a change
def keep_freed_memory(keep: bool) -> None:
    """Whether this process keeps the memory of maps that are freed (glibc).

    Kept, it is not asked for and cleared anew with every map, which takes 10 to 25 % of the time
    of a pass; given back, a pass takes what `pass_mb` says, to 5 %.
    """
    allocator = ctypes.CDLL(None)
    if not hasattr(allocator, "mallopt"):  # no glibc
        return
    allocator.mallopt(_MMAP_MAX, 0 if keep else 2**16)
    allocator.mallopt(_MMAP_THRESHOLD, 2**20)
    allocator.mallopt(_TRIM_THRESHOLD, 2**31 - 1 if keep else 2**20)
    allocator.mallopt(_ARENA_MAX, 1)  # others than the first cannot grow beyond 64 MiB
    if not keep:  # what a volume before this one has left
        allocator.malloc_trim(0)


_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -3, -4, -8
"""Parameters of mallopt(3)."""


def indexable(model: UNetConfig, sizes: Sequence[int]) -> int:
    """Inputs of `sizes` that one pass may hold; 0 where one is too large for the kernels."""
    return INDEXED // (2 * model.width * prod(sizes))


def batch_of(
    model: UNetConfig, sizes: Sequence[int], bytes_per_value: int, free: float | None
) -> int:
    """Sections of `sizes` to show a 2-D network at a time; `free`: a GPU's memory (MB), or None.

    1 on a CPU: larger batches leave its caches (315 against 435 GFLOP/s).
    """
    if free is None:
        return 1
    fitting = int(_SHARE * free / pass_mb(model, sizes, bytes_per_value=bytes_per_value))
    return max(1, min(fitting, indexable(model, sizes)))


def free_mb(device: torch.device) -> float | None:
    """Memory of a GPU that is free (MB), what torch keeps for reuse included; None on a CPU."""
    if device.type == "cpu":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return (free + kept) / 1e6
