"""Stride, halo and memory of networks small enough to be traced by hand."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_core.config import NetworkConfig
from unet_core.config.networks.build import graph_of
from unet_core.config.networks.cost import sizes_in
from unet_core.config.networks.geometry import geometry_of, own_lost
from unet_core.config.networks.graph import INPUT, Graph, Sketch
from unet_core.config.networks.layers import Cut, Interpolation, Join, Pooling, Sum
from unet_core.config.networks.live import overwriting, peak_values
from unet_core.config.networks.memory import values_per_voxel
from unet_core.config.networks.trace import seen_by, sizes_of, stride_of
from unet_core.config.networks.unpadded import unpadded
from unet_core.errors import ConfigError

plain = st.builds(
    NetworkConfig,
    padding=st.just("same"),
    depth=st.integers(1, 4),
    convolutions=st.integers(1, 3),
    kernel=st.sampled_from([1, 3, 5]),
    up=st.sampled_from(["transposed", "nearest", "bilinear"]),
    down=st.sampled_from(["pooling", "convolution"]),
)


def strided() -> Sketch:
    """Half the voxels by a padded 3x3 convolution, and back by repetition."""
    sketch = Sketch(2, 1)
    x = sketch.convolution("down", INPUT, 4, stride=2)
    sketch.add("up", Interpolation((2, 2), "nearest"), x)
    return sketch


def test_a_strided_convolution_by_hand() -> None:
    graph = strided().graph("up")
    assert stride_of(graph, 0) == 2
    # Voxel 0 and 1 are made of the window around voxel 0: from -1 to 1.
    assert seen_by(graph, 0, (0, 1), 8) == seen_by(graph, 0, (1, 2), 8) == (-1, 2)
    run = unpadded(graph)
    assert (run.halo, run.lost) == ((1, 1), (1, 1))
    # Six voxels and their halo: three windows from -1 on, one voxel at the end is in none.
    assert sizes_of(run.graph, 0, 6 + 2)["up"] == 6


def test_paths_that_lose_differently_are_cut_alike() -> None:
    sketch = strided()
    wide = sketch.convolution("wide", INPUT, 4, kernel=7)
    graph = sketch.graph(sketch.add("sum", Sum(), "up", wide))
    run = unpadded(graph)
    assert run.halo == (3, 3)
    assert run.lost == (3, 3)
    cuts = {node.name: node.layer for node in run.graph.nodes if isinstance(node.layer, Cut)}
    # The first window that is whole begins at -3, where the input does; its results are -2 and -1.
    assert cuts == {"sum_cut0": Cut((2, 2), (2, 2))}
    sizes = sizes_of(run.graph, 0, 8 + 6)
    assert sizes["sum"] == 8


@given(config=plain, tiles=st.integers(1, 5))
@settings(deadline=None, max_examples=30)
def test_without_padding_a_tile_on_the_grid_is_yielded_whole(
    config: NetworkConfig, tiles: int
) -> None:
    graph = graph_of(config)
    run, stride = unpadded(graph), stride_of(graph, 0)
    size = tiles * stride + 2 * run.halo[0]
    assert sizes_of(run.graph, 0, size)[run.graph.output] == size - 2 * run.lost[0]
    assert 0 <= run.lost[0] <= run.halo[0] < run.lost[0] + stride
    if config.down == "pooling":
        assert run.lost[1:] == own_lost(replace(config, padding="valid"))[2:]


@given(config=plain)
@settings(deadline=None, max_examples=15)
def test_numbers_per_axis_are_those_of_networks_that_are_alike_along_all(
    config: NetworkConfig,
) -> None:
    deep = replace(config, dimensions=3)
    assert geometry_of(deep).halo == geometry_of(config).halo[2:] * 3
    assert geometry_of(deep).stride == geometry_of(config).stride[2:] * 3


def test_an_axis_that_is_pooled_less_has_a_smaller_stride_and_halo() -> None:
    config = NetworkConfig(dimensions=3, depth=(1, 3, 3))
    alike = [geometry_of(NetworkConfig(dimensions=3, depth=n)) for n in (1, 3)]
    found = geometry_of(config)
    assert found.stride == (2, 8, 8)
    assert found.halo == (alike[0].halo[0], *alike[1].halo[1:])


def drawn() -> Graph:
    sketch = Sketch(2, 1)
    first = sketch.convolution("first", INPUT, 4)
    skip = sketch.activation("skip", first)
    twice = sketch.activation("twice", skip)
    pooled = sketch.add("pooled", Pooling((2, 2), (2, 2), (0, 0), (0, 0), 1), twice)
    up = sketch.add("up", Interpolation((2, 2), "nearest"), pooled)
    return sketch.graph(sketch.add("join", Join(), skip, up))


def test_what_is_read_later_is_not_overwritten() -> None:
    assert overwriting(drawn()) == {"skip"}


def test_memory_is_of_what_is_read_later() -> None:
    graph = drawn()
    sizes = sizes_in(graph, (8, 8))
    # Skip, its copy, pooled; then skip, pooled, up; then skip, up and both side by side.
    assert peak_values(graph, sizes) == 64 * (4 + 4 + 8)
    # Beside the input a convolution holds its weights once more: too little to count here.
    assert values_per_voxel(NetworkConfig()) == 128


def test_logits_of_larger_voxels_cannot_be_laid_over_a_volume() -> None:
    half = NetworkConfig(
        padding="same", depth=2, widths=(4, 4, 4), skip="after_pooling", decoder_widths=(4, 4, 4)
    )
    assert geometry_of(half).is_exact
    with pytest.raises(ConfigError, match=r"set model\.full_size to true"):
        geometry_of(replace(half, full_size=False))
