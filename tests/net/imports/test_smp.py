"""Checkpoints of segmentation_models.pytorch give what the originals give."""

import pytest

from tests.net.imports.same import assert_same
from tests.net.originals.fill import filled, image
from tests.net.originals.smp import DeepLabV3Plus, Unet, UnetPlusPlus
from unet_core.errors import CheckpointError
from unet_core.net.imports import translated


@pytest.mark.parametrize("encoder", ["resnet18", "efficientnet-b0", "mobilenet_v2", "vgg16_bn"])
def test_a_unet_gives_the_same_logits(encoder: str) -> None:
    original = Unet(encoder, w=4)
    assert_same(original, filled(original), image(1, 3, 32, 64))


@pytest.mark.parametrize("encoder", ["resnet18", "efficientnet-b0"])
def test_a_nested_unet_gives_the_same_logits(encoder: str) -> None:
    original = UnetPlusPlus(encoder, channels=1, classes=3, w=4)
    assert_same(original, filled(original), image(1, 1, 64, 32))


@pytest.mark.parametrize("encoder", ["resnet50", "efficientnet-b0", "mobilenet_v2"])
def test_a_deeplab_gives_the_same_logits(encoder: str) -> None:
    original = DeepLabV3Plus(encoder, classes=2)
    assert_same(original, filled(original), image(1, 3, 64, 48))


def test_the_preset_and_the_settings_are_read_from_the_weights() -> None:
    original = UnetPlusPlus("resnet18", channels=4, classes=3, w=4)
    found = translated(original.state_dict())
    assert found.preset == "smp_unetpp_resnet18"
    assert (found.config.channels, found.config.outputs) == (4, 3)
    assert found.config.decoder_widths == (4, 8, 16, 32, 64)


def test_what_a_classifier_has_more_is_left_out() -> None:
    state = Unet("resnet18", w=4).state_dict()
    wider = {**state, "encoder.fc.weight": image(9, 512), "classification_head.3.bias": image(9)}
    assert translated(wider).state.keys() == translated(state).state.keys()


def test_a_missing_block_is_named() -> None:
    state = Unet("resnet18", w=4).state_dict()
    kept = {key: value for key, value in state.items() if ".layer4.1.conv2." not in key}
    with pytest.raises(CheckpointError, match=r"missing: encoder\.layer4\.1\.conv2\.weight"):
        translated(kept)


def test_a_backbone_that_is_not_known_is_refused() -> None:
    state = {f"encoder.layer{i}.0.conv9.weight": image(2, 2, 3, 3) for i in range(9)}
    with pytest.raises(CheckpointError, match="none of those that can be read"):
        translated(state)
