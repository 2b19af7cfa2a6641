"""Objects matched by overlap: average precision, F1, panoptic quality, SEG; functions of a table.

Overlap IoU = n_ij / (a_i + b_j - n_ij), with the sizes of whole objects, background included.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching

from unet_core.metrics.contingency import Counts, Ids, Table

Floats = npt.NDArray[np.float64]


class Matches(NamedTuple):
    """Matched objects, found objects without a partner, truth objects without one; add up."""

    tp: int
    fp: int
    fn: int

    @property
    def average_precision(self) -> float:
        """TP / (TP + FP + FN), in [0, 1]; 1 where neither side has an object."""
        total = self.tp + self.fp + self.fn
        return self.tp / total if total else 1.0

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN), in [0, 1]; 1 where neither side has an object."""
        total = 2 * self.tp + self.fp + self.fn
        return 2 * self.tp / total if total else 1.0


class Panoptic(NamedTuple):
    """Sum of IoU of the matches with IoU > 0.5, and their counts; add up."""

    iou: float
    matches: Matches

    @property
    def quality(self) -> float:
        """PQ = sum IoU / (TP + FP/2 + FN/2) (Kirillov et al. 2019, eq. 1); 1 if all is empty."""
        tp, fp, fn = self.matches
        total = tp + fp / 2 + fn / 2
        return self.iou / total if total else 1.0

    @property
    def segmentation(self) -> float:
        """SQ, mean IoU of the matches; NaN where there is none."""
        return self.iou / self.matches.tp if self.matches.tp else math.nan

    @property
    def recognition(self) -> float:
        """RQ, F1 of the matches."""
        return self.matches.f1


@dataclass(frozen=True)
class Overlaps:
    """Pairs of objects that overlap, and how many objects there are on each side."""

    truth: Ids
    """(k,) truth id > 0 of each pair."""

    found: Ids
    """(k,) found id > 0 of each pair."""

    iou: Floats
    """(k,) in (0, 1]."""

    covered: npt.NDArray[np.bool_]
    """(k,) whether the pair holds more than half of the truth object's voxels."""

    truths: int
    founds: int


def overlaps(table: Table) -> Overlaps:
    """Overlap of every pair of objects of a table."""
    truth_ids, truth_sizes = table.truth_sizes()
    found_ids, found_sizes = table.found_sizes()
    pairs = table.where((table.truth > 0) & (table.found > 0))
    a = _look_up(pairs.truth, truth_ids, truth_sizes)
    b = _look_up(pairs.found, found_ids, found_sizes)
    return Overlaps(
        truth=pairs.truth,
        found=pairs.found,
        iou=pairs.count / (a + b - pairs.count),
        covered=2 * pairs.count > a,
        truths=int(np.count_nonzero(truth_ids)),
        founds=int(np.count_nonzero(found_ids)),
    )


def match(pairs: Overlaps, thresholds: Sequence[float]) -> list[Matches]:
    """Most one-to-one matches of pairs with IoU >= t, for every t of `thresholds` in (0, 1]."""
    result = []
    for threshold in thresholds:
        keep = pairs.iou >= threshold
        # Above a half two matches of one object would hold more than the object.
        tp = int(keep.sum()) if threshold > 0.5 else _assigned(pairs.truth[keep], pairs.found[keep])
        result.append(Matches(tp, pairs.founds - tp, pairs.truths - tp))
    return result


def panoptic(pairs: Overlaps) -> Panoptic:
    """Panoptic quality's sums; pairs match with IoU > 0.5, strictly (Kirillov et al. 2019)."""
    iou = pairs.iou[pairs.iou > 0.5]
    tp = len(iou)
    return Panoptic(math.fsum(iou), Matches(tp, pairs.founds - tp, pairs.truths - tp))


def seg_sums(pairs: Overlaps) -> tuple[float, int]:
    """SEG of the Cell Tracking Challenge as (sum, number): IoU of each truth object with the found
    object that holds more than half of it, 0 if none does. SEG is the ratio, in [0, 1].
    """
    return math.fsum(pairs.iou[pairs.covered]), pairs.truths


def _assigned(truth: Ids, found: Ids) -> int:
    if truth.size == 0:
        return 0
    rows, row = np.unique(truth, return_inverse=True)
    columns, column = np.unique(found, return_inverse=True)
    shape = (len(rows), len(columns))
    graph = coo_matrix((np.ones(len(row), np.int8), (row, column)), shape=shape).tocsr()
    partner: npt.NDArray[Any] = maximum_bipartite_matching(graph, perm_type="column")
    return int((partner >= 0).sum())


def _look_up(ids: Ids, known: Ids, sizes: Counts) -> Counts:
    return sizes[np.searchsorted(known, ids)]
