"""What training minimises."""

import torch
from torch import Tensor
from torch.nn import functional

IGNORED = 255


def weighted_cross_entropy(
    logits: Tensor, target: Tensor, border: Tensor, class_weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Sum of the weighted cross entropy, and the number of voxels it runs over.

    ``sum_x (w_c[target(x)] + border(x)) * -log p_target(x)(x)`` with p the softmax of the logits
    (Ronneberger et al. 2015, eqs. 1 and 2; `border` is the second term of eq. 2). The loss is
    their quotient: a mean over the voxels that count, not over their weights.

    Parameters
    ----------
    logits : (n, classes, ...) float
    target : (n, ...) uint8
        Class per voxel; 255 counts for nothing.
    border : (n, ...) float, >= 0
    class_weights : (classes,) float32
        w_c.
    """
    counted = target != IGNORED
    classes = torch.where(counted, target, 0).long()
    entropy = functional.cross_entropy(logits.float(), classes, reduction="none")
    weight = (class_weights[classes] + border.float()) * counted
    return (weight * entropy).sum(), counted.sum()
