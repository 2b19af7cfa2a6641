"""What a recipe minimises: its parts, its heads, and its parts in several processes."""

from dataclasses import replace
from math import log
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from unet_core.config import NetworkConfig, TrainConfig
from unet_core.config.networks.build import graph_of
from unet_core.config.networks.graph import Graph
from unet_core.errors import ConfigError
from unet_core.net.dice import dice_loss
from unet_core.net.objective import Objective, Sums
from unet_core.net.patches import Batch

DEEPLAB: dict[str, Any] = {
    **{"architecture": "deeplabv3plus", "encoder": "resnet18", "depth": 4},
    **{"padding": "same", "up": "bilinear"},
}
VNET: dict[str, Any] = {"architecture": "vnet", "padding": "same", "width": 4}
ONES = torch.ones(2)
CE = TrainConfig()


def batch_of(target: Tensor) -> Batch:
    return Batch(torch.empty(0), target, torch.zeros(target.shape))


def voxels() -> tuple[Tensor, Batch]:
    """Logits and batch of three voxels, p = 0.8, 0.4 and 0.5 of class 1; the last is ignored."""
    p = torch.tensor([[0.8, 0.4, 0.5]])
    target = torch.tensor([[1, 0, 255]], dtype=torch.uint8)
    return torch.log(torch.stack([1 - p, p], dim=1)), batch_of(target)


def loss_of(objective: Objective, *logits: Tensor, batch: Batch) -> float:
    return objective.loss(logits, batch).item()


def test_ignored_voxels_are_skipped_or_counted_in_the_mean() -> None:
    logits, batch = voxels()
    total = -log(0.8) - log(0.6)
    skipped = Objective(CE, ONES, sigmoid=False)
    counted = Objective(replace(CE, ignored="counted"), ONES, sigmoid=False)
    assert loss_of(skipped, logits, batch=batch) == pytest.approx(total / 2)
    assert loss_of(counted, logits, batch=batch) == pytest.approx(total / 3)


def test_cross_entropy_and_dice_are_added_with_their_factors() -> None:
    logits, batch = voxels()
    config = replace(CE, loss_weight=0.5, dice="global", dice_weight=3.0)
    entropy = (-log(0.8) - log(0.6)) / 2
    dice = 1 - (2 * 1.4 + 1e-6) / (4 + 1e-6)
    both = Objective(config, ONES, sigmoid=False)
    alone = Objective(replace(config, loss="none"), ONES, sigmoid=False)
    assert loss_of(both, logits, batch=batch) == pytest.approx(0.5 * entropy + 3 * dice)
    assert loss_of(alone, logits, batch=batch) == pytest.approx(3 * dice)


def test_a_validation_is_the_mean_over_voxels_and_that_of_dice_over_batches() -> None:
    logits, batch = voxels()
    config = replace(CE, loss_weight=0.5, dice="global", dice_weight=3.0)
    objective, sums = Objective(config, ONES, sigmoid=False), Sums()
    objective.add(sums, logits, batch)
    assert objective.mean(sums) == pytest.approx(loss_of(objective, logits, batch=batch))
    objective.add(sums, logits[..., :1], batch_of(batch.target[:, :1]))
    entropy = (-2 * log(0.8) - log(0.6)) / 3
    dice = (1 - 2 * 1.4 / 4 + 1 - 2 * 0.8 / 2) / 2
    assert objective.mean(sums) == pytest.approx(0.5 * entropy + 3 * dice, abs=1e-6)
    assert objective.mean(Sums()) == 0


def heads(model: NetworkConfig, *weights: float, main: float = 1.0) -> Objective:
    graph = Graph(2, 1, (), "head", tuple((f"more{i}", w) for i, w in enumerate(weights)), main)
    return Objective.of(CE, model, graph, ONES)


def random(size: int, seed: int) -> Tensor:
    return torch.randn(1, 2, size, size, generator=torch.Generator().manual_seed(seed))


def test_heads_of_the_levels_see_the_voxels_at_the_centres_of_theirs() -> None:
    target = torch.arange(64).view(1, 8, 8).remainder(3).clamp(max=1).to(torch.uint8)
    objective = heads(NetworkConfig(padding="same", supervision="levels"), 0.25, 0.0, main=0.5)
    large, small, unseen = random(8, 1), random(4, 2), torch.full((1, 2, 2, 2), torch.nan)
    thinned = functional.interpolate(target[None].float(), size=(4, 4), mode="nearest-exact")[0]
    wanted = 0.5 * functional.cross_entropy(large, target.long())
    wanted = wanted + 0.25 * functional.cross_entropy(small, thinned.long())
    found = loss_of(objective, large, small, unseen, batch=batch_of(target))
    assert found == pytest.approx(wanted.item())


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"auxiliary": 0.4}, r"model\.auxiliary 0.4 .* model\.padding valid"),
        ({"supervision": "levels"}, r"model\.supervision levels .* model\.padding valid"),
        ({"auxiliary": 0.4, "supervision": "levels"}, "two ways"),
        ({"supervision": "levels", "depth": 1, "padding": "same"}, "no further map"),
        (DEEPLAB | {"auxiliary": 0.4}, "no further map"),
        (VNET | {"supervision": "levels"}, "no further map"),
    ],
)
def test_heads_that_would_teach_nothing_are_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        graph_of(NetworkConfig(**settings))


class Parts:
    """Stands for two processes, one after the other: sums of the other one are told."""

    count = 2

    def __init__(self, others: list[Tensor]) -> None:
        self.others = others
        self.said: list[Tensor] = []

    def sum(self, tensor: Tensor) -> Tensor:
        return self.total(tensor)

    def total(self, tensor: Tensor) -> Tensor:
        self.said.append(tensor)
        return tensor + self.others.pop(0) if self.others else tensor


def test_the_parts_of_two_processes_add_up_to_the_loss() -> None:
    logits = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(5))
    target = (logits[:, 0] > 0.3).to(torch.uint8)
    target[0, 0] = 255
    for kind in ("global", "squared", "image", "log", "foreground_batch"):
        objective = Objective(replace(CE, dice=kind), ONES, sigmoid=False)
        pieces = [(logits[:1], batch_of(target[:1])), (logits[1:], batch_of(target[1:]))]
        said = []
        for one, batch in pieces:
            ranks = Parts([])
            objective.loss([one], batch, ranks)  # type: ignore[arg-type]
            said.append(ranks.said)
        parts = [
            objective.loss([one], batch, Parts(list(others))).item()  # type: ignore[arg-type]
            for (one, batch), others in zip(pieces, reversed(said), strict=True)
        ]
        whole = loss_of(objective, logits, batch=batch_of(target))
        assert sum(parts) == pytest.approx(whole, rel=1e-5), kind
        assert dice_loss(logits, target, kind=kind).item() < whole
