"""All scores of a volume from counts that add up over sections and over volumes."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unet_core.errors import ConfigError
from unet_core.metrics.classes import ClassCounts, accuracy, class_counts
from unet_core.metrics.contingency import Table
from unet_core.metrics.information import VariationSums, variation_sums
from unet_core.metrics.isbi import VARIANT, isbi_scores, restricted
from unet_core.metrics.overlap import Matches, Panoptic, match, overlaps, panoptic, seg_sums
from unet_core.metrics.rand import RandSums, RandVariant, rand_sums

Counts = dict[str, Any]

OBJECT_VARIANTS: tuple[RandVariant, ...] = ("n2_zero_is_label", "pairs_zero_is_label")
"""Variants of the adapted Rand error that objects are scored by."""


def object_counts(table: Table, iou_thresholds: Sequence[float]) -> Counts:
    """What object scores need of one table: of a section, or of a volume."""
    pairs = overlaps(table)
    quality = panoptic(pairs)
    seg, references = seg_sums(pairs)
    return {
        "rand": {variant: vars(rand_sums(table, variant)) for variant in OBJECT_VARIANTS},
        "voi": vars(variation_sums(table)),
        "matches": _columns(match(pairs, iou_thresholds)),
        "panoptic": {"iou": quality.iou, **quality.matches._asdict()},
        "seg": {"iou": seg, "objects": references},
    }


def label_counts(given: Table, thinned: Table) -> Counts:
    """What label scores need of one section: tables of its labels as given and thinned."""
    counts = restricted(given)
    counts |= {f"{name}_thinned": restricted(thinned)[name] for name in ("v_rand", "v_info")}
    measured = {
        n: c["f"] if counts["sections"] else None for n, c in counts.items() if n != "sections"
    }
    return {**counts, "per_section": {name: [f] for name, f in measured.items()}}


def semantic_counts(table: Table, classes: int) -> Counts:
    """What class scores need; the ids of `table` are classes 0 .. classes - 1."""
    return _columns(class_counts(table, classes))


def added(parts: Iterable[Mapping[str, Any]]) -> Counts:
    """Counts of disjoint parts, added; those under `per_section` are joined in order.

    Raises
    ------
    ConfigError
        If the parts were counted under different settings.
    """
    total: Counts = {}
    for part in parts:
        total = _sum(total, part)
    return total


def scores_of(counts: Counts, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The scores of counted sections or volumes; what cannot be told is null.

    Parameters
    ----------
    counts
        `labels`, `objects`, `foreground`, and where they were counted `isbi`, `calibrated` and
        `classes`.
    settings
        `thresholds`, `iou_thresholds` and `calibrated_threshold` the counts were made with.
    """
    empty = counts["labels"]["sections"] == 0
    scores: dict[str, Any] = {
        "missing": "truth holds no object, so measures relative to it are null" if empty else None,
        "labels": _label_scores(counts["labels"]),
        "objects": _object_scores(counts["objects"], settings["iou_thresholds"]),
        "foreground": _foreground_scores(counts["foreground"]),
        "isbi": None,
        "classes": None,
    }
    if "isbi" in counts:
        scores["isbi"] = isbi_scores(
            counts["isbi"], settings["thresholds"], calibrated=counts.get("calibrated")
        )
        scores["isbi"]["calibrated_threshold"] = settings["calibrated_threshold"]
    if "classes" in counts:
        scores["classes"] = _class_scores(counts["classes"])
    return scores


