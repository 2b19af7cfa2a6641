"""The learning rate of every step."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from unet_core.config import TrainConfig

_BETTER = 1e-4
"""A score is better that is by more than this share of the best one better."""


def learning_rate(config: TrainConfig, step: int, *, factor: float = 1.0) -> float:
    """Of step `step` (from 0): the schedule, times the warm-up's rise to 1.

    `factor`: of schedule plateau, `Plateau.factor`.
    """
    stair = step // config.schedule_every
    progress = stair * config.schedule_every / config.steps
    least = config.min_learning_rate
    match config.schedule:
        case "cosine":
            rate = least + (config.learning_rate - least) * 0.5 * (1 + math.cos(math.pi * progress))
        case "poly":
            rate = least + (config.learning_rate - least) * (1 - progress) ** 0.9
        case "stairs":
            rate = max(least, config.learning_rate * config.rate_factor**stair)
        case "plateau":
            rate = max(least, config.learning_rate * factor)
        case "constant":
            rate = config.learning_rate
    rise = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    return rate * rise


@dataclass
class Plateau:
    """What schedule plateau remembers of the validations so far."""

    factor: float = 1.0
    """Of the learning rate, so far."""

    best: float | None = None
    waited: int = 0
    """Validations in a row that were not better."""

    def follow(self, config: TrainConfig, scores: Mapping[str, Any]) -> None:
        """Look at the scores of a validation: ``loss`` and ``dice``."""
        score = scores.get(config.plateau_by)
        if score is not None and self._is_better(config, score):
            self.best, self.waited = score, 0
            return
        self.waited += 1
        if self.waited > config.patience:
            self.factor, self.waited = self.factor * config.rate_factor, 0

    def _is_better(self, config: TrainConfig, score: float) -> bool:
        if self.best is None:
            return True
        least = _BETTER * abs(self.best)
        return (
            score > self.best + least if config.plateau_by == "dice" else score < self.best - least
        )

    def state(self) -> dict[str, Any]:
        """For `Plateau(**state)`."""
        return asdict(self)
