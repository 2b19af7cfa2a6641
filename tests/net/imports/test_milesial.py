"""Checkpoints of milesial/Pytorch-UNet give what the original gives."""

import pytest

from tests.net.imports.same import assert_same
from tests.net.originals.fill import filled, image
from tests.net.originals.milesial import Milesial


@pytest.mark.parametrize("bilinear", [False, True])
@pytest.mark.parametrize(("channels", "classes", "bias"), [(1, 2, False), (3, 1, True)])
def test_outputs_are_the_originals_at_odd_sizes(
    bilinear: bool, channels: int, classes: int, bias: bool
) -> None:
    original = Milesial(channels, classes, bilinear=bilinear, bias=bias, w=16)
    state = filled(original) | {"mask_values": [0, 255]}
    assert_same(original, state, image(2, channels, 37, 51))
