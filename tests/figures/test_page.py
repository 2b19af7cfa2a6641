import math
from xml.etree import ElementTree

import pytest

from unet_core.figures.curves import threshold_curves, training_curves
from unet_core.figures.flow import STAGES, rule_graph
from unet_core.figures.page import number, rounded
from unet_core.figures.tables import as_tsv


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "—"), (0.91234567, "0.9123"), (3.2e-7, "3.2e-07"), (1234567, "1\u202f234\u202f567")],
)
def test_numbers_are_shown_as_people_read_them(value: float | None, text: str) -> None:
    assert number(value) == text


def test_seconds_are_whole_numbers() -> None:
    assert [rounded(v) for v in (None, 0.23, 1234.6)] == ["—", "0.2", "1\u202f235"]


def test_the_rule_graph_is_well_formed_and_has_a_box_per_stage() -> None:
    graph = ElementTree.fromstring(rule_graph({"infer": "2 jobs · <3 s"}))
    boxes = [node.get("class") for node in graph.iter("g") if "box" in node.get("class", "")]
    assert len(boxes) == len(STAGES)
    assert boxes.count("box unused") == len(STAGES) - 1
    assert "2 jobs · <3 s" in [node.text for node in graph.iter("text")]


def test_curves_are_the_same_for_the_same_numbers() -> None:
    history = {"step": [1, 2], "train_loss": [1.0, 0.5], "dice": [None, 0.9]}
    assert training_curves(history) == training_curves(history)
    assert training_curves(history).startswith("<svg")


def test_names_from_files_cannot_add_markup_to_a_curve() -> None:
    svg = threshold_curves([0, 1], {"<script>": [0.0, 1.0]}, title="<b>&")
    assert "<script>" not in svg
    assert "<b>" not in svg


def test_tables_keep_one_line_per_row() -> None:
    assert as_tsv([("a\tb", None, 1.5), ("c\nd", math.pi, "e")]) == (
        "a b\t\t1.5\n" + f"c d\t{math.pi}\te\n"
    )
