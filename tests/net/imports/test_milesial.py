"""Checkpoints of milesial/Pytorch-UNet give what the original gives."""

import pytest
import torch

from tests.net.originals.fill import filled, image
from tests.net.originals.milesial import Milesial
from unet_core.net.imports import load_foreign


@pytest.mark.parametrize("bilinear", [False, True])
@pytest.mark.parametrize(("channels", "classes", "bias"), [(1, 2, False), (3, 1, True)])
def test_outputs_are_the_originals_at_odd_sizes(
    bilinear: bool, channels: int, classes: int, bias: bool
) -> None:
    original = Milesial(channels, classes, bilinear=bilinear, bias=bias, w=16)
    state = filled(original)
    x = image(2, channels, 37, 51)
    with torch.inference_mode():
        ours, theirs = load_foreign(state)(x), original(x)
    assert theirs.std() > 0.05
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
