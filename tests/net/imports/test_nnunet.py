"""Checkpoints of nnU-Net v2 give what the original gives."""

import pytest
import torch

from tests.net.originals.fill import filled, image, weights
from tests.net.originals.nnunet import Plain
from unet_core.net.imports import load_foreign, translated

THREE = [(3, 3, 3)] * 4
PLANS = {
    "2-D": ((8, 16, 32), [(3, 3)] * 3, [(2, 2)] * 2, (32, 48)),
    "3-D": ((8, 16, 20, 20), THREE, [(2, 2, 2)] * 3, (16, 16, 24)),
    "thick sections": (
        (8, 16, 20, 20),
        [(1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)],
        [(1, 2, 2), (2, 2, 2), (1, 2, 2)],
        (6, 32, 16),
    ),
}


@pytest.mark.parametrize("name", PLANS)
def test_outputs_are_the_originals_whatever_its_plan(name: str) -> None:
    widths, kernels, strides, size = PLANS[name]
    original = Plain(2, 3, widths, kernels, strides)
    state = filled(original)
    x = image(2, 2, *size)
    with torch.inference_mode():
        ours, theirs = load_foreign({"network_weights": state, "current_epoch": 7})(x), original(x)
    assert theirs.std() > 0.05
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_logits_of_all_levels_are_the_originals() -> None:
    widths, kernels, strides, size = PLANS["3-D"]
    original = Plain(1, 2, widths, kernels, strides)
    network = translated(filled(original)).network()
    x = image(1, 1, *size)
    with torch.inference_mode():
        for ours, theirs in zip(network.outputs(x), original.levels(x), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_every_tensor_stands_in_the_file_several_times() -> None:
    with torch.device("meta"):
        original = Plain(1, 2, (32, 64, 128, 256, 512, 512, 512, 512), [(3, 3)] * 8, [(2, 2)] * 7)
    assert sum(p.numel() for p in original.parameters()) == 46_324_558
    assert len(list(original.parameters())) == 148
    assert len(original.state_dict()) == 396


def test_of_tensors_that_differ_the_one_that_the_original_reads_last_counts() -> None:
    widths, kernels, strides, size = PLANS["2-D"]
    original = Plain(1, 2, widths, kernels, strides).eval()
    state = weights({key: tuple(value.shape) for key, value in original.state_dict().items()})
    original.load_state_dict(state)
    x = image(1, 1, *size)
    with torch.inference_mode():
        torch.testing.assert_close(load_foreign(state)(x), original(x), rtol=0, atol=1e-5)
