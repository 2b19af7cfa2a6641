"""Parameters and sizes of FCN-8s, 3-D U-Nets, V-Net, nnU-Net and the low-budget network."""

from dataclasses import asdict, replace
from typing import Any

import pytest

from unet_core.config.load import load
from unet_core.config.networks.build import graph_of
from unet_core.config.networks.graph import Graph
from unet_core.config.networks.layers import Transposed
from unet_core.config.networks.settings import NetworkConfig
from unet_core.config.networks.supervision import level_weights
from unet_core.config.networks.trace import sizes_of
from unet_core.config.presets import PRESETS, read_network
from unet_core.errors import ConfigError
from unet_core.net.network import on_meta


def preset(name: str, **changes: Any) -> NetworkConfig:
    return replace(read_network(PRESETS / f"{name}.yaml"), **changes)


def built(name: str, **changes: Any) -> Graph:
    return graph_of(preset(name, **changes))


def counted(graph: Graph) -> int:
    """Parameters of the modules themselves, which the layers have to agree with."""
    count = sum(p.numel() for p in on_meta(graph).parameters())
    assert count == sum(node.layer.parameters for node in graph.nodes)
    return count


SEVEN = (32, 64, 128, 256, 512, 512, 512)


@pytest.mark.parametrize(
    ("name", "changes", "count"),
    [
        ("fcn8s", {}, 134_271_430),
        ("fcn8s", {"classes": 21}, 134_489_759),
        ("fcn8s_at_once", {}, 134_271_430),
        ("unet3d", {}, 19_069_955),
        ("unet3d_gcr", {}, 16_318_691),
        ("unet3d_gcr", {"width": 32}, 4_081_267),
        ("unet3d_gcr_softmax", {}, 16_318_756),
        ("vnet", {}, 45_603_934),
        ("vnet", {"activation": "elu"}, 45_600_316),
        ("vnet_batch", {}, 45_603_934),
        ("nnunet_2d", {}, 46_324_558),
        ("nnunet_2d", {"widths": SEVEN, "depth": 6}, 33_471_820),
        ("nnunet_3d", {}, 31_195_594),
        ("nnunet_3d_anisotropic", {}, 44_577_356),
        ("unet3d_anisotropic", {}, 12_450_098),
        ("low_budget", {}, 3_899_714),
    ],
)
def test_parameters_are_those_of_the_original(
    name: str, changes: dict[str, Any], count: int
) -> None:
    assert counted(built(name, **changes)) == count


def test_fcn8s_has_127008_fixed_weights_of_interpolation_for_21_classes() -> None:
    network = on_meta(built("fcn8s", classes=21))
    fixed = [p.numel() for p in network.parameters() if not p.requires_grad]
    assert sum(fixed) == 127_008
    assert 134_489_759 - sum(fixed) == 134_362_751


@pytest.mark.parametrize(
    ("name", "given", "made"),
    [
        ("unet3d", (116, 132, 132), (28, 44, 44)),
        ("unet3d_anisotropic", (60, 236, 236), (20, 52, 52)),
        ("vnet", (64, 128, 128), (64, 128, 128)),
        ("nnunet_2d", (512, 512), (512, 512)),
        ("nnunet_3d", (128, 128, 128), (128, 128, 128)),
        ("nnunet_3d_anisotropic", (20, 256, 256), (20, 256, 256)),
        ("unet3d_gcr", (80, 160, 160), (80, 160, 160)),
        ("fcn8s", (37, 500), (37, 500)),
        ("low_budget", (64, 160), (64, 160)),
    ],
)
def test_sizes_are_those_that_the_preset_states(
    name: str, given: tuple[int, ...], made: tuple[int, ...]
) -> None:
    graph = built(name)
    sizes = [sizes_of(graph, axis, size)[graph.output] for axis, size in enumerate(given)]
    assert tuple(sizes) == made


def test_nnunet_has_logits_on_every_level_and_weighs_the_deepest_not_at_all() -> None:
    graph = built("nnunet_2d")
    names, weights = zip(*graph.auxiliary, strict=True)
    assert names == tuple(f"levels.{level}" for level in range(1, 7))
    assert weights[-1] == 0
    assert graph.main_weight + sum(weights) == pytest.approx(1)
    assert all(graph.channels[name] == 2 for name in names)


def test_weights_of_levels_halve_from_one_to_the_next() -> None:
    assert level_weights(1) == (1.0,)
    assert level_weights(4) == (4 / 7, 2 / 7, 1 / 7, 0.0)


def test_an_axis_with_fewer_steps_is_looked_along_on_the_deep_levels_alone() -> None:
    net = preset("unet3d_anisotropic")
    assert [net.taps(level)[0] for level in range(5)] == [1, 1, 3, 3, 3]
    assert [net.steps(level) for level in range(4)] == [(1, 2, 2)] * 2 + [(2, 2, 2)] * 2


def test_transposed_kernels_are_as_large_as_their_strides() -> None:
    layers = [node.layer for node in built("nnunet_3d_anisotropic").nodes]
    raised = [layer for layer in layers if isinstance(layer, Transposed)]
    assert [layer.kernel for layer in raised] == [layer.stride for layer in raised]
    assert {layer.stride for layer in raised} == {(1, 2, 2), (2, 2, 2)}


def test_every_convolution_of_the_low_budget_network_but_the_first_is_separable() -> None:
    shapes = {
        name: tuple(p.shape)
        for name, p in on_meta(built("low_budget")).named_parameters()
        if name.startswith(("encoder", "bottom", "decoder")) and p.ndim == 4
    }
    assert shapes.pop("encoder.0.0.weight") == (64, 1, 3, 3)
    per_channel = {name for name, shape in shapes.items() if shape[1:] == (1, 3, 3)}
    assert all((name in per_channel) == ("depthwise" in name) for name in shapes)
    assert all(shape[2:] == (1, 1) for name, shape in shapes.items() if name not in per_channel)


@pytest.mark.parametrize(
    ("name", "changes", "told"),
    [
        ("vnet", {"channels": 3}, "its own channels must divide them; it has 3"),
        ("vnet", {"depth": 3}, "needs model.depth 4, got 3"),
        ("fcn8s", {"depth": 4, "widths": None}, "needs model.dimensions 2 and model.depth 5"),
        (
            "unet3d_gcr",
            {"width": 20},
            "10 channels of layer encoder.0.3",
        ),
        ("nnunet_3d", {"strides": ((2, 2),) * 5}, "model.strides needs 3 numbers"),
        ("nnunet_3d", {"kernels": ((3, 3, 3),) * 5}, "model.kernels needs 6 entries"),
        ("nnunet_3d", {"kernels": ((3, 3, 2),) * 6}, "must be odd"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    name: str, changes: dict[str, Any], told: str
) -> None:
    settings = asdict(preset(name)) | changes
    with pytest.raises(ConfigError, match=told):
        graph_of(load(NetworkConfig, settings, section="model"))
