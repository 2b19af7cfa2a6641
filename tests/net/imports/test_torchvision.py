"""Classifiers give what they gave, or the backbone of a network."""

from functools import cache

import pytest
import torch
from torch import Tensor

from tests.net.imports.same import assert_same
from tests.net.originals.backbones import Classifier, MobileNetV2
from tests.net.originals.fill import filled, image
from unet_core.errors import CheckpointError
from unet_core.net.imports import load_foreign, translated
from unet_core.net.imports.stem import adapt_channels


def resnet18() -> Classifier:
    return Classifier((2, 2, 2, 2), (3, 3), 5)


@cache
def weights() -> dict[str, Tensor]:
    return filled(resnet18())


def test_a_resnet_tells_the_same_classes() -> None:
    original = resnet18()
    original.load_state_dict(weights())
    assert_same(original.eval(), weights(), image(2, 3, 64, 48))


def test_a_resnet_without_its_classes_gives_means_of_the_last_map() -> None:
    original = resnet18()
    original.load_state_dict(weights())
    original.fc = torch.nn.Identity()  # type: ignore[assignment]
    state = {key: value for key, value in weights().items() if not key.startswith("fc.")}
    assert_same(original.eval(), state, image(1, 3, 64, 64))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_unet_begins_with_the_backbone_for_its_channels(channels: int) -> None:
    state = weights()
    found = translated(state, preset="smp_unet_resnet18", channels=channels)
    taken = {key: value for key, value in found.state.items() if key.startswith("encoder.")}
    assert found.config.channels == channels
    first = taken.pop("encoder.conv1.weight")
    torch.testing.assert_close(first, adapt_channels(state["conv1.weight"], channels))
    for key, value in taken.items():
        torch.testing.assert_close(value, state[key.removeprefix("encoder.")], rtol=0, atol=0)


def test_what_follows_the_backbone_is_the_same_every_time() -> None:
    state = MobileNetV2().state_dict()
    first, second = (
        load_foreign(state, preset="smp_deeplabv3plus_mobilenet_v2").state_dict() for _ in range(2)
    )
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_the_networks_that_can_have_the_backbone_are_listed() -> None:
    state = MobileNetV2().state_dict()
    for call in (load_foreign, translated):
        with pytest.raises(CheckpointError, match="smp_unetpp_mobilenet_v2"):
            call(state)  # type: ignore[operator]


def test_classes_of_another_width_are_refused() -> None:
    state = {**weights(), "fc.bias": image(4)}
    with pytest.raises(CheckpointError, match=r"fc\.weight \(n, 512\)"):
        load_foreign(state)
