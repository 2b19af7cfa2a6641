"""Soft Dice losses as published: each is its own loss, and numbers from one do not fit another."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from unet_core.net.loss import IGNORED, probabilities, wanted

IMAGES, OUTPUTS = 0, 1
"""Axes of the sums."""


@dataclass(frozen=True)
class Definition:
    """``1 - (2 I + smooth) / (S + smooth)``: I sums p t over voxels, S sums p + t.

    p is the probability, t 1 where the target has the class and 0 elsewhere.
    """

    smooth: float

    together: tuple[int, ...] = ()
    """Axes that I and S are summed over before the ratio is taken; the loss is the mean of it over
    the others."""

    squares: bool = False
    """S sums p^2 + t^2."""

    foreground: bool = False
    """Of softmax outputs class 0 is left out."""

    logarithm: bool = False
    """``log(mean(S + smooth)) - log(2 mean(I + smooth))``, means over images, instead."""

    ignored_counted: bool = False
    """Ignored voxels are left out of I alone; in t they have the last class."""


DEFINITIONS = {
    # milesial/Pytorch-UNet
    "global": Definition(1e-6, together=(IMAGES, OUTPUTS)),
    # mateuszbuda/brain-segmentation-pytorch
    "batch": Definition(1.0, together=(IMAGES,)),
    # 4uiiurz1/pytorch-nested-unet
    "image": Definition(1e-5, together=(OUTPUTS,)),
    # IntelAI/unet
    "log": Definition(1e-4, together=(IMAGES,), logarithm=True),
    # mmsegmentation
    "squared": Definition(1.0, squares=True, ignored_counted=True),
    # V-Net (Milletari et al. 2016)
    "foreground_squared": Definition(0.0, squares=True, foreground=True),
    # nnU-Net with and without batch Dice
    "foreground_batch": Definition(1e-5, together=(IMAGES,), foreground=True),
    "foreground_image": Definition(1e-5, foreground=True),
}
"""By the name in `train.dice`, and whose loss it is."""

Total = Callable[[Tensor], Tensor]


def dice_loss(
    logits: Tensor,
    target: Tensor,
    *,
    kind: str,
    sigmoid: bool = False,
    total: Total = lambda part: part,
) -> Tensor:
    """The loss of a batch, one number; a batch without a voxel that counts has no gradient.

    Parameters
    ----------
    logits : (n, outputs, ...) float
    target : (n, ...) uint8
        Class per voxel; 255 ignored. Or affinities, 0 or 1 of every output: (n, outputs, ...).
    kind
        A key of `DEFINITIONS`.
    sigmoid
        Every output by itself, one per class above 0.
    total
        Sum over all parts of the batch of a tensor that runs over this one, with its gradient.
    """
    of = DEFINITIONS[kind]
    sums = _sums(logits.float(), target, of, sigmoid=sigmoid)
    if OUTPUTS in of.together:
        sums = sums.sum(2, keepdim=True)
    if IMAGES in of.together and not of.logarithm:
        return 1 - _ratio(total(sums.sum(1)), of.smooth).mean()
    images = total(torch.full((), float(len(logits)), device=logits.device))
    if of.logarithm:
        both, all_ = total(sums.sum(1)) / images + of.smooth
        return (torch.log(all_) - torch.log(2 * both)).mean()
    return total((1 - _ratio(sums, of.smooth).mean(1)).sum()) / images


def _ratio(sums: Tensor, smooth: float) -> Tensor:
    """Dice of I and S; 1 where there is nothing in the target and nothing in the prediction."""
    both, all_ = sums
    below = all_ + smooth
    ratio = (2 * both + smooth) / torch.where(below > 0, below, 1)
    return torch.where(below > 0, ratio, 1)


def _sums(logits: Tensor, target: Tensor, of: Definition, *, sigmoid: bool) -> Tensor:
    """I and S of every image and output: (2, n, outputs) float32."""
    together = target.ndim < logits.ndim
    counted = target != IGNORED
    if together:
        counted = counted[:, None]
    if of.ignored_counted:
        target = target.clamp(max=logits.shape[1] - 1 + sigmoid if together else 1)
    p, t = probabilities(logits, sigmoid=sigmoid), wanted(target, logits, sigmoid=sigmoid)
    if of.foreground and not sigmoid:
        p, t = p[:, 1:], t[:, 1:]
    both = p * t * counted
    all_ = p.square() + t if of.squares else p + t
    if not of.ignored_counted:
        all_ = all_ * counted
    return torch.stack([part.flatten(2).sum(2) for part in (both, all_)])
