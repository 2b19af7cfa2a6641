"""How gradients become steps."""

from collections.abc import Iterable

import torch
from torch import nn

from unet_core.config import TrainConfig


def optimiser(config: TrainConfig, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser of a recipe; its rate is set before every step."""
    own = list(parameters)
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
