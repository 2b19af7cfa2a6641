"""Information scores of a table of label pairs: variation of information, and V_info of ISBI."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from unet_core.metrics.contingency import Counts, Ids, Table
from unet_core.metrics.rand import Scores


@dataclass(frozen=True)
class VariationSums:
    """Bits that one labelling lacks of the other, summed over voxels; disjoint parts add up."""

    split: float
    """Voxels times H(found | truth)."""

    merge: float
    """Voxels times H(truth | found)."""

    voxels: int
    """n: voxels of truth > 0."""

    def __add__(self, other: "VariationSums") -> "VariationSums":
        return VariationSums(
            self.split + other.split, self.merge + other.merge, self.voxels + other.voxels
        )

    @property
    def bits(self) -> tuple[float, float]:
        """(split, merge) in bits per voxel, each >= 0, 0 is best; NaN where there is no truth."""
        if self.voxels == 0:
            return math.nan, math.nan
        return self.split / self.voxels, self.merge / self.voxels


def variation_of_information(table: Table) -> tuple[float, float]:
    """VOI (split, merge) in bits, over voxels of truth > 0; found id 0 is a label like others.

    split = H(found | truth), merge = H(truth | found) (Meila 2007); their sum is VOI.
    """
    return variation_sums(table).bits


def variation_sums(table: Table) -> VariationSums:
    """The sums behind `variation_of_information`."""
    inside = table.where(table.truth > 0)
    n = inside.count.astype(np.float64)
    split = n * np.log2(_size_of(inside.truth, inside.count) / n)
    merge = n * np.log2(_size_of(inside.found, inside.count) / n)
    return VariationSums(math.fsum(split), math.fsum(merge), inside.voxels)


def information_scores(table: Table) -> Scores:
    """V_info of ISBI 2012: precision I/H(T), recall I/H(S) and F, each voxel of S = 0 alone.

    In [0, 1], 1 is best; NaN if truth is empty. A truth of one object has H(T) = 0: precision 0
    and recall 1, so F = 0, whatever was found (Arganda-Carreras et al. 2015, section 2.4.2).
    """
    inside = table.where(table.truth > 0)
    if (voxels := inside.voxels) == 0:
        return Scores(math.nan, math.nan, math.nan)
    labelled = inside.where(inside.found > 0)
    alone = (voxels - labelled.voxels) / voxels * math.log2(voxels)
    h_truth = _entropy(inside.truth_sizes()[1], voxels)
    h_found = _entropy(labelled.found_sizes()[1], voxels) + alone
    h_both = _entropy(labelled.count, voxels) + alone
    if h_truth == 0:
        return Scores(0.0, 1.0, 0.0)
    if h_found == 0:
        return Scores(1.0, 0.0, 0.0)
    shared = max(0.0, h_truth + h_found - h_both)
    return Scores(shared / h_truth, shared / h_found, 2 * shared / (h_truth + h_found))


def _entropy(count: Counts, voxels: int) -> float:
    p = count / voxels
    return -math.fsum(p * np.log2(p)) + 0.0


def _size_of(ids: Ids, count: Counts) -> npt.NDArray[Any]:
    """For every pair, the voxels of all pairs with its id."""
    _, inverse = np.unique(ids, return_inverse=True)
    return np.bincount(inverse, weights=count)[inverse] if ids.size else count
