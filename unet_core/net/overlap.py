"""How well what a network decides agrees with the target: counts of voxels, and their ratios."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from unet_core.net.loss import IGNORED, predicted

Counts = np.ndarray[Any, np.dtype[np.int64]]


def tally(logits: Tensor, target: Tensor, *, classes: int, sigmoid: bool) -> Counts:
    """Voxels by what the target says and what is found, of those that are not ignored.

    Parameters
    ----------
    logits : (n, outputs, ...) float
    target : (n, ...) uint8
        Class per voxel, or affinities: (n, outputs, ...).

    Returns
    -------
    (classes, classes), of affinities (outputs, 2, 2): [target, found]
    """
    if target.ndim == logits.ndim:
        parts = zip(target.unbind(1), (logits > 0).unbind(1), strict=True)
        return np.stack([_counts(t, found, 2) for t, found in parts])
    return _counts(target, predicted(logits, sigmoid=sigmoid), classes)


def overlap(counts: Counts) -> dict[str, Any]:
    """IoU per class and Dice of the classes above 0 together, from the counts of `tally`.

    Of affinities, each output is a class from 1 on, and class 0 has no IoU.
    """
    if counts.ndim == 3:
        hits, union = counts[:, 1, 1], counts.sum(axis=(1, 2)) - counts[:, 0, 0]
        both, either = int(hits.sum()), int(hits.sum() + union.sum())
        ious = [None, *_ratios(hits, union)]
    else:
        hits = np.diagonal(counts)
        ious = _ratios(hits, counts.sum(axis=0) + counts.sum(axis=1) - hits)
        both = int(counts[1:, 1:].sum())
        either = int(counts[1:].sum() + counts[:, 1:].sum())
    return {"iou": ious, "dice": 2 * both / either if either else None}


def _ratios(hits: Counts, union: Counts) -> list[float | None]:
    return [int(h) / int(u) if u else None for h, u in zip(hits, union, strict=True)]


def _counts(target: Tensor, found: Tensor, kinds: int) -> Counts:
    known = target != IGNORED
    pairs = target[known].long() * kinds + found[known]
    counts: Counts = torch.bincount(pairs, minlength=kinds**2).cpu().numpy()
    return counts.reshape(kinds, kinds)
