"""The loss of a network: errors of voxels and Dice, of main and auxiliary logits."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unet_core.config import TrainConfig
from unet_core.config.networks.graph import Graph
from unet_core.config.networks.settings import NetworkConfig
from unet_core.net.dice import dice_loss
from unet_core.net.loss import voxel_errors, weighted_sum
from unet_core.net.patches import Batch
from unet_core.net.ranks import ALONE, Ranks


@dataclass
class Sums:
    """What the loss of several batches is made of."""

    errors: float = 0.0
    counted: int = 0
    """Voxels that the mean of `errors` is over."""

    dice: float = 0.0
    batches: int = 0

    def over(self, ranks: Ranks, device: torch.device) -> "Sums":
        """Of all processes."""
        if ranks.count == 1:
            return self
        parts = torch.tensor([self.errors, self.dice], dtype=torch.float64, device=device)
        numbers = torch.tensor([self.counted, self.batches], device=device)
        errors, dice = ranks.sum(parts).tolist()
        counted, batches = ranks.sum(numbers).tolist()
        return Sums(errors, counted, dice, batches)


@dataclass(frozen=True)
class Objective:
    """What a recipe minimises for a network."""

    config: TrainConfig
    class_weights: Tensor
    """(classes,) w_c."""

    sigmoid: bool
    """Each output by itself, one per class above 0."""

    heads: tuple[float, ...] = (1.0,)
    """Factors of the loss of the main logits and of the auxiliary ones."""

    @classmethod
    def of(
        cls, config: TrainConfig, model: NetworkConfig, graph: Graph, class_weights: Tensor
    ) -> "Objective":
        """Of a network with this graph."""
        heads = (graph.main_weight, *(weight for _, weight in graph.auxiliary))
        return cls(config, class_weights, model.output == "sigmoid", heads)

    def loss(self, logits: Sequence[Tensor], batch: Batch, ranks: Ranks = ALONE) -> Tensor:
        """This process's part of the loss of a batch: the sum over all of them is the loss.

        Parameters
        ----------
        logits
            One (n, outputs, ...) per head; where it is coarser than the target, it sees of that
            the voxels at the centres of its own.
        batch
            The part of this process.
        """
        parts = [
            self._of_head(one, batch, ranks, weight=weight)
            for one, weight in zip(logits, self.heads, strict=True)
            if weight
        ]
        return torch.stack(parts).sum() if len(parts) > 1 else parts[0]

    def add(self, sums: Sums, logits: Tensor, batch: Batch) -> None:
        """Add a batch, seen by the main head, to the sums of this process."""
        if self.config.loss != "none":
            errors, counted = self._errors(logits, batch)
            sums.errors, sums.counted = sums.errors + float(errors), sums.counted + int(counted)
        if self.config.dice != "none":
            sums.dice += float(self._dice(logits, batch, ALONE))
            sums.batches += 1

    def mean(self, sums: Sums) -> float:
        """The loss: mean over voxels of the errors, and over batches of Dice."""
        errors = self.config.loss_weight * (sums.errors / max(sums.counted, 1))
        return errors + self.config.dice_weight * (sums.dice / max(sums.batches, 1))

    def _of_head(self, logits: Tensor, batch: Batch, ranks: Ranks, *, weight: float) -> Tensor:
        sizes = logits.shape[2:]
        if sizes != batch.border.shape[1:]:
            batch = batch._replace(
                target=_thinned(batch.target, sizes), border=_thinned(batch.border, sizes)
            )
        loss = logits.new_zeros((), dtype=torch.float32)
        if self.config.loss != "none":
            errors, counted = self._errors(logits, batch)
            # A batch without a voxel that counts gives loss 0 and gradient 0, not NaN.
            loss = errors / ranks.sum(counted).clamp(min=1) * self.config.loss_weight
        if self.config.dice != "none":
            loss = loss + self._dice(logits, batch, ranks) * (self.config.dice_weight / ranks.count)
        return loss * weight

    def _errors(self, logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        kind = self.config.loss
        if kind == "none":
            raise ValueError("there are no errors of voxels")
        errors = voxel_errors(
            logits, batch.target, kind=kind, sigmoid=self.sigmoid, gamma=self.config.focal_gamma
        )
        total, counted = weighted_sum(errors, batch.target, batch.border, self.class_weights)
        if self.config.ignored == "counted":
            counted = torch.full_like(counted, batch.target.numel())
        return total, counted

    def _dice(self, logits: Tensor, batch: Batch, ranks: Ranks) -> Tensor:
        return dice_loss(
            logits, batch.target, kind=self.config.dice, sigmoid=self.sigmoid, total=ranks.total
        )


def _thinned(array: Tensor, sizes: Sequence[int]) -> Tensor:
    """The voxels at the centres of a grid of fewer: (..., voxels) -> (..., *sizes)."""
    for axis, size in enumerate(sizes, start=array.ndim - len(sizes)):
        places = torch.arange(size, device=array.device)
        places = (2 * places + 1) * array.shape[axis] // (2 * size)
        array = array.index_select(axis, places)
    return array
