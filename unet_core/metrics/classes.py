"""Scores of classes from counted voxels: IoU, Dice, accuracy; counts of disjoint parts add up."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from unet_core.metrics.contingency import Table


class ClassCounts(NamedTuple):
    """Voxels of one class against all others: right, too many, missed."""

    tp: int
    fp: int
    fn: int

    @property
    def iou(self) -> float:
        """TP / (TP + FP + FN), in [0, 1]; NaN for a class in neither truth nor result."""
        total = self.tp + self.fp + self.fn
        return self.tp / total if total else math.nan

    @property
    def dice(self) -> float:
        """2 TP / (2 TP + FP + FN) = 2 IoU / (1 + IoU), in [0, 1]; NaN like `iou`."""
        total = 2 * self.tp + self.fp + self.fn
        return 2 * self.tp / total if total else math.nan


def class_counts(table: Table, classes: int) -> list[ClassCounts]:
    """Counts of classes 0 .. classes - 1; the ids of `table` are classes."""
    same = table.truth == table.found
    counts = []
    for number in range(classes):
        tp = int(table.count[same & (table.truth == number)].sum())
        fp = int(table.count[~same & (table.found == number)].sum())
        fn = int(table.count[~same & (table.truth == number)].sum())
        counts.append(ClassCounts(tp, fp, fn))
    return counts


def accuracy(counts: Sequence[ClassCounts]) -> float:
    """Voxels of the right class / all voxels, in [0, 1], of counts of all classes; NaN if none."""
    right = sum(c.tp for c in counts)
    voxels = right + sum(c.fn for c in counts)
    return right / voxels if voxels else math.nan
