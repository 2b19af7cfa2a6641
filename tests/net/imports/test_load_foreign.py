"""Checkpoints are told apart, refused with what differs, and adapted to other channels."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.net.originals.fill import filled, hashed, image, weights
from tests.net.originals.jakeoung import Jakeoung
from tests.net.originals.milesial import Milesial
from tests.net.originals.unet_family import FamilyNested
from unet_core.config.networks.build import graph_of
from unet_core.config.presets import PRESETS, file_of, read_network
from unet_core.errors import CheckpointError, ConfigError
from unet_core.net.imports import load_foreign, translated
from unet_core.net.imports.source import wanted_of
from unet_core.net.imports.stem import adapt_channels
from unet_core.net.network import Network


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """A small network of milesial's."""
    return filled(Milesial(1, 2, w=4))


def test_missing_surplus_and_misshapen_keys_are_listed(state: dict[str, Tensor]) -> None:
    bad = {key: value for key, value in state.items() if key != "up2.up.bias"}
    bad["extra.weight"] = torch.zeros(3)
    bad["outc.conv.weight"] = torch.zeros(2, 4, 3, 3)
    with pytest.raises(CheckpointError) as refused:
        load_foreign(bad)
    lines = str(refused.value).splitlines()
    assert "milesial/Pytorch-UNet" in lines[0]
    assert [line.strip() for line in lines[1:]] == [
        "missing: up2.up.bias (16,)",
        "wrong shape: outc.conv.weight is (2, 4, 3, 3), needed is (2, 4, 1, 1)",
        "surplus: extra.weight (3,)",
    ]


def test_a_long_list_of_differences_is_cut(state: dict[str, Tensor]) -> None:
    bad = {key: value for key, value in state.items() if not key.startswith("down4.")}
    with pytest.raises(CheckpointError) as refused:
        load_foreign(bad)
    lines = str(refused.value).splitlines()
    assert len(lines) == 10
    assert lines[-1].strip() == "and 3 more"


def test_keys_of_no_system_are_refused_with_the_systems_that_there_are() -> None:
    with pytest.raises(CheckpointError, match=r"squeeze\.bias.*jakeoung/Unet_pytorch"):
        load_foreign({"fire.weight": torch.zeros(3), "squeeze.bias": torch.zeros(3)})


@pytest.mark.parametrize(
    "value", [[1, 2], "text", None, np.array(["a"]), torch.zeros(2, dtype=torch.complex64), print]
)
def test_what_is_no_tensor_is_refused_by_name(state: dict[str, Tensor], value: object) -> None:
    with pytest.raises(CheckpointError, match="entry epoch"):
        load_foreign({**state, "epoch": value})


@pytest.mark.parametrize("empty", [{}, {"state_dict": {}}, []])
def test_a_checkpoint_without_tensors_is_refused(empty: object) -> None:
    with pytest.raises(CheckpointError, match="state dict maps names to tensors"):
        load_foreign(empty)  # type: ignore[arg-type]


def test_a_choice_that_keys_leave_is_listed() -> None:
    nested = filled(FamilyNested(1, 2, w=4))
    with pytest.raises(CheckpointError, match="unetpp_family, unetpp_family_last"):
        load_foreign(nested)


def test_a_preset_that_keys_contradict_is_refused(state: dict[str, Tensor]) -> None:
    with pytest.raises(CheckpointError, match=r"milesial_bilinear does not fit.*preset milesial"):
        load_foreign(state, preset="milesial_bilinear")


def test_wrappers_prefixes_counters_arrays_and_precision_make_no_difference(
    state: dict[str, Tensor],
) -> None:
    arrays = {f"module.{key}": value.double().numpy() for key, value in state.items()}
    x = image(1, 1, 16, 16)
    trainers = {f"model.net.{key}": value for key, value in arrays.items()}
    for found, key in (
        (arrays, "mask_values"),
        (arrays, "module.mask_values"),
        (trainers, "mask_values"),
    ):
        wrapped = {"epoch": 3, "model": {"state_dict": found | {key: [0, 1]}}}
        with torch.inference_mode():
            assert torch.equal(load_foreign(wrapped)(x), load_foreign(state)(x))


