"""The weighted cross entropy, by hand."""

from math import log

import pytest
import torch

from unet_core.net.loss import weighted_cross_entropy


def test_two_voxels_by_hand() -> None:
    # p = (0.2, 0.8) at the first voxel, (0.5, 0.5) at the second
    logits = torch.log(torch.tensor([[[[0.2, 0.5]], [[0.8, 0.5]]]]))
    target = torch.tensor([[[1, 0]]], dtype=torch.uint8)
    border = torch.tensor([[[0.0, 4.0]]])
    total, counted = weighted_cross_entropy(logits, target, border, torch.tensor([3.0, 2.0]))
    assert counted.item() == 2
    assert total.item() == pytest.approx(2 * -log(0.8) + (3 + 4) * -log(0.5))


def test_ignored_voxels_change_nothing_whatever_stands_there() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 3, 4, 4, generator=generator, requires_grad=True)
    target = torch.randint(0, 3, (1, 4, 4), generator=generator).to(torch.uint8)
    target[0, :2] = 255
    border = torch.rand(1, 4, 4, generator=generator)
    weights = torch.tensor([1.0, 2.0, 3.0])
    total, counted = weighted_cross_entropy(logits, target, border, weights)
    total.backward()
    assert counted.item() == 8
    assert (logits.grad[:, :, :2] == 0).all()  # type: ignore[index]
    assert (logits.grad[:, :, 2:] != 0).all()  # type: ignore[index]
    rest, _ = weighted_cross_entropy(logits[:, :, 2:], target[:, 2:], border[:, 2:], weights)
    assert rest.item() == pytest.approx(total.item())


def test_where_all_is_ignored_the_sum_and_its_gradient_are_0() -> None:
    logits = torch.ones(1, 2, 2, 2, requires_grad=True)
    target = torch.full((1, 2, 2), 255, dtype=torch.uint8)
    total, counted = weighted_cross_entropy(
        logits, target, torch.ones(1, 2, 2), torch.tensor([1.0, 1.0])
    )
    total.backward()
    assert (total.item(), counted.item()) == (0, 0)
    assert (logits.grad == 0).all()


def test_equal_weights_and_no_border_give_the_plain_cross_entropy() -> None:
    logits = torch.randn(2, 4, 5, 3, 6, generator=torch.Generator().manual_seed(1))
    target = torch.randint(0, 4, (2, 5, 3, 6), generator=torch.Generator().manual_seed(2))
    total, counted = weighted_cross_entropy(
        logits, target.to(torch.uint8), torch.zeros(2, 5, 3, 6), torch.ones(4)
    )
    expected = torch.nn.functional.cross_entropy(logits, target)
    assert (total / counted).item() == pytest.approx(expected.item(), rel=1e-6)
