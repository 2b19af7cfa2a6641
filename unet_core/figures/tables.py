"""Scores as tables: one row per measure, with its variant; one column per volume."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple


class Measure(NamedTuple):
    """One number of a scores.json, as a table shows it."""

    group: str
    name: str
    variant: str
    better: str
    """↑ more is better, ↓ less is better."""

    value: float | None


LABELS = "Objects, by the measures of ISBI 2012"
OBJECTS = "Objects, by other measures"
VOXELS = "Voxels"
CHALLENGE = "Probability, by the measures of ISBI 2012"

_OF_LABELS = {
    "v_rand_thinned": "V_rand of the labels, borders thinned",
    "v_info_thinned": "V_info of the labels, borders thinned",
    "v_rand": "V_rand of the labels",
    "v_info": "V_info of the labels",
}

_OF_OBJECTS = (
    "V_rand of the labels, borders thinned",
    "V_info of the labels, borders thinned",
    "adapted Rand error",
    "average precision at IoU 0.5",
    "foreground Dice",
)
_OF_CLASSES = ("Dice of class ", "mean Dice over classes", "accuracy over classes")

_OF_PROBABILITY = {
    "v_rand": ("V_rand", "↑"),
    "v_info": ("V_info", "↑"),
    "rand_error": ("Rand error", "↓"),
    "warping_error": ("warping error", "↓"),
    "warping_error_splits_mergers": ("warping error, splits and mergers,", "↓"),
    "pixel_error": ("pixel error", "↓"),
    "pixel_error_plain": ("plain pixel error", "↓"),
}


def measures(scores: Mapping[str, Any]) -> Iterator[Measure]:
    """Every number of a scores.json that is no curve, in the order in which it is shown."""
    for name, title in _OF_LABELS.items():
        entry = scores["labels"][name]
        yield Measure(LABELS, title, entry["variant"], "↑", entry["f"])
    yield from _objects(scores["objects"])
    inside = scores["foreground"]
    for name, title in (("dice", "Dice"), ("iou", "IoU"), ("accuracy", "accuracy")):
        yield Measure(VOXELS, f"foreground {title}", inside["variant"], "↑", inside[name])
    if classes := scores["classes"]:
        variant = classes["variant"]
        for name, title in (("dice", "Dice"), ("iou", "IoU")):
            for number, value in enumerate(classes[name]):
                yield Measure(VOXELS, f"{title} of class {number}", variant, "↑", value)
            mean = classes[f"mean_{name}"]
            yield Measure(VOXELS, f"mean {title} over classes", variant, "↑", mean)
        yield Measure(VOXELS, "accuracy over classes", variant, "↑", classes["accuracy"])
    if scores["isbi"]:
        yield from _challenge(scores["isbi"])


def headline(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows of a table that are shown on top: of its objects, and of its classes if it has any.

    Where classes were scored and the measures of ISBI 2012 were not, objects are not what counts.
    """
    classes = [row for row in rows if row["name"].startswith(_OF_CLASSES)]
    of_objects = not classes or any(row["group"] == CHALLENGE for row in rows)
    shown, seen = [], set()
    for row in rows:
        if row in classes or (of_objects and row["name"] in _OF_OBJECTS):
            if row["name"] not in seen:
                shown.append(row)
            seen.add(row["name"])
    return shown


def score_table(columns: Mapping[Hashable, Mapping[str, Any]]) -> dict[str, Any]:
    """Rows of all measures over the contents of scores.json files.

    Returns
    -------
    dict
        `columns`, the keys given; `rows`, each with `group`, `name`, `variant`, `better` and
        `values`, one per column.
    """
    cells: dict[tuple[str, ...], dict[Hashable, float | None]] = {}
    for column, scores in columns.items():
        for *row, value in measures(scores):
            cells.setdefault(tuple(row), {})[column] = value
    names = Measure._fields[:-1]
    return {
        "columns": list(columns),
        "rows": [
            {**dict(zip(names, row, strict=True)), "values": [by.get(c) for c in columns]}
            for row, by in cells.items()
        ],
    }


def as_tsv(rows: Sequence[Sequence[Any]]) -> str:
    """Tab-separated lines; what is unknown stays empty, tabs and line ends in texts are spaces."""
    cells = (("" if c is None else " ".join(str(c).split()) for c in row) for row in rows)
    return "".join("\t".join(row) + "\n" for row in cells)


def _objects(objects: Mapping[str, Any]) -> Iterator[Measure]:
    for variant, entry in objects["adapted_rand_error"].items():
        yield Measure(OBJECTS, "adapted Rand error", variant, "↓", entry["error"])
    voi = objects["voi"]
    for part in ("total", "split", "merge"):
        name = f"variation of information, {part}"
        yield Measure(OBJECTS, name, voi["variant"], "↓", voi[part])
    precision = objects["average_precision"]
    if precision["values"]:
        first = f"average precision at IoU {precision['iou_thresholds'][0]}"
        yield Measure(OBJECTS, first, precision["variant"], "↑", precision["values"][0])
        mean = "average precision, mean over IoU"
        yield Measure(OBJECTS, mean, precision["variant"], "↑", precision["mean"])
    panoptic, seg = objects["panoptic"], objects["seg"]
    yield Measure(OBJECTS, "panoptic quality", panoptic["variant"], "↑", panoptic["pq"])
    yield Measure(OBJECTS, "SEG", seg["variant"], "↑", seg["value"])


def _challenge(isbi: Mapping[str, Any]) -> Iterator[Measure]:
    for name, (title, better) in _OF_PROBABILITY.items():
        entry, title = isbi[name], f"{title} of the probability"
        if "calibrated" in entry:
            where = f"{entry['variant']}; threshold of calibration"
            yield Measure(CHALLENGE, title, where, better, entry["calibrated"])
        where = f"{entry['variant']}; best threshold"
        yield Measure(CHALLENGE, title, where, better, entry["best"])
