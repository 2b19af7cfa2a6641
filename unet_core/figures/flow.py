"""The rules of a run as a drawing: who reads what of whom."""

from collections.abc import Mapping

from markupsafe import escape

STAGES = (
    *("convert", "weights", "augment", "train", "infer"),
    *("calibrate", "stitch", "score", "montage", "report"),
)
"""In the order in which they run."""

_PITCH, _WIDTH, _HEIGHT = 124, 104, 48
_ROWS = (28, 108, 188)
_TRUTH_Y = 240

_PLACES = {
    **{"convert": (0, 1), "weights": (1, 2), "augment": (2, 2), "train": (3, 2), "infer": (4, 1)},
    **{"calibrate": (5, 2), "stitch": (6, 1), "montage": (7, 0), "score": (7, 2), "report": (8, 1)},
}
"""Column and row of each stage."""


def rule_graph(told: Mapping[str, str]) -> str:
    """The rule graph of the workflow, as SVG.

    Parameters
    ----------
    told
        A line under the name of each stage that ran; the others are drawn pale.
    """
    boxes = "".join(_box(stage, told.get(stage)) for stage in STAGES)
    lines = "".join(f'<path d="{path}"/>' for path in _lines())
    words = (
        (_x("convert") + _WIDTH + 8, _ROWS[0] - 5, "raw"),
        (_x("infer") + _WIDTH + 8, _ROWS[0] - 5, "raw, probabilities"),
        (_x("weights") + _WIDTH + 8, _TRUTH_Y - 5, "truth"),
    )
    texts = "".join(f'<text class="soft" x="{x}" y="{y}">{word}</text>' for x, y, word in words)
    return (
        f'<svg class="graph" viewBox="0 0 {8 * _PITCH + _WIDTH + 4} {_TRUTH_Y + 6}" role="img" '
        'aria-label="rule graph"><defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" '
        'markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z"/></marker></defs>'
        f'<g class="lines">{lines}</g>{texts}{boxes}</svg>'
    )


def _box(stage: str, line: str | None) -> str:
    x, y = _x(stage), _y(stage) - _HEIGHT // 2
    middle = x + _WIDTH // 2
    return (
        f'<g class="{"box" if line else "box unused"}">'
        f'<rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="8"/>'
        f'<text x="{middle}" y="{y + 20}">{stage}</text>'
        f'<text class="soft" x="{middle}" y="{y + 38}">{escape(line or "not in this run")}</text>'
        "</g>"
    )


def _lines() -> list[str]:
    """Lines at right angles; those that carry the same thing share their way."""
    top, crossing = _ROWS[0], _x("score") - 12
    return [
        # convert: raw along the middle and the top, truth along the bottom
        f"M{_right('convert')} {_y('convert')}H{_x('infer')}",
        f"M{_right('convert')} {_y('convert')}H{_middle('augment')}V{_above('augment')}",
        f"M{_middle('convert')} {_above('convert')}V{top}H{_x('montage')}",
        *(
            f"M{_middle('convert')} {_below('convert')}V{_TRUTH_Y}H{_middle(s)}V{_below(s)}"
            for s in ("weights", "calibrate", "score")
        ),
        f"M{_right('weights')} {_y('weights')}H{_x('augment')}",
        f"M{_right('augment')} {_y('augment')}H{_x('train')}",
        f"M{_right('train')} {_y('train')}H{_middle('infer')}V{_below('infer')}",
        # infer: probabilities to all that follow
        f"M{_middle('infer')} {_above('infer')}V{top}H{_x('montage')}",
        f"M{_middle('infer')} {_above('infer')}V{top}H{crossing}V{_y('score') - 8}H{_x('score')}",
        f"M{_right('infer')} {_y('infer')}H{_x('stitch')}",
        f"M{_right('infer')} {_y('infer')}H{_middle('calibrate')}V{_above('calibrate')}",
        f"M{_right('calibrate')} {_y('calibrate') + 8}H{_x('score')}",
        f"M{_right('calibrate')} {_y('calibrate') + 8}H{_middle('stitch')}V{_below('stitch')}",
        *(
            f"M{_right('stitch')} {_y('stitch')}H{_middle('score')}V{end}"
            for end in (_above("score"), _below("montage"))
        ),
        f"M{_right('montage')} {_y('montage')}H{_middle('report')}V{_above('report')}",
        f"M{_right('score')} {_y('score')}H{_middle('report')}V{_below('report')}",
    ]


def _x(stage: str) -> int:
    return 2 + _PLACES[stage][0] * _PITCH


def _y(stage: str) -> int:
    return _ROWS[_PLACES[stage][1]]


def _right(stage: str) -> int:
    return _x(stage) + _WIDTH


def _middle(stage: str) -> int:
    return _x(stage) + _WIDTH // 2


def _above(stage: str) -> int:
    return _y(stage) - _HEIGHT // 2


def _below(stage: str) -> int:
    return _y(stage) + _HEIGHT // 2
