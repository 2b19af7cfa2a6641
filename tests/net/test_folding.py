"""Normalisations made part of convolutions change nothing, whatever the network."""

import pytest
import torch

from tests.net.test_tiling_presets import PRESETS
from tests.net.thin import has_lines, thinned
from unet_core.config.networks.build import graph_of
from unet_core.config.networks.graph import INPUT, Graph, Sketch
from unet_core.config.networks.layers import Transposed
from unet_core.net.folding import folded
from unet_core.net.initial import initialise
from unet_core.net.network import Network


def trained(graph: Graph) -> Network:
    """In double precision, with means and variances as if it had been trained."""
    network = initialise(Network(graph), seed=0).double().eval()
    generator = torch.Generator().manual_seed(1)
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm2d | torch.nn.BatchNorm3d):
            assert part.running_mean is not None
            assert part.running_var is not None
            part.running_mean.normal_(generator=generator)
            part.running_var.uniform_(0.5, 2, generator=generator)
    return network


def normalisations(network: Network) -> int:
    return sum(name.endswith("running_var") for name in network.state_dict())


def sketched() -> Graph:
    sketch = Sketch(2, 4)
    x = sketch.convolution("grouped", INPUT, 8, groups=4, bias=False)
    x = sketch.normalisation("grouped_norm", x)
    x = sketch.convolution("standardised", x, 6, standardised=True)
    x = sketch.normalisation("standardised_norm", x, eps=1e-3)
    up = Transposed(6, 4, (4, 4), (2, 2), (1, 1), groups=2)
    x = sketch.normalisation("up_norm", sketch.add("up", up, x))
    read_twice = sketch.convolution("read_twice", x, 4)
    x = sketch.normalisation("kept", read_twice)
    x = sketch.activation("rectified", x)
    return sketch.graph(sketch.convolution("head", x, 2), [(read_twice, 0.5)])


@torch.inference_mode()
def test_groups_transposed_and_standardised_convolutions_are_folded() -> None:
    network = trained(sketched())
    x = torch.randn(1, 4, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    without = folded(network)
    assert (normalisations(network), normalisations(without)) == (4, 1)
    for a, b in zip(without.outputs(x), network.outputs(x), strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-12)


NORMALISED = [name for name, config in PRESETS.items() if "batch" in (config.norm, config.up_norm)]


@pytest.mark.parametrize("name", NORMALISED)
@torch.inference_mode()
def test_folding_changes_no_preset(name: str) -> None:
    graph = graph_of(PRESETS[name]).without_auxiliary()
    network = trained(thinned(graph, axis=graph.dimensions - 1 if has_lines(graph) else None))
    sizes = [1] * (graph.dimensions - 1)
    x = torch.randn(
        1,
        graph.inputs,
        *sizes,
        256,
        dtype=torch.float64,
        generator=torch.Generator().manual_seed(2),
    )
    expected = network(x)
    assert (folded(network)(x) - expected).abs().max() <= 1e-10 * expected.abs().max()
