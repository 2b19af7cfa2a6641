"""The scores of the ISBI 2012 challenge over thresholds, as counts per section that add up.

Per threshold the proposal is `probability > threshold`; objects are the 4-connected components of
a section (Arganda-Carreras et al. 2015). Every list below holds one entry per threshold.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from unet_core.geometry import IGNORED_ID
from unet_core.metrics.contingency import Table, contingency
from unet_core.metrics.information import information_scores
from unet_core.metrics.rand import RandSums, RandVariant, Scores, rand_scores, rand_sums
from unet_core.metrics.thinning import components, grow_labels
from unet_core.metrics.warping import warping_mismatches

Counts = dict[str, Any]

VARIANT: RandVariant = "n2_zero_is_singletons"
"""The challenge's variant of the Rand score."""


def threshold_grid(number: int) -> list[float]:
    """Thresholds 0 .. 1, added up in float64 like the challenge's: with 11 the last is just < 1."""
    grid, step = [0.0], 1 / (number - 1)
    while len(grid) < number:
        grid.append(min(grid[-1] + step, 1.0))
    return grid


def truth_objects(truth: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """Objects of a section: 4-connected components of equal truth id; ignored voxels stay so."""
    ignored = truth == IGNORED_ID
    objects = components(np.where(ignored, 0, truth)).astype(np.uint32)
    objects[ignored] = IGNORED_ID
    return objects


def restricted(table: Table) -> Counts:
    """V_rand and V_info of one section's table, as sums over sections that have truth.

    Returns
    -------
    dict
        `sections` (0 or 1) and per measure f, precision and recall.
    """
    rand, information = rand_scores(table, VARIANT), information_scores(table)
    counts: Counts = {"sections": 0 if math.isnan(rand.f) else 1}
    for name, scores in (("v_rand", rand), ("v_info", information)):
        f = 0.0 if math.isnan(scores.f) else scores.f
        precision, recall = (0.0, 0.0) if math.isnan(scores.f) else scores[:2]
        counts[name] = {"f": f, "precision": precision, "recall": recall}
    return counts


def isbi_counts(
    objects: npt.NDArray[np.uint32],
    probability: npt.NDArray[Any],
    thresholds: Sequence[float],
) -> Counts:
    """What the challenge's scores need of one section.

    Parameters
    ----------
    objects : (y, x) uint32
        Of `truth_objects`.
    probability : (y, x) float in [0, 1]
        Of the objects' interior.
    thresholds
        In [0, 1].
    """
    ignored = objects == IGNORED_ID
    truth = (objects > 0) & ~ignored
    known = int(np.count_nonzero(~ignored))
    rows = [_at(objects, truth, ignored, probability, t, known) for t in thresholds]
    counts = {name: _columns([row[name] for row in rows]) for name in rows[0]} if rows else {}
    return {**counts, "pixels": known, "sections": 1 if known else 0}


def isbi_scores(
    counts: Counts,
    thresholds: Sequence[float],
    *,
    calibrated: Counts | None = None,
) -> dict[str, Any]:
    """Curves over the thresholds, their best value, and the value at the calibrated threshold.

    Parameters
    ----------
    counts
        Sum over sections of `isbi_counts`.
    calibrated
        The same at one threshold chosen on other volumes; None: there is none.
    """
    curves = _curves(counts)
    chosen = _curves(calibrated) if calibrated else {}
    scores: dict[str, Any] = {"thresholds": list(thresholds)}
    for name, curve in curves.items():
        best_of = max if name in ("v_rand", "v_info") else min
        # The challenge's warping sweep ends before 1, where nearly nothing is found.
        last = -1 if name.startswith("warping") and len(curve) > 1 else None
        known = [(v, t) for v, t in zip(curve[:last], thresholds, strict=False) if v is not None]
        best = best_of(known, key=lambda pair: pair[0]) if known else (None, None)
        scores[name] = {
            "variant": _VARIANTS[name],
            "curve": curve,
            "best": best[0],
            "best_threshold": best[1],
        }
        if name in chosen:
            scores[name]["calibrated"] = chosen[name][0]
    for name in ("v_rand", "v_info"):
        for part in ("precision", "recall"):
            scores[name][part] = _means(
                counts["thinned"][name][part], counts["thinned"]["sections"]
            )
    return scores


_VARIANTS = {
    "v_rand": f"{VARIANT}, borders thinned, mean over sections of F",
    "v_info": "each voxel of 0 alone, borders thinned, mean over sections of F",
    "rand_error": f"{VARIANT}, not thinned, sums over sections first, 1 - F",
    "pixel_error": "interior, counts over sections first, 1 - F",
    "pixel_error_plain": "share of pixels that differ",
    "warping_error": "all mismatches, mean over sections",
    "warping_error_splits_mergers": "splits and mergers alone, mean over sections",
}


def _at(
    objects: npt.NDArray[np.uint32],
    truth: npt.NDArray[np.bool_],
    ignored: npt.NDArray[np.bool_],
    probability: npt.NDArray[Any],
    threshold: float,
    known: int,
) -> Counts:
    inside = probability > threshold
    found = components(inside)
    sums = rand_sums(contingency(objects, found), VARIANT)
    wrong = warping_mismatches(truth, probability, threshold, ignored if ignored.any() else None)
    return {
        "thinned": restricted(contingency(objects, grow_labels(found))),
        "rand": vars(sums),
        "pixel": {
            "tp": int(np.count_nonzero(inside & truth)),
            "fp": int(np.count_nonzero(inside & ~truth & ~ignored)),
            "fn": int(np.count_nonzero(~inside & truth)),
        },
        "warping": {
            "all": wrong.all / known if known else 0.0,
            "splits_and_mergers": wrong.splits_and_mergers / known if known else 0.0,
        },
    }


def _columns(rows: Sequence[Any]) -> Any:
    """A list of equal nested mappings as one mapping of lists."""
    if isinstance(rows[0], Mapping):
        return {key: _columns([row[key] for row in rows]) for key in rows[0]}
    return list(rows)


def _curves(counts: Counts) -> dict[str, list[float | None]]:
    thinned, rand, pixel = counts["thinned"], counts["rand"], counts["pixel"]
    sums = zip(rand["both"], rand["truth"], rand["found"], rand["voxels"], strict=True)
    right = list(zip(pixel["tp"], pixel["fp"], pixel["fn"], strict=True))
    sections = [counts["sections"]] * len(right)
    return {
        "v_rand": _means(thinned["v_rand"]["f"], thinned["sections"]),
        "v_info": _means(thinned["v_info"]["f"], thinned["sections"]),
        "rand_error": [_known(RandSums(*s).scores) for s in sums],
        "pixel_error": [_ratio(fp + fn, 2 * tp + fp + fn) for tp, fp, fn in right],
        "pixel_error_plain": [_ratio(fp + fn, counts["pixels"]) for _, fp, fn in right],
        "warping_error": _means(counts["warping"]["all"], sections),
        "warping_error_splits_mergers": _means(counts["warping"]["splits_and_mergers"], sections),
    }


def _known(scores: Scores) -> float | None:
    return None if math.isnan(scores.f) else scores.error


def _means(sums: Sequence[float], numbers: Sequence[int]) -> list[float | None]:
    return [_ratio(s, n) for s, n in zip(sums, numbers, strict=True)]


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
