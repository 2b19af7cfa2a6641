"""How a network is laid over a volume, traced from its graph: stride, halo, sizes it accepts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import count

from unet_core.config.base import Zyx
from unet_core.config.networks.build import graph_of
from unet_core.config.networks.graph import Graph
from unet_core.config.networks.layers import Convolution, Fitted, Pooling
from unet_core.config.networks.settings import NetworkConfig
from unet_core.config.networks.trace import scales_of, seen_by, sizes_of, stride_of
from unet_core.config.networks.unpadded import unpadded
from unet_core.errors import ConfigError

_SIZES_TRIED = 10_000


@dataclass(frozen=True)
class Geometry:
    """Voxels along (z, y, x); along z a 2-D network sees its sections and nothing else."""

    graph: Graph
    """The network as inference runs it: on tiles without padding, in windows as it is."""

    stride: Zyx
    """Shifts that the network commutes with, and no others."""

    halo: Zyx
    """Per side to see around a tile that starts and ends on multiples of the stride.

    A voxel this far from such a tile changes its result, one farther away does not. Of networks
    without exact tiles: what they lose.
    """

    lost: Zyx
    """Per side by which the result of `graph` is smaller than what it is shown; at most the halo.

    What it yields beyond the tile is to be cropped: the pooling grid then is that of the whole
    volume seen at once.
    """

    reach: Zyx | None
    """Nothing farther away changes the result of a voxel, wherever on the grid it lies; None:
    all that is seen does."""

    inexact: str | None
    """Why tiles cannot agree exactly with the volume seen at once; None: they do."""

    @property
    def is_exact(self) -> bool:
        """Tiles agree exactly with the volume seen at once."""
        return self.inexact is None


@lru_cache(maxsize=256)
def geometry_of(config: NetworkConfig) -> Geometry:
    """How the network that the settings describe is laid over a volume.

    Raises
    ------
    ConfigError
        If settings contradict each other, or logits have not the voxels of the input.
    """
    graph = graph_of(config).without_auxiliary()
    if any(scales_of(graph, axis)[graph.output] != 1 for axis in range(graph.dimensions)):
        raise ConfigError(
            "the network's logits have larger voxels than what it is shown, so that they cannot be "
            "laid over a volume; set model.full_size to true"
        )
    stride = _zyx(config, [stride_of(graph, axis) for axis in range(graph.dimensions)], 1)
    if told := sorted({node.layer.told for node in graph.nodes if not node.layer.is_local}):
        lost = own_lost(config)
        return Geometry(graph, stride, lost, lost, None, "; ".join(told))
    padded = padded_graph(config)
    run, beside = unpadded(padded), config.sections // 2
    reach = [_reach(padded, axis) for axis in range(graph.dimensions)]
    return Geometry(
        run.graph,
        stride,
        _zyx(config, run.halo, beside),
        _zyx(config, run.lost, beside),
        _zyx(config, reach, beside),
        None,
    )


def padded_graph(config: NetworkConfig) -> Graph:
    """The network with zero padding, without what training alone looks at.

    Of a network without padding it is the counterpart, which tells where the pooling grid lies.
    """
    return graph_of(replace(config, padding="same")).without_auxiliary()


def padded_halo(config: NetworkConfig) -> Zyx:
    """Voxels (z, y, x) per side that a pass with the network's own padding needs.

    Of networks without padding: what they lose. Else the least multiple of the stride at which
    tiles on multiples of the stride agree exactly with the whole volume.
    """
    found = geometry_of(config)
    if config.padding == "valid":
        return found.lost
    z, y, x = (-(-h // s) * s for h, s in zip(found.halo, found.stride, strict=True))
    return z, y, x


def own_lost(config: NetworkConfig) -> Zyx:
    """Voxels (z, y, x) per side by which results are smaller, run with the network's own padding.

    Along z of a 2-D network: the sections on one side of the middle one.
    """
    graph = graph_of(config)
    least = (_least_size(config, axis) for axis in range(graph.dimensions))
    lost = [
        (size - sizes_of(graph, axis, size)[graph.output]) // 2 for axis, size in enumerate(least)
    ]
    return _zyx(config, lost, config.sections // 2)


def input_sizes(config: NetworkConfig, axis: int = 2) -> Iterator[int]:
    """Sizes that the network accepts along an axis of (z, y, x), rising without end."""
    own = _own_axis(config, axis)
    return count(_least_size(config, own), stride_of(graph_of(config), own))


def output_size(config: NetworkConfig, size: int, axis: int = 2) -> int:
    """Voxels that `size` voxels yield along an axis of (z, y, x).

    Raises
    ------
    ConfigError
        If `size` is not accepted.
    """
    if size != (nearest := nearest_input_size(config, size, axis)):
        raise ConfigError(
            f"the network does not accept {size} voxels per axis; the nearest size it does: "
            f"{nearest} (`unet-core describe` lists them)"
        )
    graph = graph_of(config)
    return sizes_of(graph, _own_axis(config, axis), size)[graph.output]


def nearest_input_size(config: NetworkConfig, size: int, axis: int = 2) -> int:
    """The accepted size that is closest to `size`; of two equally close, the larger."""
    own = _own_axis(config, axis)
    least, stride = _least_size(config, own), stride_of(graph_of(config), own)
    return least + max((2 * (size - least) + stride) // (2 * stride), 0) * stride


def nearest_patch(config: NetworkConfig, patch: Sequence[int]) -> Zyx:
    """The voxels (z, y, x) closest to `patch` that the network accepts."""
    axes = range(3 - config.dimensions, 3)
    return _zyx(
        config, [nearest_input_size(config, patch[axis], axis) for axis in axes], config.sections
    )


@lru_cache(maxsize=1024)
def _least_size(config: NetworkConfig, axis: int) -> int:
    """The smallest size that leaves something of every map, and no voxel out."""
    graph = graph_of(config)
    step = stride_of(graph, axis) if config.padding == "same" else 1
    for size in range(step, _SIZES_TRIED, step):
        if _fits(graph, axis, size, exactly=config.padding == "valid"):
            return size
    raise ConfigError(f"the network accepts no size up to {_SIZES_TRIED} voxels per axis")


def _fits(graph: Graph, axis: int, size: int, *, exactly: bool) -> bool:
    """Whether something is left of every map; `exactly`: windows and cuts leave nothing over."""
    sizes = sizes_of(graph, axis, size)
    if min(sizes.values()) < 1:
        return False
    for node in graph.nodes if exactly else ():
        given = [sizes[name] for name in node.inputs]
        if isinstance(node.layer, Convolution | Pooling):
            if node.layer.size(axis, given) == node.layer.size(axis, [given[0] - 1]):
                return False
        elif isinstance(node.layer, Fitted) and (given[0] < given[1] or (given[0] - given[1]) % 2):
            return False
    return True


def _own_axis(config: NetworkConfig, axis: int) -> int:
    """Number among the network's axes of one of (z, y, x)."""
    own = axis + config.dimensions - 3
    if own < 0:
        raise ValueError("a 2-D network has no size along z")
    return own


def _reach(graph: Graph, axis: int) -> int:
    stride = stride_of(graph, axis)
    reach = 0
    for voxel in range(stride):
        start, stop = seen_by(graph, axis, (voxel, voxel + 1), _TILES * stride)
        reach = max(reach, voxel - start, stop - 1 - voxel)
    return reach


_TILES = 4
"""Strides of the volume that dependencies are traced in; they are the same in all."""


def _zyx(config: NetworkConfig, values: Sequence[int], along_z: int) -> Zyx:
    z, y, x = values if config.dimensions == 3 else (along_z, *values)
    return z, y, x
