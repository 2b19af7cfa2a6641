"""Rand scores of a table of label pairs: four variants in use that are not interchangeable."""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

from unet_core.metrics.contingency import Table, sum_of_squares

RandVariant = Literal[
    "n2_zero_is_label", "pairs_zero_is_label", "n2_zero_is_singletons", "snemi3d_script"
]
"""n2_zero_is_label: N^2 pairs, found id 0 is a label like others.
pairs_zero_is_label: N(N-1) pairs (scikit-image `adapted_rand_error`).
n2_zero_is_singletons: N^2, each voxel of found id 0 its own object (ISBI 2012).
snemi3d_script: as before with the singletons' term divided by all voxels (old tables alone)."""


class Scores(NamedTuple):
    """Precision (falls with mergers), recall (falls with splits) and their harmonic mean."""

    precision: float
    recall: float
    f: float

    @property
    def error(self) -> float:
        """Adapted Rand error, 1 - F."""
        return 1.0 - self.f


@dataclass(frozen=True)
class RandSums:
    """The sums a Rand score is a ratio of; those of disjoint objects add up."""

    both: float
    """sAB: pairs of voxels together in truth and found."""

    truth: float
    """sA: pairs together in truth."""

    found: float
    """sB: pairs together in found."""

    voxels: int
    """n: voxels of truth > 0."""

    def __add__(self, other: "RandSums") -> "RandSums":
        return RandSums(
            self.both + other.both,
            self.truth + other.truth,
            self.found + other.found,
            self.voxels + other.voxels,
        )

    @property
    def scores(self) -> Scores:
        """Ratios of the sums; NaN where there is no truth."""
        if self.voxels == 0:
            return Scores(math.nan, math.nan, math.nan)
        # Nothing merged (split) is a perfect precision (recall), also where no pair exists.
        precision = 1.0 if self.found == self.both else self.both / self.found
        recall = 1.0 if self.truth == self.both else self.both / self.truth
        total = self.truth + self.found
        return Scores(precision, recall, 2.0 * self.both / total if total else 1.0)


def rand_scores(table: Table, variant: RandVariant) -> Scores:
    """Precision, recall and F over the voxels of truth > 0, each in [0, 1], 1 is best.

    precision = sAB / sB, recall = sAB / sA, F = 2 sAB / (sA + sB); NaN if truth is empty
    (Arganda-Carreras et al. 2015, section 2.4.1).
    """
    return rand_sums(table, variant).scores


def rand_sums(table: Table, variant: RandVariant) -> RandSums:
    """The sums of one variant; integers of any size except for snemi3d_script."""
    inside = table.where(table.truth > 0)
    voxels = inside.voxels
    _, a = inside.truth_sizes()
    truth: float = sum_of_squares(a)
    if variant in ("n2_zero_is_label", "pairs_zero_is_label"):
        both: float = sum_of_squares(inside.count)
        found: float = sum_of_squares(inside.found_sizes()[1])
        if variant == "pairs_zero_is_label":
            both, truth, found = both - voxels, truth - voxels, found - voxels
        return RandSums(both, truth, found, voxels)
    labelled = inside.where(inside.found > 0)
    alone: float = voxels - labelled.voxels
    if variant == "snemi3d_script":
        alone = alone / table.voxels if table.voxels else 0.0
    both = sum_of_squares(labelled.count) + alone
    found = sum_of_squares(labelled.found_sizes()[1]) + alone
    return RandSums(both, truth, found, voxels)
