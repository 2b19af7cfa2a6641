"""Networks for inference: what is done in two steps in training, done in one."""

from collections import Counter
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from unet_core.config.networks.geometry import geometry_of
from unet_core.config.networks.graph import Graph, Node
from unet_core.config.networks.layers import Convolution, Cut, Normalisation, Transposed
from unet_core.net.layers import Conv2d, Conv3d
from unet_core.net.network import Network, on_meta


def folded(network: Network) -> Network:
    """The same network in inference mode, its batch normalisations part of the convolutions.

    Folded is what follows a convolution (or a transposed one) that nothing else reads; kernels
    that are standardised are so once and for all.
    """
    graph = network.graph
    pairs = _pairs(graph)
    result = on_meta(_without(graph, pairs))
    state = {
        name: tensor
        for name, tensor in network.state_dict().items()
        if name.rpartition(".")[0] not in pairs
    }
    for node in graph.nodes:
        part = network.at(node.name)
        if isinstance(part, Conv2d | Conv3d) and part.standardised:
            state[f"{node.name}.weight"] = part.kernels().detach()
    for norm, convolution in pairs.items():
        state |= _fold(network, convolution, norm, state[f"{convolution}.weight"])
    result.load_state_dict(state, assign=True)
    if hasattr(network, "config"):
        result.config = network.config
    return result.eval()


def without_padding(network: Network) -> Network:
    """The same network as inference runs it on exact tiles; it shares this one's parameters.

    Its results are those of `network`, where that is zero-padded those inside a volume; see
    `Geometry` for the boxes to show it. Heads that training alone looks at are left out.
    """
    without = on_meta(geometry_of(network.config).graph)
    state, names = network.state_dict(), without.state_dict().keys()
    without.load_state_dict({name: state[name] for name in names}, assign=True)
    without.config = network.config
    return without.train(network.training)


def _pairs(graph: Graph) -> dict[str, str]:
    """Names of the normalisations that can be folded, and of the convolutions before them."""
    readers = Counter(name for node in graph.nodes for name in node.inputs)
    readers.update([graph.output, *(name for name, _ in graph.auxiliary)])
    layers = {node.name: node.layer for node in graph.nodes}
    before = {node.name: node.inputs[0] for node in graph.nodes}
    pairs = {}
    for node in graph.nodes:
        x = before[node.name]
        while isinstance(layers.get(x), Cut) and readers[x] == 1:
            x = before[x]
        batch = isinstance(node.layer, Normalisation) and node.layer.kind == "batch"
        if batch and isinstance(layers.get(x), Convolution | Transposed) and readers[x] == 1:
            pairs[node.name] = x
    return pairs


def _without(graph: Graph, pairs: dict[str, str]) -> Graph:
    folding = set(pairs.values())
    instead = {node.name: node.inputs[0] for node in graph.nodes if node.name in pairs}
    nodes = []
    for node in graph.nodes:
        if node.name in pairs:
            continue
        layer = node.layer
        if node.name in folding and isinstance(layer, Convolution | Transposed):
            layer = replace(layer, bias=True)
        if isinstance(layer, Convolution):
            layer = replace(layer, standardised=False)
        nodes.append(Node(node.name, layer, tuple(instead.get(i, i) for i in node.inputs)))
    return replace(
        graph,
        nodes=tuple(nodes),
        output=instead.get(graph.output, graph.output),
        auxiliary=tuple((instead.get(name, name), weight) for name, weight in graph.auxiliary),
    )


@torch.no_grad()
def _fold(network: Network, convolution: str, norm: str, weight: Tensor) -> dict[str, Tensor]:
    before, after = network.at(convolution), network.at(norm)
    learnt, shift = _affine(after)
    scale = learnt / torch.sqrt(_tensor(after, "running_var") + cast(float, after.eps))
    if isinstance(before, nn.ConvTranspose2d | nn.ConvTranspose3d):
        # (inputs, outputs of each group, ...): a group's outputs belong to its inputs.
        each = scale.reshape(before.groups, 1, -1).expand(-1, len(weight) // before.groups, -1)
        scales = each.reshape(len(weight), -1, *[1] * (weight.ndim - 2))
    else:
        scales = scale.reshape(-1, *[1] * (weight.ndim - 1))
    bias = shift - _tensor(after, "running_mean") * scale
    if before.bias is not None:
        bias = bias + _tensor(before, "bias") * scale
    return {f"{convolution}.weight": weight * scales, f"{convolution}.bias": bias}


def _affine(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Scale and shift of each channel; 1 and 0 where none are learnt."""
    if norm.weight is None:
        mean = _tensor(norm, "running_mean")
        return torch.ones_like(mean), torch.zeros_like(mean)
    return _tensor(norm, "weight"), _tensor(norm, "bias")


def _tensor(part: nn.Module, name: str) -> Tensor:
    tensor = getattr(part, name)
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{type(part).__name__}.{name} is not a tensor")
    return tensor
