"""Networks with the layers of others, but few channels: what depends on what stays the same."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from unet_core.config.networks.everywhere import Aligned
from unet_core.config.networks.graph import INPUT, Graph, Node
from unet_core.config.networks.layers import (
    Activation,
    Convolution,
    Cut,
    Interpolation,
    Layer,
    Normalisation,
    Placed,
    Pooling,
    Repeated,
    Transposed,
)
from unet_core.net.network import Network


def thinned(graph: Graph, *, axis: int | None = None) -> Graph:
    """`graph` with a share of the channels, and activations that leave no unit dead.

    Four channels are kept of the first convolution, a sixteenth of all others at the least.

    `axis`: along the others, where given, kernels have one voxel and nothing is pooled, so that a
    line of voxels can be computed.
    """
    channels = {INPUT: graph.inputs}
    nodes = []
    widths = (n.layer.outputs for n in graph.nodes if isinstance(n.layer, Convolution))
    by = min(16, max(1, next(widths) // 4))
    for node in graph.nodes:
        made = max(1, graph.channels[node.name] // by)
        layer = _thin(node.layer, [channels[name] for name in node.inputs], made)
        if axis is not None:
            layer = _along(layer, axis)
        channels[node.name] = layer.channels([channels[name] for name in node.inputs])
        nodes.append(Node(node.name, layer, node.inputs))
    return replace(graph, nodes=tuple(nodes))


def has_lines(graph: Graph) -> bool:
    """Whether `thinned` can make lines of it: what places one map in another does so alike."""
    return not any(isinstance(node.layer, Placed) for node in graph.nodes)


def _thin(layer: Layer, given: list[int], made: int) -> Layer:
    match layer:
        case Convolution() if layer.groups == layer.inputs > 1:
            return replace(layer, inputs=given[0], outputs=given[0], groups=given[0])
        case Convolution() | Transposed():
            return replace(layer, inputs=given[0], outputs=made, groups=1)
        case Normalisation():
            return replace(layer, width=given[0], groups=1, eps=0.0 if layer.is_local else 1e-5)
        case Activation() if layer.kind not in ("sigmoid", "softmax"):
            return Activation("leaky_relu", slope=0.5)
        case Repeated():
            return replace(layer, times=max(1, made // given[0]))
    return layer


def _along(layer: Layer, axis: int) -> Layer:
    def alone(values: tuple[int, ...], other: int) -> tuple[int, ...]:
        return tuple(n if i == axis else other for i, n in enumerate(values))

    match layer:
        case Convolution() | Pooling():
            return replace(
                layer,
                kernel=alone(layer.kernel, 1),
                stride=alone(layer.stride, 1),
                before=alone(layer.before, 0),
                after=alone(layer.after, 0),
            )
        case Transposed():
            return replace(
                layer,
                kernel=alone(layer.kernel, 1),
                stride=alone(layer.stride, 1),
                padding=alone(layer.padding, 0),
            )
        case Interpolation() | Aligned():
            return replace(layer, factor=alone(layer.factor, 1))
        case Cut():
            return replace(layer, before=alone(layer.before, 0), after=alone(layer.after, 0))
    return layer


def whole_numbered(graph: Graph, *, seed: int = 0) -> Network:
    """The network with weights -1, 0 and 1, of which about six meet a voxel: float64 is exact."""
    network = small_numbered(Network(graph)).double().eval()
    generator = torch.Generator().manual_seed(seed)
    for node in graph.nodes:
        part = network.at(node.name)
        if (
            isinstance(node.layer, Convolution | Transposed | Normalisation)
            and part.bias is not None
        ):
            part.bias.data = torch.randint(0, 6, part.bias.shape, generator=generator).double()
        if not isinstance(node.layer, Convolution | Transposed):
            continue
        weight = part.weight
        fan = weight[0].numel() if isinstance(node.layer, Convolution) else weight.shape[0]
        drawn = torch.rand(weight.shape, generator=generator)
        signs = 2 * torch.randint(0, 2, weight.shape, generator=generator) - 1
        weight.data = (signs * (drawn < 6 / fan)).double()
    return network


class Remainder(nn.Module):
    """What is left after division by 7: whole numbers stay whole, small, and as varied."""

    def forward(self, x: Tensor) -> Tensor:
        return x.remainder(7)


def small_numbered(network: Network) -> Network:
    """The network with remainders for activations; changes it."""
    for node in network.graph.nodes:
        if isinstance(node.layer, Activation):
            network.put(node.name, Remainder())
    return network
