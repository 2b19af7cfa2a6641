"""Sizes of maps, and what results depend on: intervals traced through a graph, axis by axis."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import lcm

from unet_core.config.networks.graph import INPUT, Graph
from unet_core.config.networks.layers import Interval


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
def stride_of(graph: Graph, axis: int) -> int:
    """Shifts that the network commutes with: the least common multiple of all scales."""
    scales: dict[str, tuple[int, int]] = {INPUT: (1, 1)}
    stride = 1
    for node in graph.nodes:
        up, down = node.layer.scale(axis)
        before_up, before_down = scales[node.inputs[0]]
        scale = before_up * up, before_down * down
        scales[node.name] = scale
        stride = lcm(stride, -(-scale[0] // scale[1]))
    return stride


@lru_cache(maxsize=256)
def is_local(graph: Graph) -> bool:
    """Whether a result depends on what is near it alone, so that tiles can be exact."""
    return all(node.layer.is_local for node in graph.nodes)


@dataclass(frozen=True)
class Reach:
    """What a run of results that starts and ends on the grid depends on, beyond itself."""

    before: int
    after: int


def channels_of(graph: Graph) -> Mapping[str, int]:
    """Channels of every map, by name."""
    return graph.channels