def test_training_an_imported_network_leaves_the_checkpoint(state: dict[str, Tensor]) -> None:
    network = load_foreign(state)
    assert not network.training
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert state["outc.conv.weight"].abs().max() > 0


@given(had=st.integers(1, 4), wanted=st.integers(1, 9))
@settings(deadline=None, max_examples=20)
def test_a_grey_image_in_all_channels_gives_what_it_gave(had: int, wanted: int) -> None:
    kernel = hashed((5, 1, 3, 3), "kernel").repeat(1, had, 1, 1)
    adapted = adapt_channels(kernel, wanted)
    assert adapted.shape == (5, wanted, 3, 3)
    torch.testing.assert_close(adapted.sum(1), kernel.sum(1))


def test_channels_are_adapted_as_documented() -> None:
    red, green, blue = kernel = torch.tensor([1.0, 10.0, 100.0])
    kernel = kernel.reshape(1, 3, 1, 1)
    assert adapt_channels(kernel, 1).flatten().tolist() == [111.0]
    five = [red, green, blue, red, green]
    expected = [float(value) * 3 / 5 for value in five]
    assert adapt_channels(kernel, 5).flatten().tolist() == pytest.approx(expected)
    with pytest.raises(CheckpointError, match=">= 1"):
        adapt_channels(kernel, 0)


def test_a_checkpoint_is_adapted_to_the_channels_that_are_asked_for() -> None:
    foreign = translated(filled(Jakeoung(False, w=4)), channels=3)
    assert foreign.config.channels == 3
    x = image(1, 1, 16, 16)
    with torch.inference_mode():
        grey = translated(filled(Jakeoung(False, w=4))).network()(x)
        torch.testing.assert_close(foreign.network()(x.expand(1, 3, 16, 16)), grey)


OWN = (
    "small",
    "unetpp",
    "milesial_bilinear",
    "mmseg_fcn",
    "unet3d",
    "vnet",
    "low_budget",
    "keras_mobilenet_unet",
    "smp_unet_efficientnet-b0",
    "smp_deeplabv3plus_mobilenet_v2",
)


@pytest.mark.parametrize("name", OWN)
def test_our_own_weights_are_recognised(name: str) -> None:
    config = replace(read_network(PRESETS / f"{name}.yaml"), channels=2, classes=3)
    shapes = wanted_of(graph_of(config))
    own = {key: torch.zeros(()).expand(shape) for key, shape in shapes.items()}
    for preset in (None, name):
        foreign = translated(own, preset=preset)
        assert (foreign.preset, foreign.config) == (name, config)


def test_our_own_weights_give_what_they_give_here() -> None:
    graph = graph_of(read_network(PRESETS / "tiny.yaml"))
    own = weights(wanted_of(graph))
    network = Network(graph).eval()
    network.load_state_dict(own, strict=False)
    x = image(1, 1, 60, 60)
    with torch.inference_mode():
        assert torch.equal(load_foreign(own)(x), network(x))


def test_our_own_weights_that_several_presets_fit_leave_a_choice() -> None:
    own = {
        k: torch.zeros(s)
        for k, s in wanted_of(graph_of(read_network(PRESETS / "paper.yaml"))).items()
    }
    with pytest.raises(CheckpointError, match=r"freiburg_fiji_2d.*paper"):
        load_foreign(own)


def test_one_file_serves_a_family_of_presets() -> None:
    path, encoder = file_of(PRESETS / "smp_unet_resnet34.yaml")
    assert (path.stem, encoder) == ("smp_unet_ENCODER", "resnet34")
    assert read_network(PRESETS / "smp_unet_resnet34.yaml").encoder == "resnet34"
    with pytest.raises(ConfigError, match="smp_unet_resnet33"):
        read_network(PRESETS / "smp_unet_resnet33.yaml")
