"""Sizes of maps, and what results depend on: intervals traced through a graph, axis by axis."""

from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache
from math import ceil, lcm

from unet_core.config.networks.everywhere import Resized
from unet_core.config.networks.graph import INPUT, Graph
from unet_core.config.networks.layers import Fitted, Interval, Placed


def sizes_of(graph: Graph, axis: int, size: int) -> dict[str, int]:
    """Voxels along one axis of every map, from those of the input; not positive: too small."""
    known = {INPUT: size}
    for node in graph.nodes:
        known[node.name] = node.layer.size(axis, [known[name] for name in node.inputs])
    return known


def seen_by(graph: Graph, axis: int, made: Interval, size: int) -> Interval:
    """What of an input of `size` voxels the results `made` depend on; may reach beyond it."""
    sizes = sizes_of(graph, axis, size)
    wanted: dict[str, Interval] = {graph.output: made}
    for node in reversed(graph.nodes):
        if node.name not in wanted:
            continue
        each = node.layer.seen(axis, wanted[node.name], [sizes[name] for name in node.inputs])
        for name, (start, stop) in zip(node.inputs, each, strict=True):
            if start < stop:
                low, high = wanted.get(name, (start, stop))
                wanted[name] = min(low, start), max(high, stop)
    return wanted[INPUT]


@lru_cache(maxsize=256)
def scales_of(graph: Graph, axis: int) -> Mapping[str, Fraction]:
    """Voxels of the input along one axis over voxels of every map."""
    scales = {INPUT: Fraction(1)}
    for node in graph.nodes:
        fits = isinstance(node.layer, Resized | Fitted | Placed)
        up, down = node.layer.scale(axis)
        scales[node.name] = scales[node.inputs[1 if fits else 0]] * Fraction(up, down)
    return scales


@lru_cache(maxsize=256)
def stride_of(graph: Graph, axis: int) -> int:
    """Shifts that the network commutes with: the least common multiple of all scales."""
    return lcm(*(ceil(scale) for scale in scales_of(graph, axis).values()))
