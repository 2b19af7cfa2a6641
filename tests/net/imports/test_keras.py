"""Checkpoints of Keras give what the originals give."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.net.originals import keras
from tests.net.originals.fill import image
from tests.net.originals.keras import Tape
from unet_core.errors import CheckpointError
from unet_core.net.imports import load_foreign, translated

Original = Callable[..., Tensor]

CASES: dict[str, tuple[str, Original, dict[str, object], tuple[int, ...]]] = {
    "zhixuhao": ("zhixuhao", keras.zhixuhao, {"w": 16}, (2, 1, 32, 48)),
    "keras_unet": ("keras_unet", keras.vanilla, {"classes": 5}, (2, 3, 32, 64)),
    "keras_unet of before": ("keras_unet", keras.vanilla, {"feats": ""}, (1, 3, 32, 32)),
    "keras_unet_mini": ("keras_unet_mini", keras.mini, {"classes": 3}, (2, 3, 24, 20)),
    "keras_vgg_unet": ("keras_vgg_unet", keras.vgg, {}, (1, 3, 64, 32)),
    "keras_resnet50_unet": ("keras_resnet50_unet", keras.resnet50, {}, (1, 3, 64, 96)),
    "keras_mobilenet_unet": ("keras_mobilenet_unet", keras.mobilenet, {}, (1, 3, 64, 32)),
    "intel_2d": ("intel_2d", keras.intel, {"w": 32}, (1, 1, 48, 32)),
    "intel_2d of several": ("intel_2d", keras.intel, {"outputs": 3}, (1, 4, 32, 32)),
    "intel_2d_nearest": ("intel_2d_nearest", keras.intel, {"nearest": True}, (1, 1, 48, 32)),
    "intel_2d, partial": ("intel_2d", keras.intel, {"partial": True}, (2, 1, 32, 48)),
    "intel_3d": ("intel_3d", keras.intel, {"outputs": 1}, (1, 1, 32, 16, 16)),
}


def original_of(case: str, *, first: int = 0) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Weights, an input and what the original makes of it."""
    _, network, options, shape = CASES[case]
    # Sums of so many blocks would grow beyond what float32 resolves to 1e-5.
    tape, x = Tape(first=first, gain=0.8 if "resnet" in case else 1.4), image(*shape)
    return tape.state, x, network(tape, x, **options)


@pytest.mark.parametrize("case", CASES)
def test_outputs_are_the_originals(case: str) -> None:
    state, x, theirs = original_of(case, first=7)
    with torch.inference_mode():
        ours = load_foreign(state)(x)
    assert translated(state).preset == CASES[case][0]
    assert theirs.std() > 0.02
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", ["keras_unet", "zhixuhao", "intel_2d"])
def test_layers_are_known_by_name_and_number_wherever_they_stand(case: str) -> None:
    state, x, theirs = original_of(case)
    mixed = {f"model/{key}:0": state[key].numpy() for key in sorted(state, reverse=True)}
    with torch.inference_mode():
        ours = load_foreign(mixed)(x)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_layers_without_known_names_are_taken_in_their_order() -> None:
    state, x, theirs = original_of("intel_2d")
    own = {key.replace("code", "_").replace("transconv", "up"): state[key] for key in state}
    with torch.inference_mode():
        ours = load_foreign(own)(x)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_in_the_workflow_logits_of_half_the_size_are_repeated() -> None:
    state, x, theirs = original_of("keras_unet")
    with torch.inference_mode():
        ours = translated(state).network()(x).softmax(dim=1)
    assert ours.shape[2:] == x.shape[2:]
    torch.testing.assert_close(ours, keras.repeated(theirs), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"encodeCb/kernel": None}, r"needs:\n  missing: encodeCb/kernel \(3, 3, 128, 128\)$"),
        ({"extra/kernel": torch.zeros(3, 3, 1, 1)}, r"surplus: extra/kernel \(3, 3, 1, 1\)"),
        (
            {"encodeBa/kernel": torch.zeros(3, 3, 32, 60)},
            r"wrong shape: encodeBa/kernel is \(3, 3, 32, 60\), needed is \(3, 3, 32, 64\)$",
        ),
        (
            {"encodeAa/kernel": torch.zeros(9)},
            r"encodeAa/kernel is \(9,\), needed is \(3, 3, 1, 32\)$",
        ),
    ],
)
def test_differences_are_listed(change: dict[str, Tensor | None], told: str) -> None:
    state, *_ = original_of("intel_2d")
    changed = {key: value for key, value in {**state, **change}.items() if value is not None}
    with pytest.raises(CheckpointError, match=told):
        load_foreign(changed)


def test_a_preset_of_another_network_is_refused() -> None:
    state, *_ = original_of("keras_unet_mini")
    with pytest.raises(CheckpointError, match=r"preset keras_unet does not fit.*keras_unet_mini"):
        load_foreign(state, preset="keras_unet")
