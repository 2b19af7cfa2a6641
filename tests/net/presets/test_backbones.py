"""Networks with a backbone, and heads of mmsegmentation, have the numbers that were published."""

from dataclasses import replace
from math import prod

import pytest

from tests.net.presets import parameters
from unet_core.config.networks.build import graph_of
from unet_core.config.networks.cost import multiply_adds
from unet_core.config.networks.layers import Convolution
from unet_core.config.presets import PRESETS, read_network
from unet_core.errors import ConfigError

UNETS = {
    "resnet18": (14_328_209, 11_176_512, 82_368),
    "resnet34": (24_436_369, 21_284_672, 119_232),
    "resnet50": (32_521_105, 23_508_032, 162_240),
    "resnet101": (51_513_233, 42_500_160, 236_224),
    "resnet152": (67_156_881, 58_143_808, 310_208),
    "efficientnet-b0": (6_251_469, 4_007_548, 45_126),
    "efficientnet-b1": (8_757_105, 6_513_184, 48_782),
    "efficientnet-b2": (10_046_291, 7_700_994, 50_976),
    "efficientnet-b3": (13_159_033, 10_696_232, 58_222),
    "efficientnet-b4": (20_225_689, 17_548_616, 70_283),
    "efficientnet-b5": (31_216_001, 28_340_784, 88_153),
    "efficientnet-b6": (43_825_193, 40_735_704, 109_353),
    "efficientnet-b7": (67_095_329, 63_786_960, 146_840),
    "mobilenet_v2": (6_628_945, 2_223_872, 51_041),
    "vgg16": (23_748_241, 14_714_688, 377_424),
    "vgg16_bn": (23_756_689, 14_723_136, 377_424),
}
"""Parameters, those of the backbone, and multiply-adds per pixel of 512 x 512."""

OTHERS = {
    "smp_unetpp_resnet18": 15_970_449,
    "smp_unetpp_resnet34": 26_078_609,
    "smp_unetpp_resnet50": 48_985_745,
    "smp_unetpp_efficientnet-b0": 6_569_581,
    "smp_deeplabv3plus_resnet34": 22_437_457,
    "smp_deeplabv3plus_resnet50": 26_677_585,
}

DEEPLAB = {"resnet50": 39_761_845, "resnet101": 58_753_973, "mobilenet_v2": 5_225_717}
"""With 21 classes and plain convolutions."""

MMSEG = {
    "mmseg_fcn": (29_060_676, 28_986_690, (3.162, 12.65, 50.59, 202.4)),
    "mmseg_pspnet": (29_046_276, 28_972_290, (3.086, 12.34, 49.37, 197.5)),
    "mmseg_deeplabv3": (29_064_996, 28_991_010, (3.175, 12.70, 50.80, 203.2)),
}
"""Parameters, those of inference, and 10^9 multiply-adds of 64, 128, 256 and 512 pixels."""


@pytest.mark.parametrize(("encoder", "counts"), UNETS.items())
def test_a_unet_with_a_backbone_has_the_published_numbers(
    encoder: str, counts: tuple[int, int, int]
) -> None:
    config = read_network(PRESETS / f"smp_unet_{encoder}.yaml")
    nodes = [node for node in graph_of(config).nodes if node.name.startswith("encoder.")]
    own = sum(node.layer.parameters for node in nodes)
    per_pixel = multiply_adds(config, 512) / 512**2
    assert (parameters(f"smp_unet_{encoder}"), own, round(per_pixel)) == counts


@pytest.mark.parametrize(("name", "count"), OTHERS.items())
def test_other_networks_with_a_backbone_have_the_published_parameters(
    name: str, count: int
) -> None:
    assert parameters(name) == count


@pytest.mark.parametrize(("encoder", "count"), DEEPLAB.items())
def test_a_plain_deeplab_has_the_published_parameters(encoder: str, count: int) -> None:
    assert parameters("deeplabv3plus", encoder=encoder, classes=21) == count


@pytest.mark.parametrize("encoder", UNETS)
def test_a_class_and_a_channel_cost_what_was_published(encoder: str) -> None:
    config = read_network(PRESETS / f"smp_unet_{encoder}.yaml")
    name = f"smp_unet_{encoder}"
    stem = next(n.layer for n in graph_of(config).nodes if isinstance(n.layer, Convolution))
    assert parameters(name, classes=3) - parameters(name) == 145
    less = parameters(name) - parameters(name, channels=1)
    assert less == 2 * stem.outputs * prod(stem.kernel)
    if not encoder.startswith("vgg"):
        assert less == (6_272 if encoder.startswith("resnet") else 18 * stem.outputs)


@pytest.mark.parametrize(("name", "counts"), MMSEG.items())
def test_mmsegmentation_has_the_published_numbers(
    name: str, counts: tuple[int, int, tuple[float, ...]]
) -> None:
    config = read_network(PRESETS / f"{name}.yaml")
    assert parameters(name) == counts[0]
    assert parameters(name, auxiliary=0.0) == counts[1]
    lean = graph_of(config).without_auxiliary().nodes
    assert sum(node.layer.parameters for node in lean) == counts[1]
    for size, giga in zip((64, 128, 256, 512), counts[2], strict=True):
        assert multiply_adds(config, size) / 1e9 == pytest.approx(giga, rel=5e-4)


def test_the_padding_of_efficientnet_is_that_of_its_nominal_size() -> None:
    # 260 -> 130 -> 65 -> 33 -> 17 -> 9: even sizes lack a voxel behind, odd ones none.
    for encoder, zeros in {
        "efficientnet-b0": [(0, 1), (0, 1), (1, 2), (0, 1), (1, 2)],
        "efficientnet-b2": [(0, 1), (0, 1), (2, 2), (1, 1), (2, 2)],
    }.items():
        config = read_network(PRESETS / f"smp_unet_{encoder}.yaml")
        steps = [
            (node.layer.before[0], node.layer.after[0])
            for node in graph_of(config).nodes
            if isinstance(node.layer, Convolution) and node.layer.stride[0] == 2
        ]
        assert steps == zeros


def test_a_backbone_halves_five_times_and_is_flat() -> None:
    config = read_network(PRESETS / "smp_unet_resnet18.yaml")
    for wrong in (replace(config, depth=4), replace(config, dimensions=3)):
        with pytest.raises(ConfigError, match=r"model\.depth to 5"):
            graph_of(wrong)


def test_vgg_cannot_be_dilated() -> None:
    with pytest.raises(ConfigError, match="last stage can keep its voxels"):
        graph_of(read_network(PRESETS / "smp_deeplabv3plus_vgg16.yaml"))


def test_the_centre_of_vgg_is_read_in_a_unet_alone() -> None:
    for kind, read in (("unet", True), ("unetpp", False)):
        graph = graph_of(read_network(PRESETS / f"smp_{kind}_vgg16_bn.yaml"))
        assert "bottom.0" in graph.channels
        assert ("bottom.0" in graph.read_by([graph.output])) == read
