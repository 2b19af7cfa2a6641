"""Memory that passes of a network take: formulas, and what a device has."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, prod

import torch

from unet_core.config import NetworkConfig
from unet_core.config.networks.memory import pass_mb, values_per_voxel

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


def indexable(model: NetworkConfig, sizes: Sequence[int]) -> int:
    """Inputs of `sizes` that one pass may hold; 0 where one is too large for the kernels."""
    return INDEXED // ceil(values_per_voxel(model) * prod(sizes))


def batch_of(
    model: NetworkConfig,
    sizes: Sequence[int],
    *,
    bytes_per_value: int,
    free: float | None,
    averaged: bool = False,
    results_mb: float = 0,
) -> int:
    """Sections of `sizes` to show a 2-D network at a time; `free`: a GPU's memory (MB), or None.

    1 on a CPU: larger batches leave its caches (315 against 435 GFLOP/s). `averaged`: over
    symmetries. `results_mb`: what the results of all sections will take.
    """
    if free is None:
        return 1
    one = pass_mb(model, sizes, bytes_per_value=bytes_per_value, averaged=averaged)
    fitting = int(_SHARE * (free - results_mb) / one)
    return max(1, min(fitting, indexable(model, sizes)))


def pinned_mb(sent: Sequence[int], stored: int) -> float:
    """Memory (MB) of this machine that a GPU reads from and writes to, which is kept for reuse.

    Parameters
    ----------
    sent
        Bytes of what each network is sent for a tile.
    stored
        Bytes of what comes back; that of some tiles of one value is kept.
    """
    # Torch takes powers of two.
    tile, result = sum(map(_power_of_two, sent)), _power_of_two(stored)
    return ((UNDER_WAY + 1) * (tile + result) + KNOWN_TILES * result) / 1e6


def _power_of_two(size: int) -> int:
    return 1 << (size - 1).bit_length()


UNDER_WAY = 2
"""Tiles on the GPU besides the one waited for: one is fetched, one computed and one sent."""

KNOWN_TILES = 4
"""Results of tiles of one value that are kept for reuse."""


@dataclass
class Held:
    """What a GPU's memory has not held, for as long as its process lives."""

    voxels: int = 2**62
    """That some network is shown at a time, all sections, where more did not fit."""

    tile_px: int | None = None
    """The smallest of the tiles that did not fit."""


@lru_cache(maxsize=64)
def held_of(models: tuple[NetworkConfig, ...], dtype: torch.dtype, averaging: str) -> Held:
    """What is known of networks of one architecture and number type, whatever the volume."""
    return Held()


_SAYS_FULL = (
    "out of memory",
    "unable to find an engine",  # cuDNN, where no workspace fits
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Does torch, or a library of the GPU, say that the GPU's memory is full?"""
    full = isinstance(error, torch.OutOfMemoryError)
    return full or any(words in str(error) for words in _SAYS_FULL)


def give_back_memory() -> None:
    """Give back what torch keeps for reuse on a GPU, and of this machine's memory for copies."""
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return
    torch.cuda.empty_cache()
    if hasattr(torch._C, "_host_emptyCache"):  # builds for CUDA
        torch._C._host_emptyCache()


def total_mb(device: torch.device) -> float | None:
    """Memory of a GPU (MB); None on a CPU."""
    if device.type == "cpu":
        return None
    return torch.cuda.get_device_properties(device).total_memory / 1e6


def free_mb(device: torch.device) -> float | None:
    """Memory of a GPU that is free (MB), what torch keeps for reuse included; None on a CPU."""
    if device.type == "cpu":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return (free + kept) / 1e6
