"""Checkpoints of wolny/pytorch-3dunet give what the original gives."""

import pytest
import torch

from tests.net.originals.fill import filled, image
from tests.net.originals.pytorch3dunet import UNet
from unet_core.errors import CheckpointError
from unet_core.net.imports import load_foreign


@pytest.mark.parametrize(
    ("dimensions", "channels", "classes", "levels", "size"),
    [
        (3, 1, 1, 4, (8, 16, 24)),
        (3, 2, 3, 3, (8, 8, 12)),
        (2, 1, 2, 4, (24, 40)),
        (3, 1, 1, 3, (9, 14, 11)),
    ],
)
def test_outputs_are_the_originals(
    dimensions: int, channels: int, classes: int, levels: int, size: tuple[int, ...]
) -> None:
    original = UNet(channels, classes, f_maps=8, levels=levels, dimensions=dimensions)
    state = filled(original)
    x = image(2, channels, *size)
    with torch.inference_mode():
        ours, theirs = load_foreign({"model_state_dict": state})(x), original(x)
    assert theirs.std() > 0.01
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_a_softmax_over_classes_is_taken_where_it_is_named() -> None:
    original = UNet(1, 3, f_maps=8, final_sigmoid=False)
    state = filled(original)
    x = image(1, 1, 8, 8, 8)
    with torch.inference_mode():
        ours, theirs = load_foreign(state, preset="unet3d_gcr_softmax")(x), original(x)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_a_level_of_an_absurd_number_is_told_at_once() -> None:
    state = filled(UNet(1, 1, f_maps=8))
    name = "basic_module.SingleConv1.conv.weight"
    state[f"encoders.999999999.{name}"] = state.pop(f"encoders.3.{name}")
    with pytest.raises(CheckpointError, match=r"missing: encoders"):
        load_foreign(state)


def test_another_order_of_its_layers_is_refused_with_what_differs() -> None:
    state = filled(UNet(1, 1, f_maps=8))
    state = {key: value for key, value in state.items() if "SingleConv2.groupnorm" not in key}
    with pytest.raises(CheckpointError, match=r"missing: encoders\.0\.basic_module\.SingleConv2"):
        load_foreign(state)
