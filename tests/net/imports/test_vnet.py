"""Checkpoints of mattmacy/vnet.pytorch, and of ports with its names, give what they give."""

import pytest
import torch

from tests.net.originals.fill import filled, image
from tests.net.originals.vnet import VNet
from unet_core.errors import CheckpointError
from unet_core.net.imports import load_foreign


@pytest.mark.parametrize("elu", [False, True])
def test_outputs_are_the_originals(elu: bool) -> None:
    original = VNet(2, 2, w=4, elu=elu)
    state = filled(original)
    x = image(1, 2, 32, 16, 48)
    with torch.inference_mode():
        ours, theirs = load_foreign(state)(x), original(x)
    assert theirs.std() > 0.05
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_ports_that_normalise_by_what_training_kept_are_taken_where_named() -> None:
    original = VNet(1, 3, w=4, own=False)
    state = filled(original)
    x = image(2, 1, 16, 16, 32)
    with torch.inference_mode():
        ours, theirs = load_foreign(state, preset="vnet_batch")(x), original(x)
    assert theirs.std() > 0.05
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("elu", "count"), [(False, 45_603_934), (True, 45_600_316)])
def test_the_original_has_as_many_parameters_as_is_known(elu: bool, count: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in VNet(elu=elu).parameters()) == count


def test_a_block_with_fewer_convolutions_is_told() -> None:
    state = {key: value for key, value in filled(VNet(w=4)).items() if ".ops.2." not in key}
    with pytest.raises(CheckpointError, match=r"missing: down_tr128\.ops\.2\.conv1\.weight"):
        load_foreign(state)
