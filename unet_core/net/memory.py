"""Memory that passes of a network take: formulas, and what a device has."""

import ctypes
from collections.abc import Sequence
from functools import lru_cache
from math import prod

import torch

from unet_core.config import UNetConfig
from unet_core.config.shape import pass_mb

_SHARE = 0.5
"""Of the free memory of a GPU for feature maps; the rest is workspace of the library."""

INDEXED = 2**31
"""Elements of one feature map up to which all kernels count in 32 bits."""


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
