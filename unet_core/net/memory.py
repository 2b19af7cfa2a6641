"""Memory that passes of a network take: formulas, and what a device has."""

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import torch

from unet_core.config import UNetConfig
from unet_core.config.shape import activation_mb, parameters

_SHARE = 0.5
"""Of the free memory of a GPU for feature maps; the rest is workspace of the library."""

INDEXED = 2**31
"""Elements of one feature map up to which all kernels count in 32 bits."""


def pass_mb(model: UNetConfig, sizes: Sequence[int], *, bytes_per_value: int) -> float:
    """Most memory (MB) that one pass over an input of `sizes` takes, what comes out included.

    The maps of the finest level, or what follows them: logits, probabilities and their copies.
    """
    valid = replace(model, padding="valid")
    maps = activation_mb(valid, sizes, bytes_per_value=bytes_per_value)
    inputs = model.inputs * prod(sizes) * (4 + bytes_per_value)
    outputs = 4 * 4 * model.classes * prod(valid.output_size(size) for size in sizes)
    return maps + (inputs + outputs) / 1e6


def weights_mb(model: UNetConfig) -> float:
    """Memory (MB) of the weights, in float32 and once more as the kernels want them."""
    return 2 * 4 * parameters(model) / 1e6


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
