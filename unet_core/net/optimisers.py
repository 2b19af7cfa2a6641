"""How gradients become steps, and which weights take them."""

from collections.abc import Sequence
from fractions import Fraction
from math import prod
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from unet_core.config import TrainConfig
from unet_core.config.networks.graph import Graph
from unet_core.config.networks.trace import scales_of
from unet_core.net.network import Network


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


def freeze(config: TrainConfig, network: Network) -> None:
    """Let what is frozen stay as it is: weights, and statistics of batch normalisations."""
    if config.frozen == "none":
        return
    for name in network.graph.encoder:
        layer = network.at(name)
        layer.requires_grad_(False)
        if isinstance(layer, _BatchNorm):  # keeps a mean and a variance of what it has seen
            layer.eval()


def groups(config: TrainConfig, network: Network) -> list[dict[str, Any]]:
    """The weights that change, not frozen: ``params``, and ``factor`` of their learning rate.

    The factor is `TrainConfig.layer_decay` to the power of the levels that come after.
    """
    levels = levels_of(network.graph)
    if config.layer_decay == 1:
        levels = [[node.name for node in network.graph.nodes]]
    changing = [[p for name in names for p in _changing(network.at(name))] for names in levels]
    changing = [some for some in changing if some]
    return [
        {"params": some, "factor": config.layer_decay ** (len(changing) - 1 - i)}
        for i, some in enumerate(changing)
    ]


def levels_of(graph: Graph) -> list[list[str]]:
    """Names of the layers with weights, by the size of their maps: down the encoder, then up."""
    scales = [scales_of(graph, axis) for axis in range(graph.dimensions)]
    found: dict[tuple[bool, Fraction], list[str]] = {}
    for node in graph.nodes:
        if node.layer.parameters:
            scale = prod((along[node.name] for along in scales), start=Fraction(1))
            rising = node.name not in graph.encoder
            found.setdefault((rising, -scale if rising else scale), []).append(node.name)
    return [found[key] for key in sorted(found)]


def _changing(layer: nn.Module) -> list[nn.Parameter]:
    return [p for p in layer.parameters(recurse=False) if p.requires_grad]
