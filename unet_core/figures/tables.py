"""Scores as tables: one row per measure, with its variant; one column per volume."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Row = tuple[str, str, float | None]


def measures(scores: Mapping[str, Any]) -> Iterator[Row]:
    """(name, variant, value) of every number of a scores.json that is no curve."""
    for name, entry in scores["labels"].items():
        yield f"{_TITLES.get(name, name)} of the labels", entry["variant"], entry["f"]
    objects = scores["objects"]
    for variant, entry in objects["adapted_rand_error"].items():
        yield "adapted Rand error", variant, entry["error"]
    for part in ("split", "merge", "total"):
        yield f"variation of information, {part}", objects["voi"]["variant"], objects["voi"][part]
    precision = objects["average_precision"]
    if precision["values"]:
        first = precision["iou_thresholds"][0]
        yield f"average precision at IoU {first}", precision["variant"], precision["values"][0]
        yield "average precision, mean over IoU", precision["variant"], precision["mean"]
    yield "panoptic quality", objects["panoptic"]["variant"], objects["panoptic"]["pq"]
    yield "SEG", objects["seg"]["variant"], objects["seg"]["value"]
    inside = scores["foreground"]
    for name, title in (("iou", "IoU"), ("dice", "Dice"), ("accuracy", "accuracy")):
        yield f"foreground {title}", inside["variant"], inside[name]
    if scores["classes"]:
        classes = scores["classes"]
        yield "mean IoU over classes", classes["variant"], classes["mean_iou"]
        yield "mean Dice over classes", classes["variant"], classes["mean_dice"]
    if scores["isbi"]:
        yield from _challenge(scores["isbi"])


def score_table(columns: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Rows of all measures over named contents of scores.json.

    Returns
    -------
    dict
        `columns`, their names; `rows`, each with `name`, `variant` and a value per column.
    """
    cells: dict[tuple[str, str], dict[str, float | None]] = {}
    for column, scores in columns.items():
        for name, variant, value in measures(scores):
            cells.setdefault((name, variant), {})[column] = value
    return {
        "columns": list(columns),
        "rows": [
            {"name": name, "variant": variant, "values": [by.get(c) for c in columns]}
            for (name, variant), by in cells.items()
        ],
    }


def as_tsv(rows: Sequence[Sequence[Any]]) -> str:
    """Tab-separated lines; what is unknown stays empty, tabs and line ends in texts are spaces."""
    cells = (("" if c is None else " ".join(str(c).split()) for c in row) for row in rows)
    return "".join("\t".join(row) + "\n" for row in cells)


_TITLES = {
    "v_rand": "V_rand",
    "v_info": "V_info",
    "v_rand_thinned": "V_rand, thinned,",
    "v_info_thinned": "V_info, thinned,",
    "rand_error": "Rand error",
    "pixel_error": "pixel error",
    "pixel_error_plain": "plain pixel error",
    "warping_error": "warping error",
    "warping_error_splits_mergers": "warping error, splits and mergers,",
}


def _challenge(isbi: Mapping[str, Any]) -> Iterator[Row]:
    for name, title in _TITLES.items():
        if name not in isbi:
            continue
        entry = isbi[name]
        if "calibrated" in entry:
            where = f"{entry['variant']}; threshold of calibration"
            yield f"{title} of the probability", where, entry["calibrated"]
        yield f"{title} of the probability", f"{entry['variant']}; best threshold", entry["best"]
