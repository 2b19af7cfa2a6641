"""Weights made of nothing but their names and places, the same everywhere."""

from binascii import crc32
from collections.abc import Mapping
from math import prod

import torch
from torch import Tensor, nn


def hashed(shape: tuple[int, ...], key: str) -> Tensor:
    """Values in [-1, 1) that depend on the key and the index alone."""
    index = torch.arange(prod(shape), dtype=torch.int64)
    mixed = (index * 2654435761 + crc32(key.encode())) % 2**32
    mixed = ((mixed ^ (mixed >> 15)) * 2246822519) % 2**32
    mixed = ((mixed ^ (mixed >> 13)) * 3266489917) % 2**32
    return ((mixed ^ (mixed >> 16)).double() / 2**31 - 1).float().reshape(shape)


def weights(
    shapes: Mapping[str, tuple[int, ...]], *, inputs_first: bool = False
) -> dict[str, Tensor]:
    """Weights by key that keep results of the order of 1; variances are positive.

    `inputs_first`: kernels are channels-last, as Keras has them.
    """
    found: dict[str, Tensor] = {}
    for key, shape in shapes.items():
        values = hashed(tuple(shape), key)
        if len(shape) > 1:
            terms = prod(shape[:-1]) if inputs_first else prod(shape[1:])
            values = values * (3 / terms) ** 0.5 * 1.4
        elif "var" in key.rpartition("/")[2].rpartition(".")[2]:
            values = 1 + values / 2
        elif key.endswith(("weight", "gamma")):
            values = 1 + values / 4
        else:
            values = values / 4
        found[key] = values
    return found


def filled(network: nn.Module) -> dict[str, Tensor]:
    """Fill a network, set it to eval mode; its state dict, counters of batches included."""
    state = network.state_dict()
    counted = {key for key in state if key.endswith("num_batches_tracked")}
    shapes = {key: tuple(value.shape) for key, value in state.items() if key not in counted}
    network.load_state_dict({**{key: torch.tensor(3) for key in counted}, **weights(shapes)})
    network.eval()
    return dict(network.state_dict())


def image(*shape: int, key: str = "image") -> Tensor:
    """An input of values in [-1, 1)."""
    return hashed(shape, key)
