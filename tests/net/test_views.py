"""Views of an input: each is undone exactly, and a mean over all of them is symmetric."""

from math import prod
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from unet_core.config import InferConfig
from unet_core.net.views import View, mean_over, views_of

Averaging = Literal["none", "mirrors", "turns", "symmetries"]

CASES: list[tuple[Averaging, int, int]] = [
    ("none", 2, 1),
    ("none", 3, 1),
    ("mirrors", 2, 4),
    ("mirrors", 3, 8),
    ("turns", 2, 4),
    ("turns", 3, 4),
    ("symmetries", 2, 8),
    ("symmetries", 3, 8),
]


def crooked(x: Tensor) -> Tensor:
    """Something that no view leaves as it is."""
    return x * torch.arange(x[0, 0].numel()).reshape(x.shape[2:]) + x.roll(1, -1)


@pytest.mark.parametrize(("averaging", "dimensions", "count"), CASES)
def test_views_are_undone_and_all_differ(averaging: Averaging, dimensions: int, count: int) -> None:
    config = InferConfig(averaging=averaging)
    views = views_of(config, dimensions)
    assert len(views) == len(set(views)) == count == config.views(dimensions)
    assert views[0] == View()
    sizes = (3, 4, 5)[-dimensions:]
    x = torch.arange(float(prod(sizes))).reshape(1, 1, *sizes)
    assert all(torch.equal(view.undone(view.of(x)), x) for view in views)
    square = torch.arange(4.0**dimensions).reshape((1, 1, *[4] * dimensions))
    assert len({tuple(view.of(square).flatten().tolist()) for view in views}) == count


def test_turns_are_quarter_turns() -> None:
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    made = {tuple(v.of(x).flatten().tolist()) for v in views_of(InferConfig(averaging="turns"), 2)}
    turned = {tuple(np.rot90(x[0, 0].numpy(), k).ravel().tolist()) for k in range(4)}
    assert made == turned


@pytest.mark.parametrize(("averaging", "dimensions", "count"), CASES)
def test_a_mean_over_views_is_the_plain_mean_and_as_symmetric_as_they_are(
    averaging: Averaging, dimensions: int, count: int
) -> None:
    views = views_of(InferConfig(averaging=averaging), dimensions)
    x = torch.from_numpy(
        np.random.default_rng(0).integers(-9, 9, (1, 1, *[4] * dimensions))
    ).double()
    found = mean_over(views, crooked, x)
    # Whole numbers over powers of two: every sum is exact, in any order.
    plain = torch.stack([view.undone(crooked(view.of(x))) for view in views]).mean(dim=0)
    assert torch.equal(found, plain)
    for view in views:
        assert torch.equal(mean_over(views, crooked, view.of(x)), view.of(found))
