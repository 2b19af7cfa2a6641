"""Histories and scores as curves, in SVG that is the same for the same numbers."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

mpl.use("Agg")

_STYLE: Any = {
    "svg.hashsalt": "unet-core",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
}

Series = Mapping[str, Sequence[float | None]]


def training_curves(history: Series) -> str:
    """Loss and validation measures over steps, as SVG.

    Parameters
    ----------
    history
        Columns of history.csv; those that are absent or empty are left out.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9.5, 3.2), layout="constrained")
        loss, measure = figure.subplots(1, 2)
        for name, column in history.items():
            if "loss" in name:
                _line(loss, history["step"], column, name)
            elif name not in ("step", "learning_rate"):
                _line(measure, history["step"], column, name)
        loss.set_yscale("log")
        measure.set_ylim(0, 1)
        for axes, title in ((loss, "loss"), (measure, "on the validation patches")):
            axes.set_xlabel("step")
            axes.set_title(title, loc="left")
            if axes.lines:
                axes.legend(frameon=False)
        return _svg(figure)


def threshold_curves(
    thresholds: Sequence[float], curves: Series, *, title: str, chosen: float | None = None
) -> str:
    """Scores over the threshold on the probability, one line per name, as SVG.

    `chosen`: the threshold of calibration, drawn as an upright line.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(5.6, 3.2), layout="constrained")
        axes = figure.subplots()
        for name, curve in curves.items():
            _line(axes, thresholds, curve, name)
        if chosen is not None:
            axes.axvline(chosen, color="0.4", lw=1, ls="--", label=f"calibrated: {chosen:.3g}")
        axes.set_xlabel("threshold")
        axes.set_ylim(0, 1)
        axes.set_title(title, loc="left")
        axes.legend(frameon=False)
        return _svg(figure)


def _line(axes: Axes, x: Sequence[float | None], y: Sequence[float | None], name: str) -> None:
    points = [(a, b) for a, b in zip(x, y, strict=True) if a is not None and b is not None]
    if points:
        axes.plot(*zip(*points, strict=True), label=name.replace("_", " "), marker=".", lw=1.5)


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
