"""The report's page: one HTML file that needs nothing else."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup


def render(context: Mapping[str, Any]) -> str:
    """The page for `context` (see `stages.report`); everything from files is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    environment.filters["rounded"] = rounded
    return environment.get_template("report.html.j2").render(context)


def embedded(picture: Path) -> str:
    """A JPEG as a data URI."""
    return "data:image/jpeg;base64," + base64.b64encode(picture.read_bytes()).decode()


def drawn(svg: str) -> Markup:
    """SVG of `figures.curves`, whose texts matplotlib has escaped."""
    return Markup(svg)


def number(value: Any) -> str:
    """A value as a person reads it: four digits, — for what is unknown."""
    if value is None:
        return "—"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u202f")
    return f"{value:.4f}" if 0.001 <= abs(value) < 1000 or value == 0 else f"{value:.3g}"


def rounded(value: float | None) -> str:
    """Seconds or megabytes: whole numbers, one digit more below 10."""
    if value is None:
        return "—"
    return f"{value:.1f}" if value < 10 else number(round(value))
