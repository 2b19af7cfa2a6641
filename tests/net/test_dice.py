"""Soft Dice in all its definitions, by hand."""

from math import log

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from unet_core.net.dice import DEFINITIONS, dice_loss
from unet_core.net.loss import one_hot

KINDS = sorted(DEFINITIONS)
MASKED = [kind for kind in KINDS if not DEFINITIONS[kind].ignored_counted]

ORDERS = st.permutations([0, 1, 2])

TARGET = torch.tensor([[1, 0], [1, 1]], dtype=torch.uint8)
"""Two images of two voxels."""

P = torch.tensor([[0.8, 0.4], [0.5, 0.9]])
"""Probability of class 1."""


def of_softmax(p: Tensor = P, target: Tensor = TARGET, *, kind: str) -> float:
    return dice_loss(torch.log(torch.stack([1 - p, p], dim=1)), target, kind=kind).item()


def of_sigmoid(p: Tensor = P, target: Tensor = TARGET, *, kind: str) -> float:
    return dice_loss(torch.logit(p)[:, None], target, kind=kind, sigmoid=True).item()


# Class 1: I = 0.8 in the first image, 0.5 + 0.9 in the second; P = 1.2 and 1.4; T = 1 and 2;
# P of squares 0.8 and 1.06. Class 0: I = 0.6 and 0; P = 0.8 and 0.6; T = 1 and 0; P of squares
# 0.2^2 + 0.6^2 = 0.4 and 0.5^2 + 0.1^2 = 0.26.
def test_global_is_one_ratio_over_batch_classes_and_voxels() -> None:
    assert of_softmax(kind="global") == pytest.approx(1 - (2 * 2.8 + 1e-6) / (8 + 1e-6))
    assert of_sigmoid(kind="global") == pytest.approx(1 - (2 * 2.2 + 1e-6) / (5.6 + 1e-6))


def test_batch_is_one_ratio_per_class_over_the_batch() -> None:
    foreground = 1 - (2 * 2.2 + 1) / (2.6 + 3 + 1)
    background = 1 - (2 * 0.6 + 1) / (1.4 + 1 + 1)
    assert of_sigmoid(kind="batch") == pytest.approx(foreground)
    assert of_softmax(kind="batch") == pytest.approx((foreground + background) / 2)


def test_image_is_one_ratio_per_image_over_its_classes() -> None:
    first, second = 1 - 1.60001 / 2.20001, 1 - 2.80001 / 3.40001
    assert of_sigmoid(kind="image") == pytest.approx((first + second) / 2)
    first, second = 1 - (2 * 1.4 + 1e-5) / (4 + 1e-5), 1 - (2 * 1.4 + 1e-5) / (4 + 1e-5)
    assert of_softmax(kind="image") == pytest.approx((first + second) / 2)


def test_log_takes_means_over_the_batch_within_the_logarithms() -> None:
    intersection = ((0.8 + 1e-4) + (1.4 + 1e-4)) / 2
    both = ((1 + 1.2 + 1e-4) + (2 + 1.4 + 1e-4)) / 2
    assert of_sigmoid(kind="log") == pytest.approx(-log(2 * intersection) + log(both))


def test_squared_is_per_image_and_class_with_squares_below() -> None:
    foreground = (1 - (2 * 0.8 + 1) / (0.8 + 1 + 1) + 1 - (2 * 1.4 + 1) / (1.06 + 2 + 1)) / 2
    background = (1 - (2 * 0.6 + 1) / (0.4 + 1 + 1) + 1 - (2 * 0 + 1) / (0.26 + 0 + 1)) / 2
    assert of_softmax(kind="squared") == pytest.approx((foreground + background) / 2)
    assert of_sigmoid(kind="squared") == pytest.approx(foreground)


def test_squared_leaves_ignored_voxels_out_of_the_intersection_alone() -> None:
    # The second voxel of the first image is ignored: it counts as the last class, 1, in t.
    target = torch.tensor([[1, 255], [1, 1]], dtype=torch.uint8)
    foreground = (1 - (2 * 0.8 + 1) / (0.8 + 2 + 1) + 1 - (2 * 1.4 + 1) / (1.06 + 2 + 1)) / 2
    background = (1 - (2 * 0 + 1) / (0.4 + 0 + 1) + 1 - (2 * 0 + 1) / (0.26 + 0 + 1)) / 2
    assert of_softmax(target=target, kind="squared") == pytest.approx((foreground + background) / 2)
    assert of_sigmoid(target=target, kind="squared") == pytest.approx(foreground)


def test_foreground_squared_has_no_background_and_nothing_added() -> None:
    wanted = (1 - 2 * 0.8 / (0.8 + 1) + 1 - 2 * 1.4 / (1.06 + 2)) / 2
    assert of_softmax(kind="foreground_squared") == pytest.approx(wanted)
    assert of_sigmoid(kind="foreground_squared") == pytest.approx(wanted)


