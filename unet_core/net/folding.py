"""Networks for inference: what is done in two steps in training, done in one."""

from collections import Counter
from dataclasses import replace

import torch
from torch import Tensor, nn

from unet_core.config.networks.graph import Graph, Node
from unet_core.config.networks.layers import Convolution, Normalisation, Transposed
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
    result.config = network.config
    return result.eval()


def _pairs(graph: Graph) -> dict[str, str]:
    """Names of the normalisations that can be folded, and of the convolutions before them."""
    readers = Counter(name for node in graph.nodes for name in node.inputs)
    readers.update([graph.output, *(name for name, _ in graph.auxiliary)])
    layers = {node.name: node.layer for node in graph.nodes}
    return {
        node.name: node.inputs[0]
        for node in graph.nodes
        if isinstance(node.layer, Normalisation)
        and node.layer.kind == "batch"
        and isinstance(layers.get(node.inputs[0]), Convolution | Transposed)
        and readers[node.inputs[0]] == 1
    }


def _without(graph: Graph, pairs: dict[str, str]) -> Graph:
    folding = set(pairs.values())
    nodes = []
    for node in graph.nodes:
        if node.name in pairs:
            continue
        layer = node.layer
        if node.name in folding and isinstance(layer, Convolution | Transposed):
            layer = replace(layer, bias=True)
        if isinstance(layer, Convolution):
            layer = replace(layer, standardised=False)
        nodes.append(Node(node.name, layer, tuple(pairs.get(i, i) for i in node.inputs)))
    return replace(
        graph,
        nodes=tuple(nodes),
        output=pairs.get(graph.output, graph.output),
        auxiliary=tuple((pairs.get(name, name), weight) for name, weight in graph.auxiliary),
    )


@torch.no_grad()
def _fold(network: Network, convolution: str, norm: str, weight: Tensor) -> dict[str, Tensor]:
    before, after = network.at(convolution), network.at(norm)
    scale = _tensor(after, "weight") / torch.sqrt(_tensor(after, "running_var") + after.eps)
    if isinstance(before, nn.ConvTranspose2d | nn.ConvTranspose3d):
        # (inputs, outputs of each group, ...): a group's outputs belong to its inputs.
        each = scale.reshape(before.groups, 1, -1).expand(-1, len(weight) // before.groups, -1)
        scales = each.reshape(len(weight), -1, *[1] * (weight.ndim - 2))
    else:
        scales = scale.reshape(-1, *[1] * (weight.ndim - 1))
    bias = _tensor(after, "bias") - _tensor(after, "running_mean") * scale
    if before.bias is not None:
        bias = bias + _tensor(before, "bias") * scale
    return {f"{convolution}.weight": weight * scales, f"{convolution}.bias": bias}


def _tensor(part: nn.Module, name: str) -> Tensor:
    tensor = getattr(part, name)
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{type(part).__name__}.{name} is not a tensor")
    return tensor
