"""Memory that passes of a network take: arithmetic on its graph."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import zip_longest
from math import prod

from unet_core.config.inference import InferConfig
from unet_core.config.networks.build import graph_of
from unet_core.config.networks.cost import axes_of, parameters, sizes_in
from unet_core.config.networks.geometry import geometry_of
from unet_core.config.networks.graph import Graph
from unet_core.config.networks.layers import Convolution, Transposed
from unet_core.config.networks.live import peak_values
from unet_core.config.networks.settings import NetworkConfig
from unet_core.config.networks.trace import scales_of
from unet_core.windows import Windows

KEPT = 1.6
"""Memory of passes over that of their maps where freed memory is kept for reuse: it lies in pieces
that do not fit what comes next. Measured: 0.9 to 1.58 for six networks (2-D, 3-D, width 16 to 64,
both number types)."""


def maps_mb(model: NetworkConfig, sizes: Sequence[int]) -> float:
    """Memory (MB) of the results of all convolutions of one input, in float32."""
    graph = graph_of(model)
    voxels = sizes_in(graph, sizes)
    kept = (
        graph.channels[node.name] * prod(voxels[node.name])
        for node in graph.nodes
        if isinstance(node.layer, Convolution | Transposed)
    )
    return 4 * sum(kept) / 1e6


def activation_mb(
    model: NetworkConfig, size: int | Sequence[int], *, bytes_per_value: int
) -> float:
    """Most memory (MB) that the feature maps of one inference pass take at a time.

    `size` is of the input: voxels per axis, or one number where all axes are alike.
    """
    graph = graph_of(model).without_auxiliary()
    return bytes_per_value * peak_values(graph, sizes_in(graph, axes_of(model, size))) / 1e6


def run_graph(model: NetworkConfig, *, in_window: bool = False) -> Graph:
    """What inference computes: on exact tiles without padding, in windows with the network's."""
    return graph_of(model).without_auxiliary() if in_window else geometry_of(model).graph


@lru_cache(maxsize=1024)
def _pass_values(
    model: NetworkConfig, sizes: tuple[int, ...], in_window: bool
) -> tuple[int, int, int]:
    """Values of all maps held at a time, and of those at the logits; voxels that a pass yields."""
    graph = run_graph(model, in_window=in_window)
    voxels = sizes_in(graph, sizes)
    before = next(node.inputs[0] for node in graph.nodes if node.name == graph.output)
    yielded = prod(voxels[graph.output])
    width = graph.channels[before] + graph.channels[graph.output]
    return peak_values(graph, voxels), width * yielded, yielded


def pass_mb(
    model: NetworkConfig,
    sizes: Sequence[int],
    *,
    bytes_per_value: int,
    averaged: bool = False,
    in_window: bool = False,
) -> float:
    """Most memory (MB) that one pass over an input of `sizes` takes.

    As on exact tiles; `in_window`: with the network's own padding.

    The input in float32 and as the network sees it, and the maps of the finest level, or the last
    of them with logits, probabilities and their copies; `averaged` over symmetries also the sum of
    those before.
    """
    maps, at_end, yielded = _pass_values(model, tuple(sizes), in_window)
    copied = bytes_per_value == 2 or model.inputs > 1 or averaged
    copies = copied + (model.sections > 1)
    inputs = model.inputs * prod(sizes) * (4 + bytes_per_value * copies)
    last = at_end * bytes_per_value + 3 * 4 * model.classes * yielded
    most = inputs + max(maps * bytes_per_value, last) + averaged * 4 * model.classes * yielded
    return most / 1e6


def yielded_voxels(model: NetworkConfig, sizes: Sequence[int], *, in_window: bool = False) -> int:
    """Voxels that one pass over an input of `sizes` yields."""
    return _pass_values(model, tuple(sizes), in_window)[2]


@lru_cache(maxsize=64)
def values_per_voxel(model: NetworkConfig) -> float:
    """Values of the largest map per voxel of the input, were nothing lost at its edges."""
    graph = graph_of(model).without_auxiliary()
    scales = [scales_of(graph, axis) for axis in range(graph.dimensions)]
    return max(
        float(count / prod(along[name] for along in scales))
        for name, count in graph.channels.items()
    )


def part_mb(
    models: Sequence[NetworkConfig],
    reads: Sequence[Sequence[int]],
    config: InferConfig,
    *,
    bytes_per_value: int,
    core: Sequence[int] = (),
    windows: Sequence[Windows | None] = (),
) -> float:
    """Most memory (MB) that a CPU takes to compute one part of a volume with some networks.

    `reads`: voxels (z, y, x) that each of them sees. Besides a pass that are the float32 results
    of the sections before it, and the sum of those of the networks before it. `core`: voxels
    (z, y, x) that are computed; `windows`: how each network is laid, None: in exact tiles.
    """
    most, total = 0.0, 0.0
    for model, read, laid in zip_longest(models, reads, windows):
        if laid is not None:
            own = windowed_mb(model, laid, core, config, bytes_per_value=bytes_per_value)
            most = max(most, total + own)
            total = total or 4 * len(config.stored(model.classes)) * prod(core) / 1e6
            continue
        sizes = read[3 - model.dimensions :]
        one = pass_mb(
            model, sizes, bytes_per_value=bytes_per_value, averaged=config.averaging != "none"
        )
        sections = 1 if model.dimensions == 3 else read[0] - model.sections + 1
        section = 4 * len(config.stored(model.classes)) * yielded_voxels(model, sizes) / 1e6
        # The last pass; then all sections are joined, and what is stored is made of a copy.
        most = max(most, total + (sections - 1) * section + one, total + 2 * sections * section)
        total = total or sections * section
    return most


def windowed_mb(
    model: NetworkConfig,
    windows: Windows,
    core: Sequence[int],
    config: InferConfig,
    *,
    bytes_per_value: int,
) -> float:
    """Most memory (MB) that a CPU takes to compute `core` voxels (z, y, x) in windows.

    Beside a pass the sum of those before it, the weights, and a result times its weights; in the
    end that sum, its weights, and probabilities and what is stored made of it.
    """
    stored = len(config.stored(model.classes))
    kept = model.outputs if config.averaged == "logits" else stored
    one = pass_mb(
        model,
        windows.seen_size[3 - model.dimensions :],
        bytes_per_value=bytes_per_value,
        averaged=config.averaging != "none",
        in_window=True,
    )
    voxels, weighted = prod(core), prod(windows.size)
    made = model.outputs + stored if config.averaged == "logits" else 0
    last = 4 * voxels * max(kept + 2, kept + made, 2.25 * stored) / 1e6
    return max(one + 4 * (voxels * kept + weighted * (kept + 1)) / 1e6, last)


def weights_mb(model: NetworkConfig) -> float:
    """Memory (MB) of the weights, in float32 and once more as the kernels want them."""
    return 2 * 4 * parameters(model) / 1e6
