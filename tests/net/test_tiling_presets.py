"""Every preset: what its results depend on, and that tiles make the whole, in float64."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.net.thin import has_lines, small_numbered, thinned, whole_numbered
from unet_core.config.networks.build import graph_of
from unet_core.config.networks.geometry import (
    Geometry,
    geometry_of,
    own_lost,
    padded_graph,
    padded_halo,
)
from unet_core.config.networks.graph import Graph
from unet_core.config.networks.layers import Interpolation
from unet_core.config.networks.settings import NetworkConfig
from unet_core.config.networks.unpadded import unpadded
from unet_core.config.presets import read_network
from unet_core.net.initial import initialise
from unet_core.net.network import Network

MODELS = Path(__file__).parents[2] / "config/models"
BACKBONES = {
    "smp_unet": ("resnet18", "resnet50", "mobilenet_v2", "vgg16_bn", "efficientnet-b0"),
    "smp_unetpp": ("resnet18",),
    "smp_deeplabv3plus": ("resnet18",),
}
"""Of the presets that serve a family."""


def presets() -> dict[str, NetworkConfig]:
    found = {}
    for path in sorted(MODELS.glob("*.yaml")):
        family = path.stem.removesuffix("_ENCODER")
        for name in BACKBONES[family] if family != path.stem else ("ENCODER",):
            one = path.with_name(path.name.replace("ENCODER", name))
            found[one.stem] = read_network(one)
    return found


PRESETS = presets()
EXACT = sorted(name for name, config in PRESETS.items() if geometry_of(config).is_exact)
INEXACT = sorted(set(PRESETS) - set(EXACT))


FAR = 200
"""A halo (px) of which sections take seconds."""


@dataclass(frozen=True)
class Lines:
    """A network that sees lines along one axis, and how long they are."""

    config: NetworkConfig
    axis: int
    """Of (z, y, x)."""

    @property
    def own(self) -> int:
        return self.axis + self.config.dimensions - 3

    @property
    def found(self) -> Geometry:
        return geometry_of(self.config)

    @property
    def stride(self) -> int:
        return self.found.stride[self.axis]

    @property
    def halo(self) -> int:
        return self.found.halo[self.axis]

    def graph(self, graph: Graph) -> Graph:
        return thinned(graph, axis=self.own if has_lines(graph) else None)

    def shape(self, count: int, length: int) -> list[int]:
        across = 1 if has_lines(graph_of(self.config)) else self.found.stride[self.axis]
        sizes = [across] * self.config.dimensions
        sizes[self.own] = length
        return [count, self.config.inputs, *sizes]

    def run(self, network: Network, x: Tensor) -> Tensor:
        """(n, length) -> (n, voxels): n lines, alike across; sums of all results across."""
        shape = self.shape(len(x), x.shape[1])
        order = [1] * len(shape)
        order[0], order[2 + self.own] = x.shape
        result = network(x.reshape(order).expand(shape).contiguous())
        return result.movedim(2 + self.own, 1).flatten(2).sum(dim=2)


CASES = [
    (name, axis)
    for name in EXACT
    for axis in ((0, 2) if PRESETS[name].dimensions == 3 else (2,))  # along y as along x
]


@pytest.mark.parametrize(("name", "axis"), CASES)
@torch.inference_mode()
def test_a_voxel_at_the_halo_s_edge_changes_a_tile_and_none_beyond_it_does(
    name: str, axis: int
) -> None:
    lines = Lines(PRESETS[name], axis)
    around, stride, halo = padded_halo(lines.config)[axis], lines.stride, lines.halo
    around = -(-max(around, halo) // stride) * stride + stride
    length, stop = 2 * around + stride, around + stride
    network = whole_numbered(lines.graph(padded_graph(lines.config)))
    at = [around - halo - 1, around - halo, stop + halo - 1, stop + halo]
    x = torch.zeros(len(at), length, dtype=torch.float64)
    # Not a number: what depends on it is none either, however little it weighs.
    x[range(len(at)), at] = torch.nan
    changed = lines.run(network, x)[:, around:stop].isnan().any(dim=1)
    assert not changed[0]
    assert not changed[3]
    assert changed[1] or changed[2]


@pytest.mark.parametrize(("name", "axis"), CASES)
@torch.inference_mode()
def test_nothing_beyond_its_reach_changes_a_voxel(name: str, axis: int) -> None:
    lines = Lines(PRESETS[name], axis)
    assert lines.found.reach is not None
    reach, stride = lines.found.reach[axis], lines.stride
    around = (reach // stride + 1) * stride
    network = whole_numbered(lines.graph(padded_graph(lines.config)))
    at = torch.arange(around, around + stride, max(1, stride // 8 if stride > 16 else 1))
    if not has_lines(network.graph):
        at = at[:2]
    x = torch.zeros(len(at), 2 * around + stride, dtype=torch.float64)
    x[torch.arange(len(at)), at] = torch.nan
    changed = lines.run(network, x).isnan()
    distance = (torch.arange(x.shape[1]) - at[:, None]).abs()
    assert changed.any()
    assert int(distance[changed].max()) <= reach


def tolerance(config: NetworkConfig) -> float:
    """0 where every step is exact in float64: all but linear interpolation."""
    layers = [node.layer for node in padded_graph(config).nodes]
    linear = any(isinstance(layer, Interpolation) and layer.mode == "linear" for layer in layers)
    return 1e-12 if linear else 0.0


@pytest.mark.parametrize("name", EXACT)
@torch.inference_mode()
def test_tiles_make_the_whole(name: str) -> None:
    """Of a section two tiles long and one wide; of lines where that would take long."""
    config = PRESETS[name]
    found, own = geometry_of(config), slice(3 - config.dimensions, 3)
    stride, halo = found.stride[own], found.halo[own]
    lines = Lines(config, 2)
    alone = config.dimensions == 3 or (halo[-1] > FAR and has_lines(graph_of(config)))
    make = lines.graph if alone else thinned
    network = whole_numbered(make(graph_of(config).without_auxiliary()))
    run = unpadded(make(padded_graph(config)))
    tile = small_numbered(Network(run.graph)).double().eval()
    tile.load_state_dict(network.state_dict())
    if alone:
        across = len(stride) - 1
        stride, halo = (1,) * across + stride[-1:], (0,) * across + halo[-1:]
    assert run.halo == halo
    # The whole begins where the grid does, its border is not looked at.
    valid = config.padding == "valid"
    border = [h if valid else -(-h // s) * s for h, s in zip(halo, stride, strict=True)]
    sizes = [2 * b + s for b, s in zip(border, stride, strict=True)]
    sizes[-1] += stride[-1]
    generator = torch.Generator().manual_seed(1)
    x = torch.randint(0, 5, (1, config.inputs, *sizes), generator=generator).double()
    whole = network(x)
    cut = [0 if n == 1 else lost for n, lost in zip(sizes, own_lost(config)[own], strict=True)]
    inner = middle(whole, [b - c for b, c in zip(border, cut, strict=True)])
    begin = [b - h for b, h in zip(border, halo, strict=True)]
    found_tiles = []
    for number in range(2):
        first = [*begin[:-1], begin[-1] + number * stride[-1]]
        seen = x
        for axis, (start, s, h) in enumerate(zip(first, stride, halo, strict=True), start=2):
            seen = seen.narrow(axis, start, s + 2 * h)
        beyond = [h - lost for h, lost in zip(halo, run.lost, strict=True)]
        found_tiles.append(middle(tile(seen), beyond))
    tiled = torch.cat(found_tiles, dim=-1)
    assert tiled.shape == inner.shape
    assert inner.std() > 0
    assert (tiled - inner).abs().max() <= tolerance(config) * max(1.0, float(inner.abs().max()))


def middle(x: Tensor, cut: list[int]) -> Tensor:
    for axis, n in enumerate(cut, start=2):
        x = x.narrow(axis, n, x.shape[axis] - 2 * n)
    return x


@pytest.mark.parametrize("name", INEXACT)
@torch.inference_mode()
def test_what_has_no_exact_tiles_says_so_and_depends_on_what_is_seen(name: str) -> None:
    config = PRESETS[name]
    found = geometry_of(config)
    assert found.inexact
    assert found.reach is None
    lines = Lines(config, 2)
    network = Network(lines.graph(graph_of(config).without_auxiliary()))
    network = initialise(network, seed=0).double().eval()
    length = -(-512 // lines.stride) * lines.stride
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(1, 2 * length, generator=generator, dtype=torch.float64)
    whole, part = lines.run(network, x), lines.run(network, x[:, :length])
    assert (whole[:, : length // 2] - part[:, : length // 2]).abs().max() > 1e-6
