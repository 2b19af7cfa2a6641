"""Settings of training: what is minimised, by which steps, at which rates."""

from typing import Literal

from pydantic.dataclasses import dataclass

from unet_core.config.base import STRICT
from unet_core.errors import ConfigError

Dice = Literal[
    "none",
    "global",
    "batch",
    "image",
    "log",
    "squared",
    "foreground_squared",
    "foreground_batch",
    "foreground_image",
]
"""Definitions of the soft Dice loss; their formulas: `unet_core.net.dice`."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TrainConfig:
    """The recipe; the defaults are those of Ronneberger et al. 2015 where it states them."""

    seed: int = 0
    """Of initial weights, order of patches and dropout."""

    steps: int = 30000
    """Optimiser steps; 0, with pretrained.file: the network is used as it is there."""

    batch: int = 1
    """Patches per step."""

    loss: Literal["cross_entropy", "focal", "mse", "none"] = "cross_entropy"
    """Per voxel, weighted by its class and by the border term. cross_entropy: with model.output
    sigmoid the binary one of every output. focal: the same, times (1 - p)^focal_gamma. mse: squared
    difference of probabilities. none: dice alone."""

    loss_weight: float = 1.0
    """Factor of loss beside dice."""

    focal_gamma: float = 2.0
    """Of loss focal: how much less voxels count that are right already; 0: cross_entropy."""

    ignored: Literal["skipped", "counted"] = "skipped"
    """Voxels without a class add nothing to the loss. The mean is over the others (skipped) or
    over all (counted, as in mmsegmentation)."""

    dice: Dice = "none"
    """Soft Dice loss, added to loss. One ratio over all voxels of the batch, all classes together
    (global) or mean over classes of one each (batch); one per image, all classes together (image);
    log: logarithm of the ratio of means over the batch; squared: per image and class, squares in
    the denominator. foreground_squared, foreground_batch, foreground_image: the same, or one ratio
    per image and class, of the classes above 0."""

    dice_weight: float = 1.0
    """Factor of dice."""

    optimiser: Literal["sgd", "adam", "adamw", "rmsprop", "adagrad"] = "sgd"
    """How gradients become steps."""

    learning_rate: float = 1e-3
    """At the start (after warm-up)."""

    momentum: float = 0.99
    """Of sgd and rmsprop."""

    nesterov: bool = False
    """sgd: the gradient is that where the momentum leads to."""

    frozen: Literal["none", "encoder"] = "none"
    """encoder: the weights of the contracting path (the deepest level included) or of a backbone,
    and what its batch normalisations have seen, stay as they are; for pretrained weights."""

    layer_decay: float = 1.0
    """Learning rate of the layers of a level over that of the level after it, down the contracting
    path and up again, the logits with the last: below 1, early layers change less; for pretrained
    weights."""

    weight_decay: float = 0.0
    """Decoupled (adamw), else L2."""

    schedule: Literal["constant", "cosine", "poly", "stairs", "plateau"] = "constant"
    """Of the learning rate over all steps. cosine and poly ((1 - step/steps)^0.9): to
    min_learning_rate. stairs: times rate_factor every schedule_every steps. plateau: times
    rate_factor when plateau_by has not become better for more than patience validations."""

    schedule_every: int = 1
    """Steps for which cosine, poly and stairs keep a rate."""

    min_learning_rate: float = 0.0
    """No schedule goes below it."""

    rate_factor: float = 0.1
    """Of stairs and plateau."""

    patience: int = 5
    """plateau: validations in a row that need not be better."""

    plateau_by: Literal["dice", "loss"] = "dice"
    """plateau: score of the validation volumes; better is more than 1e-4 of it better."""

    warmup_steps: int = 0
    """Steps over which the learning rate rises from 0."""

    class_weights: Literal["inverse_frequency", "uniform"] | tuple[float, ...] = "inverse_frequency"
    """w_c of the loss: N / (K N_c) over the whole training bank, 1 for all, or one per class."""

    clip_norm: float | None = None
    """Largest norm of the gradient; null: not clipped."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the convolutions; auto: bfloat16 where the device computes it natively."""

    validate_every: int = 500
    """Steps between validations; after each, the state is saved, and the best is kept."""

    def __post_init__(self) -> None:
        for key in ("batch", "validate_every", "schedule_every"):
            if getattr(self, key) < 1:
                raise ConfigError(f"train.{key} must be >= 1, got {getattr(self, key)}")
        for key in (
            *("steps", "learning_rate", "min_learning_rate", "momentum", "weight_decay"),
            *("warmup_steps", "loss_weight", "dice_weight", "focal_gamma", "patience"),
        ):
            if getattr(self, key) < 0:
                raise ConfigError(f"train.{key} must be >= 0, got {getattr(self, key)}")
        if self.momentum >= 1 or not self.learning_rate:
            raise ConfigError(
                f"train.learning_rate must be > 0 and train.momentum < 1, got {self.learning_rate} "
                f"and {self.momentum}: steps would lead nowhere, or grow without end"
            )
        if not 0 < self.layer_decay <= 1:
            raise ConfigError(f"train.layer_decay must be in (0, 1], got {self.layer_decay}")
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise ConfigError(f"train.clip_norm must be > 0 or null, got {self.clip_norm}")
        weights = self.class_weights
        if not isinstance(weights, str) and (min(weights, default=-1) < 0 or not any(weights)):
            raise ConfigError(
                f"train.class_weights must be >= 0, not all 0, and one per class, got {weights}"
            )
        if self.loss == self.dice == "none":
            raise ConfigError(
                "train.loss and train.dice are both none: nothing is left to minimise; set one"
            )
        self._check_rates()

    def _check_rates(self) -> None:
        if self.min_learning_rate > self.learning_rate:
            raise ConfigError(
                f"train.min_learning_rate {self.min_learning_rate} is above train.learning_rate "
                f"{self.learning_rate}; schedules fall from the second to the first"
            )
        if self.schedule == "stairs" and self.schedule_every == 1:
            raise ConfigError(
                "train.schedule stairs needs train.schedule_every, the steps of one stair; got 1: "
                f"every step would be {self.rate_factor} times as long as the one before"
            )
        if 0 < self.steps < self.warmup_steps:
            raise ConfigError(
                f"train.warmup_steps {self.warmup_steps} is more than train.steps {self.steps}: "
                "train.learning_rate would never be reached; set it to a tenth of the steps, or 0"
            )
        if not 0 < self.rate_factor <= 1:
            raise ConfigError(f"train.rate_factor must be in (0, 1], got {self.rate_factor}")
        if self.nesterov and not (self.optimiser == "sgd" and self.momentum):
            raise ConfigError(
                "train.nesterov is for train.optimiser sgd with train.momentum > 0, got "
                f"{self.optimiser} with {self.momentum}"
            )
