"""Steps, schedules and scores."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_core.config import NetworkConfig, TrainConfig
from unet_core.errors import ConfigError
from unet_core.net.loop import Training, begin, class_weights, weights_of
from unet_core.net.overlap import overlap
from unet_core.net.patches import Batch

MODEL = NetworkConfig(width=4, depth=1, norm="batch", dropout=0.5)
CPU = torch.device("cpu")


def training(
    config: TrainConfig, dtype: torch.dtype = torch.float32, model: NetworkConfig = MODEL
) -> Training:
    weights = [1.0] * model.classes
    return begin(config, model, class_weights=weights, device=CPU, dtype=dtype)


def batch(step: int, *, counted: bool = True, lost: int = 8) -> Batch:
    generator = torch.Generator().manual_seed(step)
    raw = torch.randn(2, 1, 28, 28, generator=generator)
    target = (raw[:, 0, lost : 28 - lost, lost : 28 - lost] > 0).to(torch.uint8)
    border = torch.zeros(target.shape)
    return Batch(raw, target if counted else torch.full_like(target, 255), border)


@pytest.mark.parametrize("optimiser", ["sgd", "adam", "adamw", "rmsprop", "adagrad"])
def test_the_loss_falls(optimiser: str) -> None:
    rate = 0.1 if optimiser == "sgd" else 0.01
    config = TrainConfig(optimiser=optimiser, learning_rate=rate, momentum=0.9, steps=40)  # type: ignore[arg-type]
    run = training(config)
    for _ in range(40):
        run.step(batch(0))
    losses = run.read_losses()
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])


@pytest.mark.parametrize(
    ("wanted", "model"),
    [
        ({"loss": "none", "dice": "batch"}, {"output": "sigmoid"}),
        ({"loss": "focal"}, {"output": "sigmoid", "classes": 3}),
        ({"dice": "foreground_batch"}, {"supervision": "levels", "depth": 2}),
        (
            {"dice": "squared", "dice_weight": 3.0, "ignored": "counted"},
            {"auxiliary": 0.4, "depth": 2},
        ),
        ({"loss": "mse"}, {}),
    ],
)
def test_all_losses_fall_with_all_kinds_of_heads(
    wanted: dict[str, Any], model: dict[str, Any]
) -> None:
    config = TrainConfig(optimiser="adam", learning_rate=0.02, steps=30, **wanted)
    run = training(config, model=replace(MODEL, padding="same", dropout=0.0, **model))
    seen = batch(0, lost=0)
    before = run.validate([seen])
    for _ in range(30):
        run.step(seen)
    after = run.validate([seen])
    assert after["loss"] < before["loss"]
    assert run.read_losses()[-1] < 0.8 * run.read_losses()[0]
    assert after["dice"] > 0.6
    assert len(after["iou"]) == run.network.config.classes


def test_every_head_with_a_weight_learns() -> None:
    model = replace(MODEL, padding="same", supervision="levels", depth=3)
    run = training(TrainConfig(momentum=0.0), model=model)
    before = {name: weight.clone() for name, weight in run.network.named_parameters()}
    dots = torch.arange(2 * 32 * 32).view(2, 32, 32).remainder(2).to(torch.uint8)
    raw = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    run.step(Batch(raw, dots, torch.zeros(2, 32, 32)))
    moved = {
        name
        for name, weight in run.network.named_parameters()
        if not torch.equal(weight, before[name])
    }
    assert {name for name in before if name.endswith(".weight")} - moved == {"levels.2.weight"}


@pytest.mark.parametrize(
    ("dtype", "schedule"), [(torch.float32, "cosine"), (torch.bfloat16, "poly")]
)
def test_a_run_that_goes_on_in_its_warm_up_gives_the_same_bits(
    dtype: torch.dtype, schedule: Any
) -> None:
    config = TrainConfig(
        optimiser="adamw", learning_rate=1e-3, steps=12, schedule=schedule, warmup_steps=9,
        clip_norm=1.0,
    )  # fmt: skip
    check_goes_on(config, dtype)


@pytest.mark.parametrize("optimiser", ["sgd", "rmsprop", "adagrad"])
def test_a_run_goes_on_from_the_middle_of_a_plateau(optimiser: Any) -> None:
    config = TrainConfig(
        optimiser=optimiser, momentum=0.9, learning_rate=1e-3, steps=12, schedule="plateau",
        patience=1, rate_factor=0.5, dice="global",
    )  # fmt: skip
    run = check_goes_on(config, torch.float32)
    assert run.rate(12) < config.learning_rate


def check_goes_on(config: TrainConfig, dtype: torch.dtype) -> Training:
    """Twelve steps, and seven and five, give the same bits; the first is returned."""
    scores = [{"dice": 0.5 - 0.01 * step, "loss": 1.0} for step in range(12)]
    whole = training(config, dtype)
    for step in range(12):
        whole.step(batch(step))
        whole.follow(scores[step])
    first = training(config, dtype)
    for step in range(7):
        first.step(batch(step))
        first.follow(scores[step])
    second = training(config, dtype)
    second.resume(first.state())
    torch.rand(5)  # what else draws random numbers does not matter
    for step in range(7, 12):
        second.step(batch(step))
        second.follow(scores[step])
    assert second.steps_done == 12
    assert second.read_losses() == whole.read_losses()
    for a, b in zip(
        whole.network.state_dict().values(), second.network.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b)
    return whole


def test_a_batch_that_is_all_ignored_changes_no_weight() -> None:
    run = training(TrainConfig(momentum=0.0))
    before = weights_of(run.network)["head.weight"]
    run.step(batch(0, counted=False))
    assert run.read_losses() == [0.0]
    assert torch.equal(weights_of(run.network)["head.weight"], before)


def test_a_loss_that_is_no_number_is_refused_with_its_step() -> None:
    run = training(TrainConfig())
    run.step(batch(0))
    run.step(batch(1)._replace(raw=torch.full((2, 1, 28, 28), torch.nan)))
    with pytest.raises(ConfigError, match=r"step 2 is nan.*learning_rate"):
        run.check()


@given(counts=st.lists(st.integers(1, 10**6), min_size=2, max_size=5))
@settings(deadline=None, max_examples=20)
def test_inverse_frequencies_are_1_on_average(counts: list[int]) -> None:
    weights = class_weights(TrainConfig(), counts)
    assert np.dot(weights, counts) == pytest.approx(sum(counts))
    assert np.ptp(np.multiply(weights, counts)) < 1e-6 * sum(counts)


def test_class_weights_by_hand() -> None:
    assert class_weights(TrainConfig(), [100, 300]) == [2.0, 400 / 600]
    assert class_weights(TrainConfig(), [0, 300]) == [0.0, 0.5]
    assert class_weights(TrainConfig(class_weights="uniform"), [1, 9]) == [1.0, 1.0]
    assert class_weights(TrainConfig(class_weights=(5.0, 1.0)), [1, 9]) == [5.0, 1.0]
    with pytest.raises(ConfigError, match="has 3 values, the network has 2"):
        class_weights(TrainConfig(class_weights=(1.0, 1.0, 1.0)), [1, 9])


def test_overlap_by_hand() -> None:
    # rows: target 0, 1, 2; columns: prediction
    scores = overlap(np.array([[6, 2, 0], [1, 3, 1], [0, 0, 0]]))
    assert scores["iou"] == [6 / 9, 3 / 7, 0.0]
    assert scores["dice"] == pytest.approx(2 * 4 / (5 + 6))
    assert overlap(np.array([[4, 0], [0, 0]])) == {"iou": [1.0, None], "dice": None}


def test_validation_is_the_same_however_the_patches_are_batched() -> None:
    run = training(TrainConfig())
    whole = batch(3)
    parts = [Batch(*(part[i : i + 1] for part in whole)) for i in range(2)]
    together, apart = run.validate([whole]), run.validate(parts)
    assert together["iou"] == apart["iou"]
    assert together["loss"] == pytest.approx(apart["loss"], rel=1e-5)
    assert run.network.training
    ignored = run.validate([whole, batch(4, counted=False)])
    assert ignored == together
