"""Checkpoints of wkentaro/pytorch-fcn give what the original gives."""

import pytest
import torch

from tests.net.originals.fcn import FCN8s
from tests.net.originals.fill import filled, image
from unet_core.config.networks.build import graph_of
from unet_core.config.networks.settings import NetworkConfig
from unet_core.net.imports import load_foreign
from unet_core.net.initial import initialise
from unet_core.net.network import Network


@pytest.mark.parametrize(
    ("preset", "at_once"), [(None, False), ("fcn8s", False), ("fcn8s_at_once", True)]
)
def test_outputs_are_the_originals_at_odd_sizes(preset: str | None, at_once: bool) -> None:
    original = FCN8s(5, w=4, fc=24, at_once=at_once)
    state = filled(original)
    x = image(2, 3, 45, 70)
    with torch.inference_mode():
        ours, theirs = load_foreign(state, preset=preset)(x), original(x)
    assert theirs.std() > 0.05
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_up_sampling_begins_as_bilinear_interpolation_and_is_not_trained() -> None:
    config = NetworkConfig(
        architecture="fcn8s", channels=3, classes=2, widths=(2, 2, 2, 2, 2, 2), depth=5
    )
    network = initialise(Network(graph_of(config)), seed=0)
    raised = network.at("upscore2")
    assert not any(p.requires_grad for p in raised.parameters())
    ramp = torch.tensor([0.25, 0.75, 0.75, 0.25])
    expected = torch.zeros(2, 2, 4, 4)
    expected[0, 0] = expected[1, 1] = ramp[:, None] * ramp
    torch.testing.assert_close(raised.weight, expected)
