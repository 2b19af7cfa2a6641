"""Errors of voxels, by hand."""

from math import exp, log

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from unet_core.net.loss import Errors, one_hot, predicted, voxel_errors, weighted_sum

KINDS: list[Errors] = ["cross_entropy", "focal", "mse"]


def logit(p: float) -> float:
    return log(p / (1 - p))


def weighted(
    logits: Tensor, target: Tensor, border: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    return weighted_sum(voxel_errors(logits, target), target, border, weights)


def test_the_weighted_cross_entropy_of_two_voxels_by_hand() -> None:
    # p = (0.2, 0.8) at the first voxel, (0.5, 0.5) at the second
    logits = torch.log(torch.tensor([[[[0.2, 0.5]], [[0.8, 0.5]]]]))
    target = torch.tensor([[[1, 0]]], dtype=torch.uint8)
    border = torch.tensor([[[0.0, 4.0]]])
    total, counted = weighted(logits, target, border, torch.tensor([3.0, 2.0]))
    assert counted.item() == 2
    assert total.item() == pytest.approx(2 * -log(0.8) + (3 + 4) * -log(0.5))


def test_the_errors_of_softmax_outputs_by_hand() -> None:
    # p = (0.2, 0.3, 0.5), the voxel is of class 1
    logits = torch.log(torch.tensor([0.2, 0.3, 0.5])).view(1, 3, 1) + 7
    target = torch.tensor([[1]], dtype=torch.uint8)

    def error(kind: Errors, gamma: float = 2.0) -> float:
        return voxel_errors(logits, target, kind=kind, gamma=gamma).item()

    assert error("cross_entropy") == pytest.approx(-log(0.3))
    assert error("focal") == pytest.approx(0.7**2 * -log(0.3))
    assert error("focal", 1) == pytest.approx(0.7 * -log(0.3))
    assert error("mse") == pytest.approx((0.2**2 + 0.7**2 + 0.5**2) / 3)


def test_the_errors_of_sigmoid_outputs_by_hand() -> None:
    # p = 0.2 of class 1, 0.9 of class 2; voxels of classes 0 and 2
    logits = torch.tensor([[[logit(0.2)] * 2, [logit(0.9)] * 2]])
    target = torch.tensor([[0, 2]], dtype=torch.uint8)

    def errors(kind: Errors) -> list[float]:
        found: list[float] = voxel_errors(logits, target, kind=kind, sigmoid=True)[0].tolist()
        return found

    assert errors("cross_entropy") == pytest.approx(
        [(-log(0.8) - log(0.1)) / 2, (-log(0.8) - log(0.9)) / 2]
    )
    assert errors("focal") == pytest.approx(
        [
            (0.2**2 * -log(0.8) + 0.9**2 * -log(0.1)) / 2,
            (0.2**2 * -log(0.8) + 0.1**2 * -log(0.9)) / 2,
        ]
    )
    assert errors("mse") == pytest.approx([(0.2**2 + 0.9**2) / 2, (0.2**2 + 0.1**2) / 2])


def test_the_weight_of_a_voxel_is_that_of_its_class_with_sigmoid_too() -> None:
    logits = torch.tensor([[[logit(0.2), logit(0.7)]]])
    target = torch.tensor([[0, 1]], dtype=torch.uint8)
    errors = voxel_errors(logits, target, sigmoid=True)
    border = torch.tensor([[0.5, 0.0]])
    total, _ = weighted_sum(errors, target, border, torch.tensor([3.0, 2.0]))
    assert total.item() == pytest.approx(3.5 * -log(0.8) + 2 * -log(0.7))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sigmoid", [False, True])
def test_ignored_voxels_change_nothing_whatever_stands_there(kind: Errors, sigmoid: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 3 - sigmoid, 4, 4, generator=generator, requires_grad=True)
    target = torch.randint(0, 3, (1, 4, 4), generator=generator).to(torch.uint8)
    target[0, :2] = 255
    border = torch.rand(1, 4, 4, generator=generator)
    weights = torch.tensor([1.0, 2.0, 3.0])

    def of(rows: slice) -> tuple[Tensor, Tensor]:
        errors = voxel_errors(logits[:, :, rows], target[:, rows], kind=kind, sigmoid=sigmoid)
        return weighted_sum(errors, target[:, rows], border[:, rows], weights)

    total, counted = of(slice(0, 4))
    total.backward()  # type: ignore[no-untyped-call]
    assert counted.item() == 8
    assert (logits.grad[:, :, :2] == 0).all()  # type: ignore[index]
    assert (logits.grad[:, :, 2:] != 0).all()  # type: ignore[index]
    assert of(slice(2, 4))[0].item() == pytest.approx(total.item())


def test_where_all_is_ignored_the_sum_and_its_gradient_are_0() -> None:
    logits = torch.ones(1, 2, 2, 2, requires_grad=True)
    target = torch.full((1, 2, 2), 255, dtype=torch.uint8)
    total, counted = weighted(logits, target, torch.ones(1, 2, 2), torch.tensor([1.0, 1.0]))
    total.backward()  # type: ignore[no-untyped-call]
    assert (total.item(), counted.item()) == (0, 0)
    assert logits.grad is not None
    assert (logits.grad == 0).all()


def test_equal_weights_and_no_border_give_the_plain_cross_entropy() -> None:
    logits = torch.randn(2, 4, 5, 3, 6, generator=torch.Generator().manual_seed(1))
    target = torch.randint(0, 4, (2, 5, 3, 6), generator=torch.Generator().manual_seed(2))
    total, counted = weighted(
        logits, target.to(torch.uint8), torch.zeros(2, 5, 3, 6), torch.ones(4)
    )
    expected = functional.cross_entropy(logits, target)
    assert (total / counted).item() == pytest.approx(expected.item(), rel=1e-6)


@given(gamma=st.floats(0, 5), height=st.floats(-40, 40), sigmoid=st.booleans())
@settings(deadline=None, max_examples=40)
def test_the_focal_loss_has_a_gradient_however_sure_the_network_is(
    gamma: float, height: float, sigmoid: bool
) -> None:
    logits = torch.tensor([height] if sigmoid else [0.0, height]).view(1, -1, 1).requires_grad_()
    target = torch.tensor([[1]], dtype=torch.uint8)
    error = voxel_errors(logits, target, kind="focal", sigmoid=sigmoid, gamma=gamma)
    error.sum().backward()  # type: ignore[no-untyped-call]
    p = 1 / (1 + exp(-height))
    assert error.item() == pytest.approx((1 - p) ** gamma * -log(p), rel=1e-3, abs=1e-5)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_classes_are_one_hot_and_class_0_has_no_sigmoid_output() -> None:
    target = torch.tensor([[0, 2, 255, 1]], dtype=torch.uint8)
    assert one_hot(target, outputs=3, sigmoid=False).tolist() == [
        [[1, 0, 1, 0], [0, 0, 0, 1], [0, 1, 0, 0]]
    ]
    assert one_hot(target, outputs=2, sigmoid=True).tolist() == [[[0, 0, 0, 1], [0, 1, 0, 0]]]


def test_the_predicted_class_is_the_most_probable_and_0_where_no_sigmoid_is_above_a_half() -> None:
    logits = torch.tensor([[[1.0, -1, 0, -3], [2.0, -2, 0, 1]]])
    assert predicted(logits, sigmoid=False).tolist() == [[1, 0, 0, 1]]
    assert predicted(logits, sigmoid=True).tolist() == [[2, 0, 0, 2]]
