"""Which weights a recipe changes, and how fast: the encoder of every preset, and its levels."""

from dataclasses import replace
from fractions import Fraction
from math import prod

import pytest

from unet_core.config import NetworkConfig, TrainConfig
from unet_core.config.networks.build import graph_of
from unet_core.config.networks.graph import INPUT, Graph
from unet_core.config.networks.trace import scales_of
from unet_core.config.presets import FAMILY, PRESETS, read_network
from unet_core.net.network import Network, on_meta
from unet_core.net.optimisers import freeze, groups, levels_of

BACKBONES = ("resnet18", "efficientnet-b0", "mobilenet_v2", "vgg16_bn")
SHORT = TrainConfig(steps=1, layer_decay=0.5)


def presets() -> list[str]:
    """All of them; those of a family with a backbone of each kind."""
    found: list[str] = []
    for path in sorted(PRESETS.glob("*.yaml")):
        dilated = path.stem.startswith("smp_deeplab")
        names = [name for name in BACKBONES if not (dilated and name.startswith("vgg"))]
        of_family = path.stem.endswith(FAMILY)
        found += [path.stem.replace(FAMILY, n) for n in names] if of_family else [path.stem]
    return found


def graph(preset: str) -> Graph:
    return graph_of(read_network(PRESETS / f"{preset}.yaml"))


def weighed(graph: Graph) -> list[str]:
    return [node.name for node in graph.nodes if node.layer.parameters]


@pytest.mark.parametrize("preset", presets())
def test_the_encoder_reads_nothing_else_and_reaches_the_deepest_level(preset: str) -> None:
    made = graph(preset)
    scales = [scales_of(made, axis) for axis in range(made.dimensions)]
    size = {name: prod((along[name] for along in scales), start=Fraction(1)) for name in scales[0]}
    within = [node for node in made.nodes if node.name in made.encoder]
    assert {name for node in within for name in node.inputs} <= {INPUT, *made.encoder}
    assert any(node.layer.parameters for node in within)
    assert max(size[name] for name in made.encoder) == max(size.values())
    assert made.output not in made.encoder
    # What comes after it makes nothing smaller, so all of the way down is in it.
    assert not [
        node.name
        for node in made.nodes
        if node.name not in made.encoder and size[node.name] > max(size[i] for i in node.inputs)
    ]
    assert made.without_auxiliary().encoder <= made.encoder


@pytest.mark.parametrize("preset", presets())
def test_levels_hold_every_weight_once_from_the_finest_down_and_up_again(preset: str) -> None:
    made = graph(preset)
    levels = levels_of(made)
    assert sorted(name for names in levels for name in names) == sorted(weighed(made))
    down = [set(names) <= made.encoder for names in levels]
    assert down == sorted(down, reverse=True)
    assert 3 <= sum(down) <= 8
    assert all(down) is False


def test_levels_and_rates_by_hand() -> None:
    network = Network.of(NetworkConfig(depth=1, width=4))
    made = groups(SHORT, network)
    levels = (("encoder.0.",), ("bottom.",), ("ups.0.", "decoder.0.", "head."))
    assert [group["factor"] for group in made] == [0.25, 0.5, 1]
    for group, blocks in zip(made, levels, strict=True):
        own = {id(p) for name, p in network.named_parameters() if name.startswith(blocks)}
        assert {id(p) for p in group["params"]} == own
    every = [p for group in groups(replace(SHORT, layer_decay=1), network) for p in group["params"]]
    assert list(map(id, every)) == list(map(id, network.parameters()))


def test_stages_of_a_backbone_and_blocks_of_any_name_are_levels() -> None:
    firsts = {name: [names[0] for names in levels_of(graph(name))] for name in ("vnet", "fcn8s")}
    assert firsts["vnet"] == [
        *("first.conv.0", "down.0.step", "down.1.step", "down.2.step", "down.3.step"),
        *("up.0.step", "up.1.step", "up.2.step", "up.3.step"),
    ]
    assert firsts["fcn8s"] == [
        *("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1", "fc6"),
        *("score_fr", "upscore2", "upscore_pool4", "upscore8"),
    ]
    backbone = levels_of(graph("smp_unet_mobilenet_v2"))
    assert [len(names) for names in backbone] == [8, 12, 18, 42, 24, 4, 4, 4, 4, 5]


def test_of_a_frozen_encoder_nothing_moves_not_even_what_its_normalisations_have_seen() -> None:
    config = NetworkConfig(depth=1, width=4, norm="batch", norm_affine=False, padding="same")
    network = Network.of(config).train()
    freeze(replace(SHORT, frozen="encoder"), network)
    assert not network.get_submodule("encoder.0.1").training
    assert not network.get_submodule("bottom.1").training
    assert network.get_submodule("decoder.0.1").training
    own = {name for name, p in network.named_parameters() if p.requires_grad}
    assert {name.split(".")[0] for name in own} == {"ups", "decoder", "head"}


@pytest.mark.parametrize("preset", ["vnet", "fcn8s", "smp_unet_vgg16", "keras_unet"])
def test_a_frozen_encoder_leaves_the_rest_to_train_at_the_full_rate(preset: str) -> None:
    network = on_meta(graph(preset))
    config = replace(SHORT, frozen="encoder")
    freeze(config, network)
    made = groups(config, network)
    assert made[-1]["factor"] == 1
    assert all(group["params"] for group in made)
    assert 0 < sum(len(group["params"]) for group in made) < len(list(network.parameters()))
