"""Presets of Keras networks have the numbers of parameters that were published."""

import pytest

from tests.net.presets import parameters
from unet_core.config.networks.build import graph_of
from unet_core.config.networks.layers import Normalisation
from unet_core.config.networks.trace import sizes_of
from unet_core.config.presets import PRESETS, read_network

PUBLISHED = {
    "zhixuhao": (31_031_685, 31_031_685),
    "keras_unet": (4_468_418, 4_471_746),
    "keras_unet_mini": (471_010, 471_010),
    "keras_vgg_unet": (12_321_026, 12_322_946),
    "keras_resnet50_unet": (16_340_930, 16_373_442),
    "keras_mobilenet_unet": (6_298_882, 6_315_522),
    "intel_2d": (1_940_817, 1_940_817),
    "intel_2d_nearest": (1_962_337, 1_962_337),
    "intel_3d": (5_647_857, 5_650_801),
}
"""Numbers that training adjusts; with the means and variances that normalisations keep."""

CHANGED = [
    ("keras_unet", {"classes": 50}, 4_499_442 - 3_328),
    ("keras_vgg_unet", {"classes": 50}, 12_350_642 - 1_920),
    ("keras_mobilenet_unet", {"classes": 50}, 6_343_218 - 16_640),
    ("keras_resnet50_unet", {"classes": 50}, 16_401_138 - 32_512),
    ("keras_unet_mini", {"classes": 50, "channels": 3}, 473_170),
    ("keras_unet_mini", {"classes": 3}, 471_010 + 33),
    ("intel_2d", {"width": 32}, 7_759_521),
    ("intel_2d_nearest", {"width": 32}, 7_846_081),
]

HALVED = ("keras_unet", "keras_vgg_unet", "keras_resnet50_unet", "keras_mobilenet_unet")


@pytest.mark.parametrize(("name", "counts"), PUBLISHED.items())
def test_a_preset_has_the_published_parameters(name: str, counts: tuple[int, int]) -> None:
    graph = graph_of(read_network(PRESETS / f"{name}.yaml"))
    norms = (node.layer for node in graph.nodes if isinstance(node.layer, Normalisation))
    kept = sum(2 * layer.width for layer in norms)
    assert (parameters(name), parameters(name) + kept) == counts


@pytest.mark.parametrize(("name", "changes", "count"), CHANGED)
def test_a_variant_has_the_published_parameters(
    name: str, changes: dict[str, object], count: int
) -> None:
    assert parameters(name, **changes) == count


@pytest.mark.parametrize("name", PUBLISHED)
def test_outputs_are_as_large_as_inputs(name: str) -> None:
    graph = graph_of(read_network(PRESETS / f"{name}.yaml"))
    assert sizes_of(graph, 0, 416)[graph.output] == 416
    assert ("full_size" in sizes_of(graph, 0, 416)) == (name in HALVED)


def test_the_second_tap_of_resnet_has_a_row_of_zeros_in_front() -> None:
    sizes = sizes_of(graph_of(read_network(PRESETS / "keras_resnet50_unet.yaml")), 0, 416)
    pooled, padded = sizes["encoder.pool1"], sizes["encoder.one_side_pad"]
    assert (sizes["encoder.conv1"], pooled, padded) == (208, 103, 104)
