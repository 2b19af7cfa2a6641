"""Any settings describe a network that computes what its graph says, or are refused."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_core.config import load
from unet_core.config.networks.build import graph_of
from unet_core.config.networks.everywhere import Bins
from unet_core.config.networks.graph import Graph
from unet_core.config.networks.settings import ENCODERS, NetworkConfig
from unet_core.config.networks.trace import sizes_of
from unet_core.errors import ConfigError
from unet_core.net.network import Network

LEVELS = st.integers(1, 2)
SIZE = 52
"""Voxels per axis: enough for two poolings without padding."""

SETTINGS = st.fixed_dictionaries(
    {
        "architecture": st.sampled_from(["unet", "unetpp"]),
        "depth": LEVELS,
        "width": st.just(2),
        "channels": st.integers(1, 2),
        "classes": st.integers(2, 3),
    },
    optional={
        "output": st.just("sigmoid"),
        "decoder_widths": st.lists(st.integers(1, 3), min_size=1, max_size=3).map(tuple),
        "up_widths": st.lists(st.integers(1, 3), min_size=1, max_size=2).map(tuple),
        "convolutions": st.integers(1, 3),
        "decoder_convolutions": st.integers(1, 2),
        "kernel": st.sampled_from([1, 3]),
        "padding": st.just("same"),
        "norm": st.sampled_from(["batch", "instance"]),
        "decoder_norm": st.sampled_from(["none", "batch"]),
        "order": st.sampled_from(["conv_act_norm", "norm_conv_act", "conv_act"]),
        "decoder_order": st.just("conv_act_norm"),
        "conv_bias": st.booleans(),
        "activation": st.sampled_from(["leaky_relu", "prelu", "elu", "swish"]),
        "separable": st.just(True),
        "standardised": st.booleans(),
        "middle": st.just("half_outputs"),
        "decoder_middle": st.just("half_inputs"),
        "down": st.just("convolution"),
        "up": st.sampled_from(["nearest", "bilinear"]),
        "up_kernel": st.sampled_from([0, 1, 2, 4]),
        "up_bias": st.booleans(),
        "up_norm": st.just("batch"),
        "up_activation": st.sampled_from([True, "relu"]),
        "align_corners": st.booleans(),
        "join": st.sampled_from(["up_skip", "up_newest"]),
        "skip": st.just("after_pooling"),
        "full_size": st.booleans(),
        "fit": st.just("pad"),
        "dropout_levels": st.just((0,)),
        "dropout_place": st.just("between"),
        "decoder_dropout": st.booleans(),
        "dropout_channels": st.booleans(),
        "head": st.sampled_from(["narrow", "fcn", "psp", "aspp"]),
        "head_kernel": st.just(3),
        "auxiliary": st.just(0.4),
        "supervision": st.sampled_from(["levels", "mean", "nodes"]),
        "shift": st.just(-0.5),
    },
)


def graph_or_none(chosen: dict[str, object]) -> Graph | None:
    """The graph of settings; None where they are refused."""
    try:
        return graph_of(load(NetworkConfig, chosen, section="model"))
    except ConfigError:
        return None


@given(SETTINGS)
@settings(deadline=None, max_examples=150)
def test_a_network_makes_maps_of_the_sizes_that_were_traced(chosen: dict[str, object]) -> None:
    graph = graph_or_none(chosen)
    if graph is None or min(sizes_of(graph, 0, SIZE).values()) < 1:
        return
    torch.manual_seed(0)
    network = Network(graph).eval()
    names = [graph.output, *(name for name, _ in graph.auxiliary)]
    sizes = sizes_of(graph, 0, SIZE)
    with torch.inference_mode():
        maps = network.maps(torch.zeros(1, graph.inputs, SIZE, SIZE), names)
    for name, made in zip(names, maps, strict=True):
        assert made.shape == (1, graph.channels[name], sizes[name], sizes[name])
    counted = sum(node.layer.parameters for node in graph.nodes)
    assert counted == sum(parameter.numel() for parameter in network.parameters())


ANY = st.fixed_dictionaries(
    {},
    optional={
        "architecture": st.sampled_from(["unet", "unetpp", "deeplabv3plus", "fcn8s", "vnet"]),
        "dimensions": st.sampled_from([2, 3]),
        "depth": st.integers(1, 6) | st.tuples(*[st.integers(0, 3)] * 3),
        "encoder": st.sampled_from(["plain", *ENCODERS]),
        "decoder_widths": st.lists(st.integers(1, 9), max_size=6).map(tuple),
        "widths": st.lists(st.integers(1, 9), max_size=6).map(tuple),
        "width": st.sampled_from([1, 8, 20]),
        "padding": st.just("same"),
        "norm": st.sampled_from(["batch", "group", "instance"]),
        "groups": st.integers(1, 9),
        "up": st.sampled_from(["nearest", "bilinear"]),
        "skip": st.just("after_pooling"),
        "head": st.sampled_from(["narrow", "fcn", "psp", "aspp"]),
        "auxiliary": st.just(0.4),
        "supervision": st.sampled_from(["levels", "mean", "nodes"]),
        "strides": st.lists(st.tuples(*[st.integers(1, 3)] * 2), max_size=4).map(tuple),
        "kernels": st.lists(st.tuples(*[st.sampled_from([1, 3])] * 2), max_size=4).map(tuple),
    },
)


@given(ANY)
@settings(deadline=None, max_examples=150)
def test_settings_of_any_network_are_built_or_refused(chosen: dict[str, object]) -> None:
    graph = graph_or_none(chosen)
    assert graph is None or graph.channels[graph.output] > 0


@pytest.mark.parametrize("head", ["psp", "aspp"])
def test_heads_that_average_over_the_map_do_so_in_3d_too(head: str) -> None:
    config = {"dimensions": 3, "depth": 1, "width": 4, "padding": "same", "head": head}
    graph = graph_of(load(NetworkConfig, config, section="model"))
    means = [node.name for node in graph.nodes if isinstance(node.layer, Bins)]
    with torch.inference_mode():
        made = Network(graph).eval().maps(torch.zeros(1, 1, 6, 8, 10), means)
    sizes = sizes_of(graph, 0, 6)
    assert [x.shape[2:] for x in made] == [(sizes[name],) * 3 for name in means]
