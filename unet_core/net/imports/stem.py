"""The first layer for another number of channels."""

from collections.abc import Mapping

import torch
from torch import Tensor

from unet_core.config.networks.graph import INPUT, Graph
from unet_core.config.networks.layers import Affine, Convolution, Layer
from unet_core.errors import CheckpointError


def adapted(state: Mapping[str, Tensor], graph: Graph, inputs: int) -> dict[str, Tensor]:
    """The weights with the first convolution's for `inputs` channels instead of the graph's."""
    changed = dict(state)
    for name in first_convolutions(graph):
        key = f"{name}.weight"
        changed[key] = adapt_channels(changed[key], inputs)
    return changed


def adapt_channels(kernel: Tensor, inputs: int) -> Tensor:
    """A convolution's kernels (out, in, [z,] y, x) for `inputs` channels instead of `in`.

    One channel takes the sum of the kernels; otherwise channel i takes kernel ``i mod in``, scaled
    by ``in / inputs``: a grey image shown in all channels gives what it gave.

    Raises
    ------
    CheckpointError
        If there are to be none.
    """
    if inputs < 1:
        raise CheckpointError(f"a network needs >= 1 input channels, got {inputs}")
    had = kernel.shape[1]
    if inputs == had:
        return kernel
    if inputs == 1:
        return kernel.sum(dim=1, keepdim=True)
    return kernel[:, torch.arange(inputs) % had] * (had / inputs)


def first_convolutions(graph: Graph) -> list[str]:
    """Names of the convolutions that read the input, or what is made of it channel by channel.

    Raises
    ------
    CheckpointError
        If another layer reads it.
    """
    shown = {INPUT}
    found: list[str] = []
    for node in graph.nodes:
        if not shown.intersection(node.inputs):
            continue
        if isinstance(node.layer, Convolution) and node.layer.groups == 1:
            found.append(node.name)
        elif _keeps_channels(node.layer):
            shown.add(node.name)
        else:
            raise CheckpointError(
                f"layer {node.name} reads the input itself, so that the network takes "
                f"{graph.inputs} channels only"
            )
    return found


def _keeps_channels(layer: Layer) -> bool:
    return isinstance(layer, Affine)