def summed(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Scores of several volumes as of one: counts are added before any ratio is taken.

    Parameters
    ----------
    parts
        Contents of scores.json files made with the same settings.

    Raises
    ------
    ConfigError
        If there is none, or their settings differ.
    """
    if not parts:
        raise ConfigError("no scores to add up; give the scores of at least one volume")
    settings = parts[0]["settings"]
    for part in parts[1:]:
        if part["settings"] != settings:
            raise ConfigError(
                f"scores made with different settings cannot be added: {settings} and "
                f"{part['settings']}; score all volumes with the same settings"
            )
    counts = added(part["counts"] for part in parts)
    return {"settings": settings, "counts": counts, **scores_of(counts, settings)}


def _label_scores(counts: Counts) -> dict[str, Any]:
    sections = counts["sections"]
    return {
        name: {
            "variant": variant,
            **{part: _ratio(total, sections) for part, total in counts[name].items()},
            "sections": sections,
            "per_section": counts["per_section"][name],
        }
        for name, variant in _LABEL_VARIANTS.items()
    }


_LABEL_VARIANTS = {
    "v_rand": f"{VARIANT}, borders as they are, mean over sections of F",
    "v_info": "each voxel of 0 alone, borders as they are, mean over sections of F",
    "v_rand_thinned": f"{VARIANT}, borders thinned, mean over sections of F",
    "v_info_thinned": "each voxel of 0 alone, borders thinned, mean over sections of F",
}


def _object_scores(counts: Counts, iou_thresholds: Sequence[float]) -> dict[str, Any]:
    voi = VariationSums(**counts["voi"])
    split, merge = voi.bits
    sums = counts["panoptic"]
    quality = Panoptic(sums["iou"], Matches(sums["tp"], sums["fp"], sums["fn"]))
    return {
        "adapted_rand_error": {v: _rand(RandSums(**s)) for v, s in counts["rand"].items()},
        "voi": {
            "variant": "bits, 0 is a label",
            "split": _known(split),
            "merge": _known(merge),
            "total": _known(split + merge),
        },
        "average_precision": _matched(counts["matches"], iou_thresholds),
        "panoptic": {
            "variant": "IoU > 0.5, counts summed",
            "pq": quality.quality,
            "sq": _known(quality.segmentation),
            "rq": quality.recognition,
        },
        "seg": {
            "variant": "Cell Tracking Challenge, mean over all truth objects",
            "value": _ratio(counts["seg"]["iou"], counts["seg"]["objects"]),
        },
    }


def _rand(sums: RandSums) -> dict[str, float | None]:
    scores = sums.scores
    return {
        "error": _known(scores.error),
        "precision": _known(scores.precision),
        "recall": _known(scores.recall),
    }


def _matched(counts: Counts, iou_thresholds: Sequence[float]) -> dict[str, Any]:
    rows = zip(counts.get("tp", []), counts.get("fp", []), counts.get("fn", []), strict=True)
    matches = [Matches(*row) for row in rows]
    precisions = [m.average_precision for m in matches]
    return {
        "variant": "IoU >= threshold, counts summed, TP / (TP + FP + FN)",
        "iou_thresholds": list(iou_thresholds),
        "values": precisions,
        "mean": _ratio(math.fsum(precisions), len(precisions)),
        "f1": [m.f1 for m in matches],
    }


def _foreground_scores(counts: Counts) -> dict[str, Any]:
    classes = _classes(counts)
    return {
        "variant": "counts summed",
        "iou": _known(classes[1].iou),
        "dice": _known(classes[1].dice),
        "accuracy": _known(accuracy(classes)),
    }


def _class_scores(counts: Counts) -> dict[str, Any]:
    classes = _classes(counts)
    values = {"iou": [c.iou for c in classes], "dice": [c.dice for c in classes]}
    scores: dict[str, Any] = {"variant": "argmax, rest class first, counts summed"}
    for name, value in values.items():
        present = [v for v in value if not math.isnan(v)]
        scores[name] = [_known(v) for v in value]
        scores[f"mean_{name}"] = _ratio(math.fsum(present), len(present))
    scores["accuracy"] = _known(accuracy(classes))
    return scores


def _classes(counts: Counts) -> list[ClassCounts]:
    return [ClassCounts(*row) for row in zip(counts["tp"], counts["fp"], counts["fn"], strict=True)]


def _columns(rows: Sequence[Any]) -> Counts:
    """Named tuples as one mapping of lists."""
    return {name: [getattr(row, name) for row in rows] for name in rows[0]._fields} if rows else {}


def _sum(one: Any, other: Any, key: str = "") -> Any:
    if isinstance(other, Mapping):
        return {
            k: _sum(one[k], other[k], key if key == "per_section" else k)
            if k in one and k in other
            else one.get(k, other.get(k))
            for k in {**one, **other}
        }
    if isinstance(other, list):
        if key == "per_section":
            return one + other
        if len(one) != len(other):
            raise ConfigError(
                f"{key}: {len(one)} and {len(other)} numbers cannot be added; the parts were "
                "scored with different thresholds or classes"
            )
        return [_sum(a, b, key) for a, b in zip(one, other, strict=True)]
    return one + other


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
