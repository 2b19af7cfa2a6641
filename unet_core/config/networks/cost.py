"""What a network consists of and costs: arithmetic on its graph, without torch."""

from collections import Counter
from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import lru_cache
from math import prod

from unet_core.config.networks.build import graph_of
from unet_core.config.networks.geometry import geometry_of, output_size
from unet_core.config.networks.graph import Graph
from unet_core.config.networks.layers import Convolution, Layer, Normalisation, Transposed
from unet_core.config.networks.settings import NetworkConfig
from unet_core.config.networks.trace import scales_of, sizes_of


@lru_cache(maxsize=64)
def parameters(model: NetworkConfig) -> int:
    """Numbers that training adjusts."""
    return sum(node.layer.parameters for node in graph_of(model).nodes)


def convolutions(model: NetworkConfig) -> int:
    """Convolutions of the network, transposed ones and the head included."""
    layers = (node.layer for node in graph_of(model).without_auxiliary().nodes)
    return sum(isinstance(layer, Convolution | Transposed) for layer in layers)


def sizes_in(graph: Graph, sizes: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Voxels per axis of every map, from those of the input."""
    axes = [sizes_of(graph, axis, size) for axis, size in enumerate(sizes)]
    return {name: tuple(along[name] for along in axes) for name in axes[0]}


def multiply_adds(model: NetworkConfig, size: int | Sequence[int]) -> int:
    """Multiplications (each with one addition) of one pass over an input.

    `size`: voxels per axis, or one number where all axes are alike.
    """
    for axis, n in enumerate(axes_of(model, size), start=3 - model.dimensions):
        output_size(model, n, axis)
    return work_of(graph_of(model).without_auxiliary(), axes_of(model, size))


def work_of(graph: Graph, sizes: Sequence[int]) -> int:
    """Multiply-adds of one pass of a graph over an input of `sizes`."""
    voxels = sizes_in(graph, sizes)
    return sum(
        _each(node.layer) * prod(voxels[_counted(node.layer, node.name, node.inputs)])
        for node in graph.nodes
    )


def tile_work(model: NetworkConfig, sizes: Sequence[int]) -> int:
    """Multiply-adds of one pass as inference runs it, shown `sizes` voxels."""
    return work_of(geometry_of(model).graph, sizes)


def _each(layer: Layer) -> int:
    """Multiply-adds per voxel: of the result, of the input of a transposed convolution."""
    if not isinstance(layer, Convolution | Transposed):
        return 0
    return layer.inputs // layer.groups * layer.outputs * prod(layer.kernel)


def _counted(layer: Layer, name: str, inputs: Sequence[str]) -> str:
    return inputs[0] if isinstance(layer, Transposed) else name


def multiply_adds_per_voxel(model: NetworkConfig, size: int | Sequence[int]) -> float:
    """Multiply-adds per output voxel of one pass over `size` voxels per axis."""
    axes = enumerate(axes_of(model, size), start=3 - model.dimensions)
    return multiply_adds(model, size) / prod(output_size(model, n, axis) for axis, n in axes)


@lru_cache(maxsize=64)
def least_multiply_adds(model: NetworkConfig) -> float:
    """Multiply-adds per output voxel of a tile without end: the least there can be."""
    graph = geometry_of(model).graph
    scales = [scales_of(graph, axis) for axis in range(graph.dimensions)]
    least = sum(
        _each(node.layer)
        / prod(along[_counted(node.layer, node.name, node.inputs)] for along in scales)
        for node in graph.nodes
    )
    return float(least * prod((along[graph.output] for along in scales), start=Fraction(1)))


def waste(
    model: NetworkConfig,
    inputs: Iterable[Sequence[int]],
    *,
    voxels: int,
    in_window: bool = False,
) -> float:
    """Work spent on `voxels` results, over the least there can be; 1 is perfect.

    `inputs`: sizes (one per axis of the network) of what it is shown for them. `in_window`: with
    its own padding.
    """
    passes = Counter(tuple(sizes) for sizes in inputs)
    work = multiply_adds if in_window else tile_work
    spent = sum(work(model, sizes) * count for sizes, count in passes.items())
    return spent / (least_multiply_adds(model) * voxels)


def least_normalised(model: NetworkConfig, sizes: Sequence[int]) -> dict[str, int]:
    """Fewest voxels of a map that is normalised over them, by kind: batch (per input), instance."""
    graph, found = graph_of(model), dict[str, int]()
    voxels = sizes_in(graph, sizes)
    for node in graph.nodes:
        if isinstance(node.layer, Normalisation) and node.layer.kind != "group":
            kind, count = node.layer.kind, prod(voxels[node.name])
            found[kind] = min(count, found.get(kind, count))
    return found


def axes_of(model: NetworkConfig, size: int | Sequence[int]) -> Sequence[int]:
    """One size per axis of the network."""
    return [size] * model.dimensions if isinstance(size, int) else size
