"""Affinities as what a network learns: one output per offset, each by itself."""

from math import log

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from unet_core.config import NetworkConfig, TrainConfig
from unet_core.net.dice import dice_loss
from unet_core.net.loop import begin
from unet_core.net.loss import voxel_errors, weighted_sum
from unet_core.net.objective import Objective
from unet_core.net.overlap import overlap, tally
from unet_core.net.patches import Bank, Batch, read_batch

ONES = torch.ones(2)
BCE = TrainConfig()
ERRORS = ["cross_entropy", "focal", "mse"]


def pairs() -> tuple[Tensor, Tensor]:
    """Logits and target of two offsets at three voxels; p = 0.8, 0.4, 0.5 and 0.1, 0.5, 0.9."""
    p = torch.tensor([[[0.8, 0.4, 0.5], [0.1, 0.5, 0.9]]])
    target = torch.tensor([[[1, 0, 255], [0, 255, 0]]], dtype=torch.uint8)
    return torch.logit(p), target


def random(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 3, 4, 5, generator=generator)
    target = torch.randint(0, 3, (2, 3, 4, 5), generator=generator).to(torch.uint8)
    return logits, torch.where(target == 2, 255, target)


def test_the_mean_is_over_pairs_that_count_by_hand() -> None:
    logits, target = pairs()
    border = torch.tensor([[0.0, 2.0, 0.0]])
    weights = torch.tensor([3.0, 1.0])
    errors = voxel_errors(logits, target, sigmoid=True)
    total, counted = weighted_sum(errors, target, border, weights)
    assert counted == 4
    expected = -log(0.8) - (3 + 2) * log(0.6) - 3 * log(0.9) - 3 * log(0.1)
    assert total.item() == pytest.approx(expected)
    objective = Objective(BCE, weights, sigmoid=True)
    loss = objective.loss([logits], Batch(torch.empty(0), target, border))
    assert loss.item() == pytest.approx(expected / 4)


@pytest.mark.parametrize("kind", ERRORS)
def test_each_output_has_the_error_that_it_has_alone(kind: str) -> None:
    logits, target = random()
    both = voxel_errors(logits, target, kind=kind, sigmoid=True)  # type: ignore[arg-type]
    for k in range(3):
        alone = voxel_errors(logits[:, k : k + 1], target[:, k], kind=kind, sigmoid=True)  # type: ignore[arg-type]
        known = target[:, k] != 255
        torch.testing.assert_close(both[:, k][known], alone[known])


def test_cross_entropy_is_that_of_torch() -> None:
    logits, target = random()
    known = target != 255
    expected = functional.binary_cross_entropy_with_logits(logits[known], target[known].float())
    objective = Objective(BCE, ONES, sigmoid=True)
    batch = Batch(torch.empty(0), target, torch.zeros(2, 4, 5))
    torch.testing.assert_close(objective.loss([logits], batch), expected)


@pytest.mark.parametrize("kind", ["batch", "foreground_batch", "foreground_image", "squared"])
def test_dice_is_the_mean_over_outputs_of_each_alone(kind: str) -> None:
    logits, target = random()
    alone = [
        dice_loss(logits[:, k : k + 1], target[:, k], kind=kind, sigmoid=True) for k in range(3)
    ]
    both = dice_loss(logits, target, kind=kind, sigmoid=True)
    torch.testing.assert_close(both, torch.stack(alone).mean())


@pytest.mark.parametrize("kind", ERRORS)
def test_ignored_pairs_change_nothing(kind: str) -> None:
    logits, target = random()
    other = torch.where(target == 255, logits + 5, logits)
    objective = Objective(TrainConfig(loss=kind, dice="batch"), ONES, sigmoid=True)  # type: ignore[arg-type]
    batch = Batch(torch.empty(0), target, torch.zeros(2, 4, 5))
    torch.testing.assert_close(objective.loss([other], batch), objective.loss([logits], batch))


def test_overlap_by_hand() -> None:
    logits, target = pairs()
    counts = tally(logits, target, classes=3, sigmoid=True)
    np.testing.assert_array_equal(counts, [[[1, 0], [0, 1]], [[1, 1], [0, 0]]])
    assert overlap(counts) == {"iou": [None, 1.0, 0.0], "dice": 2 / 3}


@pytest.mark.parametrize("sections", [1, 3])
def test_a_batch_has_the_middle_of_all_channels(sections: int) -> None:
    rng = np.random.default_rng(0)
    target = rng.integers(0, 2, (4, 2, sections, 20, 20)).astype(np.uint8)
    raw = rng.random((4, 1, sections, 20, 20)).astype(np.float16)
    bank = Bank(raw, target, raw[:, 0])
    model = NetworkConfig(width=4, depth=1, sections=sections, classes=3, output="sigmoid")
    batch = read_batch(bank, [2, 1], model, pin=False)
    assert batch.target.shape == (2, 2, 4, 4)
    np.testing.assert_array_equal(batch.target[0], target[2, :, sections // 2, 8:12, 8:12])


def test_a_network_learns_them() -> None:
    model = NetworkConfig(
        width=4, depth=1, padding="same", norm="batch", dropout=0, classes=3, output="sigmoid"
    )
    config = TrainConfig(optimiser="adam", learning_rate=0.02, steps=30, dice="batch")
    raw = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    target = torch.cat([raw > 0, raw < 0.5], dim=1).to(torch.uint8)
    batch = Batch(raw, target, torch.zeros(2, 16, 16))
    device = torch.device("cpu")
    run = begin(
        config, model, class_weights=[1, 1], device=device, dtype=torch.float32, affinities=True
    )
    before = run.validate([batch])
    for _ in range(30):
        run.step(batch)
    after = run.validate([batch])
    assert after["loss"] < 0.7 * before["loss"]
    assert after["iou"][0] is None
    assert min(after["iou"][1:]) > 0.7
    assert run.validate([])["iou"] == [None] * 3
