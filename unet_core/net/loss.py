"""What training minimises, voxel by voxel."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

IGNORED = 255

_LEAST = 1e-12
"""Of 1 - p in the focal loss: the slope of its power is infinite at 0."""

Errors = Literal["cross_entropy", "focal", "mse"]


def weighted_sum(
    errors: Tensor, target: Tensor, border: Tensor, class_weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Sum of the weighted errors, and the number of voxels (of affinities: pairs) it runs over.

    ``sum_x (w_c[target(x)] + border(x)) * errors(x)`` (Ronneberger et al. 2015, eqs. 1 and 2;
    `border` is the second term of eq. 2). The loss is their quotient: a mean over the voxels that
    count, not over their weights.

    Parameters
    ----------
    errors : (n, ...) or (n, outputs, ...) float32
        Of `voxel_errors`.
    target : as `errors`, uint8
        Class per voxel, or affinities; 255 counts for nothing.
    border : (n, ...) float, >= 0
    class_weights : (classes,) float32
        w_c; of affinities those of 0 and 1.
    """
    counted = target != IGNORED
    if target.ndim > border.ndim:
        border = border[:, None]
    weight = (class_weights[classes_of(target)] + border.float()) * counted
    return (weight * errors).sum(), counted.sum()


def voxel_errors(
    logits: Tensor,
    target: Tensor,
    *,
    kind: Errors = "cross_entropy",
    sigmoid: bool = False,
    gamma: float = 2.0,
) -> Tensor:
    """How wrong each voxel is: (n, ...) float32, of ignored voxels any number.

    cross_entropy: ``-log p`` of the voxel's class, p the softmax of the logits. focal:
    ``-(1 - p)^gamma log p`` (Lin et al. 2017, eq. 4). mse: mean over the classes of
    ``(p - t)^2``, t being 1 for the voxel's class, else 0. With `sigmoid` the same of each output
    by itself, p or 1 - p being the probability of what the target says of it, and the mean over
    the outputs; of affinities each output keeps its own: (n, outputs, ...).

    Parameters
    ----------
    logits : (n, outputs, ...) float
        An output per class; with `sigmoid` one per class above 0.
    target : (n, ...) uint8
        Class per voxel; 255 ignored. Or affinities, 0 or 1 of every output: (n, outputs, ...).
    """
    logits = logits.float()
    together = target.ndim < logits.ndim
    if kind == "mse":
        right = wanted(target, logits, sigmoid=sigmoid)
        squares = (probabilities(logits, sigmoid=sigmoid) - right).square()
        return squares.mean(dim=1) if together else squares
    if sigmoid:
        right = wanted(target, logits, sigmoid=True)
        entropy = functional.binary_cross_entropy_with_logits(logits, right, reduction="none")
    else:
        entropy = functional.cross_entropy(logits, classes_of(target), reduction="none")
    if kind == "focal":
        entropy = (-torch.expm1(-entropy)).clamp(min=_LEAST) ** gamma * entropy
    return entropy.mean(dim=1) if sigmoid and together else entropy


def probabilities(logits: Tensor, *, sigmoid: bool) -> Tensor:
    """Of the outputs, 0 to 1: softmax over them, or of each by itself."""
    return torch.sigmoid(logits) if sigmoid else torch.softmax(logits, dim=1)


def predicted(logits: Tensor, *, sigmoid: bool) -> Tensor:
    """Class per voxel: (n, outputs, ...) -> (n, ...).

    The most probable one; with `sigmoid` 0 where no probability is above 0.5.
    """
    number = logits.argmax(dim=1)
    return torch.where(logits.amax(dim=1) > 0, number + 1, 0) if sigmoid else number


def classes_of(target: Tensor) -> Tensor:
    """Class per voxel as int64; 0 for those that are ignored."""
    return torch.where(target != IGNORED, target, 0).long()


def wanted(target: Tensor, logits: Tensor, *, sigmoid: bool) -> Tensor:
    """What probabilities should be, 0 or 1: (n, outputs, ...) float32; ignored voxels: class 0."""
    if target.ndim == logits.ndim:
        return classes_of(target).float()
    return one_hot(target, outputs=logits.shape[1], sigmoid=sigmoid)


def one_hot(target: Tensor, *, outputs: int, sigmoid: bool) -> Tensor:
    """1 for the class of a voxel, else 0: (n, ...) -> (n, outputs, ...) float32.

    Ignored voxels get class 0; with `sigmoid` class 0 has no output.
    """
    full = functional.one_hot(classes_of(target), outputs + sigmoid).movedim(-1, 1)
    return (full[:, 1:] if sigmoid else full).float()
