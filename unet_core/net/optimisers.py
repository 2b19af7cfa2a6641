"""How gradients become steps, and which weights take them."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from unet_core.config import TrainConfig
from unet_core.errors import ConfigError
from unet_core.net.network import Network

ENCODER = ("encoder", "bottom")
"""What the names of layers of the contracting path begin with."""


def optimiser(config: TrainConfig, own: Sequence[dict[str, Any]]) -> torch.optim.Optimizer:
    """The optimiser of a recipe, of the weights of some `groups`.

    Its rates are set before every step: that of the step, times ``factor`` of each group.
    """
    rate, decay, momentum = config.learning_rate, config.weight_decay, config.momentum
    match config.optimiser:
        case "sgd":
            return torch.optim.SGD(
                own, lr=rate, momentum=momentum, weight_decay=decay, nesterov=config.nesterov
            )
        case "adam":
            return torch.optim.Adam(own, lr=rate, weight_decay=decay)
        case "adamw":
            return torch.optim.AdamW(own, lr=rate, weight_decay=decay)
        case "rmsprop":
            return torch.optim.RMSprop(own, lr=rate, momentum=momentum, weight_decay=decay)
        case "adagrad":
            return torch.optim.Adagrad(own, lr=rate, weight_decay=decay)


def groups(config: TrainConfig, network: Network) -> list[dict[str, Any]]:
    """The weights that change, not frozen: ``params``, and ``factor`` of their learning rate.

    The factor is `TrainConfig.layer_decay` to the power of the blocks that come after.

    Raises
    ------
    ConfigError
        If none is left.
    """
    blocks: dict[str, list[nn.Parameter]] = {}
    for name in weighed(network):
        if config.frozen == "encoder" and name.startswith(ENCODER):
            continue
        blocks.setdefault(block_of(name), []).extend(
            p for p in network.at(name).parameters(recurse=False) if p.requires_grad
        )
    if not blocks:
        raise ConfigError("train.frozen leaves no weights to train; set it to none")
    if config.layer_decay == 1:
        return [{"params": [p for some in blocks.values() for p in some], "factor": 1.0}]
    return [
        {"params": some, "factor": config.layer_decay ** (len(blocks) - 1 - i)}
        for i, some in enumerate(blocks.values())
    ]


def block_of(name: str) -> str:
    """The block of a layer, by its name: a level or stage of the network, or an up-sampling."""
    parts = name.split(".")
    return parts[0] if parts[0] == "bottom" else ".".join(parts[:2])


def freeze(config: TrainConfig, network: Network) -> None:
    """Let what is frozen stay as it is: weights, and statistics of batch normalisations."""
    if config.frozen == "none":
        return
    for name in weighed(network):
        if name.startswith(ENCODER):
            layer = network.at(name)
            layer.requires_grad_(False)
            if isinstance(layer, _BatchNorm):  # keeps a mean and a variance of what it has seen
                layer.eval()


def weighed(network: Network) -> Iterator[str]:
    """Names of the layers with weights, in the order they are computed."""
    return (node.name for node in network.graph.nodes if node.layer.parameters)
