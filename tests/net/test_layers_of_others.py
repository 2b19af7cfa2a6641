"""Layers that some published networks have: places, groups, scales, kernels that stay."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from tests.net.originals.fill import filled, image
from unet_core.config.networks.build import graph_of
from unet_core.config.networks.graph import INPUT, Graph, Sketch
from unet_core.config.networks.layers import Convolution, Normalisation, Placed, Pooling, Transposed
from unet_core.config.networks.settings import NetworkConfig
from unet_core.config.networks.trace import seen_by, sizes_of
from unet_core.config.presets import PRESETS, read_network
from unet_core.net.folding import folded
from unet_core.net.initial import initialise
from unet_core.net.network import Network


def upscaled(factor: int) -> Graph:
    """Padded, pooled with partial windows, enlarged again and cut to the size of the input."""
    sketch = Sketch(2, 1)
    none, step = (0, 0), (factor, factor)
    x = sketch.convolution("wide", INPUT, 1, padding=5)
    x = sketch.add("pool", Pooling(step, step, none, none, 1, partial=True), x)
    kernel = (2 * factor, 2 * factor)
    x = sketch.add("up", Transposed(1, 1, kernel, step, none, bias=False, learnt=False), x)
    return sketch.graph(sketch.add("placed", Placed(4 + factor // 2), x, INPUT))


@settings(deadline=None, max_examples=15)
@given(size=st.integers(7, 20), factor=st.integers(2, 3), voxel=st.integers(0, 19))
def test_what_a_map_put_in_place_depends_on_is_what_is_traced(
    size: int, factor: int, voxel: int
) -> None:
    graph = upscaled(factor)
    network = Network(graph)
    filled(network)
    x = image(1, 1, size, size).abs().double().requires_grad_()
    y = network.double()(x)
    assert y.shape == x.shape
    assert sizes_of(graph, 0, size)[graph.output] == size
    voxel %= size
    y[0, 0, voxel, :].sum().backward()
    assert x.grad is not None
    reached = x.grad[0, 0].abs().sum(1).nonzero().flatten().tolist()
    start, stop = seen_by(graph, 0, (voxel, voxel + 1), size)
    assert all(start <= row < stop for row in reached)


def test_kernels_that_stay_are_those_of_bilinear_interpolation() -> None:
    sketch = Sketch(2, 2)
    layer = Transposed(2, 2, (4, 4), (2, 2), (1, 1), bias=False, learnt=False)
    network = initialise(Network(sketch.graph(sketch.add("up", layer, INPUT))), seed=0)
    x = image(1, 2, 6, 7)
    expected = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    inner = (..., slice(1, -1), slice(1, -1))
    torch.testing.assert_close(network(x)[inner], expected[inner])


@pytest.mark.parametrize(("width", "groups", "expected"), [(1, 8, 1), (16, 8, 8), (16, None, 2)])
def test_groups_are_as_many_as_asked_for_and_one_where_channels_are_few(
    width: int, groups: int | None, expected: int
) -> None:
    sketch = Sketch(3, width)
    sketch.normalisation("norm", INPUT, kind="group", groups=groups)
    layer = sketch.nodes[0].layer
    assert isinstance(layer, Normalisation)
    assert layer.groups == expected


def test_a_normalisation_without_scale_becomes_part_of_the_convolution_too() -> None:
    config = replace(
        read_network(PRESETS / "unet3d.yaml"), widths=(2, 4, 4), up_widths=(4, 4), depth=2
    )
    network = Network.of(config)
    filled(network)
    x = image(1, 3, 44, 44, 44)
    with torch.inference_mode():
        expected, found = network(x), folded(network)(x)
    assert not any(isinstance(node.layer, Normalisation) for node in folded(network).graph.nodes)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_one_normalisation_follows_a_block_where_order_names_none() -> None:
    config = NetworkConfig(depth=1, width=8, norm="group", order="conv_act", padding="same")
    layers = {node.name: node.layer for node in graph_of(config).nodes}
    assert isinstance(layers["encoder.0.4"], Normalisation)
    assert [n for n in layers if n.startswith("encoder.0.")] == [f"encoder.0.{i}" for i in range(5)]
    assert isinstance(layers["encoder.0.2"], Convolution)
