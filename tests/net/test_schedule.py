"""Learning rates, by hand."""

from dataclasses import replace
from math import cos, pi
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_core.config import TrainConfig, load
from unet_core.errors import ConfigError
from unet_core.net.optimisers import optimiser
from unet_core.net.schedule import Plateau, learning_rate

PLAIN = TrainConfig(learning_rate=1.0, steps=100)


def rates(config: TrainConfig, *steps: int) -> list[float]:
    return [learning_rate(config, step) for step in steps]


def test_the_rate_rises_to_the_constant_one() -> None:
    config = replace(PLAIN, warmup_steps=10)
    assert rates(config, 0, 4, 9, 99) == [0.1, 0.5, 1.0, 1.0]


def test_cosine_and_poly_fall_to_0_or_to_the_least_rate() -> None:
    cosine, poly = replace(PLAIN, schedule="cosine"), replace(PLAIN, schedule="poly")
    assert rates(cosine, 0, 25) == pytest.approx([1, 0.5 + 0.5 * cos(pi / 4)])
    assert rates(poly, 0, 50, 99) == pytest.approx([1, 0.5**0.9, 0.01**0.9])
    cosine, poly = replace(cosine, min_learning_rate=0.2), replace(poly, min_learning_rate=0.2)
    assert rates(cosine, 50, 100) == pytest.approx([0.6, 0.2])
    assert rates(poly, 50, 100) == pytest.approx([0.8 * 0.5**0.9 + 0.2, 0.2])


def test_the_retina_recipe_by_hand() -> None:
    config = TrainConfig(
        learning_rate=0.01, min_learning_rate=1e-4, schedule="poly", steps=40000, momentum=0.9
    )
    assert learning_rate(config, 10000) == pytest.approx((0.01 - 1e-4) * 0.75**0.9 + 1e-4)


def test_a_rate_is_kept_for_so_many_steps() -> None:
    config = replace(PLAIN, schedule="poly", schedule_every=10)
    assert rates(config, 0, 9, 10, 19) == pytest.approx([1, 1, 0.9**0.9, 0.9**0.9])


def test_stairs_go_down_by_the_factor_and_not_below_the_least_rate() -> None:
    config = replace(
        PLAIN, schedule="stairs", schedule_every=25, rate_factor=0.5, min_learning_rate=0.2
    )
    assert rates(config, 0, 24, 25, 50, 75) == [1.0, 1.0, 0.5, 0.25, 0.2]


def test_a_plateau_lowers_the_rate_after_more_validations_than_it_waits_for() -> None:
    config = replace(PLAIN, schedule="plateau", patience=2)
    plateau = Plateau()
    factors = []
    for dice in (0.5, 0.6, 0.6, None, 0.60001, 0.7, 0.1, 0.1, 0.1, 0.8):
        plateau.follow(config, {"dice": dice, "loss": 1.0})
        factors.append(plateau.factor)
    assert factors == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01])
    assert learning_rate(config, 5, factor=plateau.factor) == pytest.approx(0.01)
    floor = replace(config, min_learning_rate=0.05)
    assert learning_rate(floor, 5, factor=plateau.factor) == 0.05


@given(
    scores=st.lists(st.floats(0, 3), min_size=1, max_size=30),
    by=st.sampled_from(["dice", "loss"]),
    patience=st.integers(0, 3),
)
@settings(deadline=None, max_examples=30)
def test_a_plateau_is_that_of_torch(
    scores: list[float], by: Literal["dice", "loss"], patience: int
) -> None:
    config = replace(PLAIN, schedule="plateau", patience=patience, plateau_by=by, rate_factor=0.5)
    weight = torch.nn.Parameter(torch.zeros(1))
    steps = torch.optim.SGD([weight], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        steps, "max" if by == "dice" else "min", factor=0.5, patience=patience, eps=0
    )
    plateau = Plateau()
    for score in scores:
        theirs.step(score)
        plateau.follow(config, {by: score})
        assert plateau.factor == pytest.approx(steps.param_groups[0]["lr"])


def test_a_plateau_goes_on_from_its_state() -> None:
    config = replace(PLAIN, schedule="plateau", patience=1)
    scores = [0.5, 0.4, 0.4, 0.6, 0.5, 0.5, 0.5]
    whole, part = Plateau(), Plateau()
    for score in scores:
        whole.follow(config, {"dice": score})
    for score in scores[:3]:
        part.follow(config, {"dice": score})
    again = Plateau(**part.state())
    for score in scores[3:]:
        again.follow(config, {"dice": score})
    assert again == whole


def test_recipes_that_contradict_themselves_are_refused() -> None:
    for wrong, told in (
        ({"min_learning_rate": 2.0}, "above train.learning_rate"),
        ({"rate_factor": 0.0}, "rate_factor"),
        ({"nesterov": True, "optimiser": "adam"}, "nesterov is for"),
        ({"nesterov": True, "momentum": 0.0}, "nesterov is for"),
        ({"loss": "none"}, "nothing is left"),
        ({"patience": -1}, "patience"),
        ({"schedule": "stairs"}, "schedule_every"),
        ({"warmup_steps": 101, "steps": 100}, "never be reached"),
        ({"learning_rate": 0}, "learning_rate must be > 0"),
        ({"momentum": 1.0}, "momentum < 1"),
        ({"class_weights": [0, 0]}, "not all 0"),
    ):
        with pytest.raises(ConfigError, match=told):
            load(TrainConfig, wrong, section="train")


def test_one_step_of_each_optimiser_by_hand() -> None:
    # Weight 1, gradient 0.5, rate 0.1.
    wanted = {
        "sgd": 1 - 0.1 * 0.5,
        "adam": 1 - 0.1,
        "adamw": 1 - 0.1,
        "rmsprop": 1 - 0.1 * 0.5 / (0.1 * 0.5),  # square mean 0.01 * 0.5^2
        "adagrad": 1 - 0.1,
    }
    for name, after in wanted.items():
        assert stepped(optimiser=name) == pytest.approx(after, abs=1e-6), name
    # Nesterov: the first step is as long as the one that momentum would add.
    assert stepped(nesterov=True, momentum=0.9) == pytest.approx(1 - 0.1 * (0.5 + 0.9 * 0.5))
    # Two steps of the same gradient: rmsprop with momentum keeps the first.
    first = 0.5 / (0.1 * 0.5)
    second = 0.9 * first + 0.5 / (0.5 * (1 - 0.99**2) ** 0.5)
    assert stepped(2, optimiser="rmsprop", momentum=0.9) == pytest.approx(
        1 - 0.1 * (first + second), abs=1e-5
    )


def stepped(steps: int = 1, **settings: object) -> float:
    weight = torch.nn.Parameter(torch.ones(1))
    plain = {"learning_rate": 0.1, "momentum": 0.0, **settings}
    by = optimiser(TrainConfig(**plain), [{"params": [weight]}])  # type: ignore[arg-type]
    for _ in range(steps):
        weight.grad = torch.full((1,), 0.5)
        by.step()
    return weight.item()
