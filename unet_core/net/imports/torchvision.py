"""Classifiers that backbones come from: torchvision's, and EfficientNet-PyTorch.

With a preset of segmentation_models.pytorch, its network with this backbone; what follows the
backbone begins at random. Without one, a ResNet as it is, a classifier.
"""

import re
from dataclasses import replace

import torch
from torch import Tensor, nn

from unet_core.config.networks.build import graph_of
from unet_core.config.networks.encoders import backbone
from unet_core.config.networks.everywhere import Bins
from unet_core.config.networks.graph import INPUT, Graph, Sketch
from unet_core.config.networks.resnet import STAGES
from unet_core.config.networks.settings import NetworkConfig
from unet_core.errors import CheckpointError
from unet_core.net.imports.backbones import OURS, called, encoder_of
from unet_core.net.imports.source import (
    Source,
    State,
    Translation,
    extent,
    loaded,
    matched_to,
    share,
    wanted_of,
)
from unet_core.net.imports.stem import adapted
from unet_core.net.initial import initialise
from unet_core.net.network import Network

_KINDS = ("smp_unet", "smp_unetpp", "smp_deeplabv3plus")
"""Presets of networks with a backbone."""

_CLASSIFIER = r"(_?fc|classifier)\..+"
"""Keys of what follows the backbone."""

_SEED = 0
"""Of the weights that begin at random."""


class Classifier(nn.Module):
    """A ResNet that tells the classes of whole images."""

    def __init__(self, network: Network, classes: nn.Module) -> None:
        super().__init__()
        self.network, self.classes = network, classes

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, y, x) -> (n, classes); without ``fc``: (n, channels of the last map)."""
        logits: Tensor = self.classes(torch.flatten(self.network(x), 1))
        return logits


def encoder_weights(state: State, config: NetworkConfig) -> dict[str, Tensor]:
    """The weights of a network's backbone by our names, from the state dict of a classifier.

    The first convolution is adapted to the channels of `config`
    (`unet_core.net.imports.stem.adapted`).

    Raises
    ------
    CheckpointError
        Listing what is missing, surplus and of a wrong shape, by the names of the classifier.
    """
    kept = {key: value for key, value in state.items() if not re.fullmatch(_CLASSIFIER, key)}
    graph = _drawn(config.encoder, _channels(kept, config.encoder))
    found = matched_to(kept, graph, _names(graph, config.encoder))
    wanted = wanted_of(graph_of(config))
    found = adapted(found, graph, config.inputs)
    return {name: tensor for name, tensor in found.items() if name in wanted}


def _drawn(encoder: str, channels: int) -> Graph:
    """The backbone alone."""
    sketch = Sketch(2, channels)
    return sketch.graph(backbone(sketch, NetworkConfig(encoder=encoder, depth=5), INPUT)[-1])


def _names(graph: Graph, encoder: str) -> dict[str, str]:
    """Our names of the layers, and those of the classifier."""
    return {
        node.name: called(node.name, encoder).removeprefix(OURS)
        for node in graph.nodes
        if node.layer.parameters
    }


def _channels(state: State, encoder: str) -> int:
    first = next(iter(_names(_drawn(encoder, 3), encoder).values()))
    return extent(state, f"{first}.weight", 1, 3)


def _presets(state: State) -> tuple[str, ...]:
    encoder = encoder_of(state, "")
    dilated = not encoder.startswith("vgg")
    return tuple(f"{kind}_{encoder}" for kind in (_KINDS if dilated else _KINDS[:2]))


def _translate(state: State, config: NetworkConfig) -> Translation:
    config = replace(config, channels=_channels(state, config.encoder))
    fresh = initialise(Network.of(config), seed=_SEED).state_dict()
    begun = {name: fresh[name] for name in wanted_of(graph_of(config))}
    return Translation(config, {**begun, **encoder_weights(state, config)}, "logits")


def _itself(state: State) -> nn.Module:
    """The classifier."""
    encoder = encoder_of(state, "")
    if encoder not in STAGES:
        raise CheckpointError(
            f"the keys are those of the classifier {encoder}, whose backbone a network can have; "
            f"name one of the presets {', '.join(_presets(state))}"
        )
    sketch = Sketch(2, _channels(state, encoder))
    x = backbone(sketch, NetworkConfig(encoder=encoder, depth=5), INPUT)[-1]
    graph = sketch.graph(sketch.add("mean", Bins(), x))
    kept = {key: value for key, value in state.items() if not re.fullmatch(_CLASSIFIER, key)}
    network = loaded(graph, matched_to(kept, graph, _names(graph, encoder)))
    return Classifier(network, _classes(state, graph.channels[graph.output]))


def _classes(state: State, width: int) -> nn.Module:
    """What follows the backbone."""
    given = {name: state.get(f"fc.{name}") for name in ("weight", "bias")}
    weight, bias = given.values()
    if weight is None and bias is None:
        return nn.Identity()
    if weight is None or bias is None or weight.shape != (*bias.shape, width):
        shapes = {
            f"fc.{name}": value if value is None else tuple(value.shape)
            for name, value in given.items()
        }
        raise CheckpointError(
            f"the classifier needs fc.weight (n, {width}) and fc.bias (n,), got {shapes}"
        )
    last = nn.Linear(width, len(bias), device="meta")
    last.load_state_dict({"weight": weight.clone(), "bias": bias.clone()}, assign=True)
    return last


SOURCE = Source(
    "torchvision or EfficientNet-PyTorch",
    share(r"(conv1|bn1|layer\d|features|_conv_stem|_conv_head|_bn\d|_blocks|_?fc|classifier)\..+"),
    _presets,
    _translate,
    itself=_itself,
)
