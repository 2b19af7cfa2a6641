"""Which maps of a pass are held at a time: those that are read later, each as long as it is."""

from collections.abc import Callable, Mapping, Sequence
from math import prod

from unet_core.config.networks.graph import INPUT, Graph, Node
from unet_core.config.networks.layers import (
    Activation,
    Convolution,
    Cut,
    Dropout,
    Fitted,
    Normalisation,
    Placed,
    Transposed,
)

IN_PLACE = ("relu", "relu6", "leaky_relu", "elu", "swish")
"""Activations that can overwrite what they read."""


def storages(graph: Graph) -> Mapping[str, str]:
    """Of every map the one whose memory it lies in: itself, unless it is a view of another.

    Parts of a map are views; dropout does nothing in inference.
    """
    return _storages(graph, _is_view)


def _storages(graph: Graph, shares: Callable[[Node], bool]) -> Mapping[str, str]:
    """Of every map the one whose memory it lies in, where some nodes take that of their input."""
    found = {INPUT: INPUT}
    for node in graph.nodes:
        found[node.name] = found[node.inputs[0]] if shares(node) else node.name
    return found


def _is_view(node: Node) -> bool:
    layer = node.layer
    if isinstance(layer, Cut):
        return min((*layer.before, *layer.after)) >= 0
    return isinstance(layer, Fitted | Placed | Dropout)


def overwriting(graph: Graph) -> set[str]:
    """Activations whose input nothing reads after them, so that they may overwrite it."""
    storage = storages(graph)
    last: dict[str, str] = {}
    for node in graph.nodes:
        last |= {storage[name]: node.name for name in node.inputs}
    kept = {storage[name] for name in (INPUT, graph.output, *(n for n, _ in graph.auxiliary))}
    return {
        node.name
        for node in graph.nodes
        if isinstance(node.layer, Activation)
        and node.layer.kind in IN_PLACE
        and last[storage[node.inputs[0]]] == node.name
        and storage[node.inputs[0]] not in kept
    }


def peak_values(graph: Graph, sizes: Mapping[str, Sequence[int]]) -> int:
    """Most values that are held at a time in inference, the input apart.

    What is read later, what a layer reads and makes, and what it holds besides. Activations
    overwrite what they read where they can; batch normalisations are part of convolutions.
    """
    storage, parts = _storages_in_place(graph), storages(graph)
    until = {graph.output: len(graph.nodes)}
    for number, node in enumerate(graph.nodes):
        for name in (*node.inputs, node.name):
            until[storage[name]] = max(number, until.get(storage[name], 0))
    until[storage[graph.output]] = len(graph.nodes)
    ends: dict[int, list[str]] = {}
    for name, number in until.items():
        ends.setdefault(number, []).append(name)
    held, most = 0, 0
    for number, node in enumerate(graph.nodes):
        if storage[node.name] == node.name:
            held += graph.channels[node.name] * prod(sizes[node.name])
        x = node.inputs[0]
        read = graph.channels[x] * prod(sizes[x])
        most = max(most, held + _besides(node, read, is_part=parts[x] != x))
        for name in ends.get(number, []):
            if name != INPUT:
                held -= graph.channels[name] * prod(sizes[name])
    return most


def _storages_in_place(graph: Graph) -> Mapping[str, str]:
    """Of every map the one whose memory it takes, with folded and overwriting layers besides."""
    over = overwriting(graph)

    def shares(node: Node) -> bool:
        folded = isinstance(node.layer, Normalisation) and node.layer.kind == "batch"
        return _is_view(node) or folded or node.name in over

    return _storages(graph, shares)


def _besides(node: Node, values: int, *, is_part: bool) -> int:
    """Values that a convolution holds besides the `values` that it reads, and what it makes.

    Its weights in the order that the kernel wants; its input copied, where that is part of a map or
    is padded unevenly.
    """
    layer = node.layer
    if not isinstance(layer, Convolution | Transposed):
        return 0
    ordered = layer.inputs // layer.groups * layer.outputs * prod(layer.kernel)
    uneven = isinstance(layer, Convolution) and layer.before != layer.after
    return ordered + (uneven or is_part) * values