def test_foreground_batch_and_foreground_image_have_no_background() -> None:
    together = 1 - (2 * 2.2 + 1e-5) / (2.6 + 3 + 1e-5)
    apart = (1 - 1.60001 / 2.20001 + 1 - 2.80001 / 3.40001) / 2
    for of in (of_softmax, of_sigmoid):
        assert of(kind="foreground_batch") == pytest.approx(together)
        assert of(kind="foreground_image") == pytest.approx(apart)


def test_classes_above_0_are_averaged() -> None:
    # One image of two voxels of classes 1 and 2, p = (0.1, 0.6, 0.3) at both.
    logits = torch.log(torch.tensor([0.1, 0.6, 0.3])).view(1, 3, 1).expand(1, 3, 2)
    target = torch.tensor([[1, 2]], dtype=torch.uint8)
    each = [1 - (2 * p + 1e-5) / (1 + 2 * p + 1e-5) for p in (0.6, 0.3)]
    assert dice_loss(logits, target, kind="foreground_image").item() == pytest.approx(sum(each) / 2)


@pytest.mark.parametrize("sigmoid", [False, True])
@pytest.mark.parametrize("kind", MASKED)
def test_ignored_voxels_change_nothing_whatever_stands_there(kind: str, sigmoid: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(2, 3 - sigmoid, 4, 4, generator=generator, requires_grad=True)
    target = torch.randint(0, 3, (2, 4, 4), generator=generator).to(torch.uint8)
    target[:, :2] = 255
    loss = dice_loss(logits, target, kind=kind, sigmoid=sigmoid)
    loss.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert (logits.grad[:, :, :2] == 0).all()
    assert (logits.grad[:, :, 2:] != 0).any()
    rest = dice_loss(logits[:, :, 2:], target[:, 2:], kind=kind, sigmoid=sigmoid)
    assert rest.item() == pytest.approx(loss.item())


@pytest.mark.parametrize("sigmoid", [False, True])
@pytest.mark.parametrize("kind", MASKED)
def test_a_batch_that_is_all_ignored_has_no_gradient(kind: str, sigmoid: bool) -> None:
    logits = torch.ones(2, 2, 3, requires_grad=True)
    target = torch.full((2, 3), 255, dtype=torch.uint8)
    dice_loss(logits, target, kind=kind, sigmoid=sigmoid).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert (logits.grad == 0).all()


@given(kind=st.sampled_from(KINDS), sigmoid=st.booleans(), images=st.tuples(*[ORDERS] * 2))
@settings(deadline=None, max_examples=40)
def test_a_perfect_prediction_costs_nothing(
    kind: str, sigmoid: bool, images: tuple[list[int], list[int]]
) -> None:
    target = torch.tensor(images, dtype=torch.uint8)
    sure = one_hot(target, outputs=3 - sigmoid, sigmoid=sigmoid) * 60 - 30
    best = dice_loss(sure, target, kind=kind, sigmoid=sigmoid).item()
    assert best == pytest.approx(0, abs=1e-4)
    assert dice_loss(sure / 30, target, kind=kind, sigmoid=sigmoid).item() > best


@pytest.mark.parametrize("kind", sorted({*KINDS} - {"log"}))
def test_a_class_that_occurs_nowhere_and_is_not_predicted_costs_nothing(kind: str) -> None:
    nothing = torch.zeros(2, 3, dtype=torch.uint8)
    sure = torch.full((2, 1, 3), -200.0)
    assert dice_loss(sure, nothing, kind=kind, sigmoid=True).item() == 0


def test_the_loss_of_a_batch_in_parts_is_that_of_the_whole_with_its_gradient() -> None:
    generator = torch.Generator().manual_seed(4)
    target = torch.randint(0, 3, (3, 5), generator=generator).to(torch.uint8)
    start = torch.randn(3, 3, 5, generator=generator)
    for kind in KINDS:
        whole = start.clone().requires_grad_()
        loss = dice_loss(whole, target, kind=kind)
        loss.backward()  # type: ignore[no-untyped-call]
        parts = start.clone().requires_grad_()
        own, other = (parts[:1], target[:1]), (parts[1:], target[1:])
        again = _together(own, other, kind)
        again.backward()  # type: ignore[no-untyped-call]
        assert again.item() == pytest.approx(loss.item(), rel=1e-5), kind
        assert torch.allclose(whole.grad, parts.grad, atol=1e-6), kind  # type: ignore[arg-type]


def _together(own: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor], kind: str) -> Tensor:
    """The loss of `own`, given the sums of `other`."""
    sums: list[Tensor] = []

    def kept(part: Tensor) -> Tensor:
        sums.append(part)
        return part

    dice_loss(*other, kind=kind, total=kept)
    told = iter(sums)
    return dice_loss(*own, kind=kind, total=lambda part: part + next(told))
