"""Sections as pictures: raw, probability, objects in colour, errors against truth."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from unet_core.geometry import IGNORED_ID

Picture = npt.NDArray[np.uint8]
"""(y, x, 3), red, green, blue."""

NOT_COMPUTED = (70, 78, 110)
"""Colour of voxels that hold no result."""

MISSED, SURPLUS, FOUND = (230, 60, 50), (60, 120, 250), (255, 255, 255)
"""Colours of truth borders without a found one, of found ones without truth, and of matches."""

_GROWN_PX = 8
_GAP = 8
_CAPTION = 22


def grey(values: npt.NDArray[Any], *, low: float, high: float) -> Picture:
    """(y, x) values as grey, `low` black and `high` white."""
    scaled = (values.astype(np.float32) - low) / max(high - low, 1e-9)
    picture: Picture = np.clip(scaled * 255, 0, 255).astype(np.uint8)[..., None]
    return np.repeat(picture, 3, axis=-1)


def red_green_blue(values: npt.NDArray[Any], *, low: float, high: float) -> Picture:
    """(3, y, x) values as red, green and blue, `low` black and `high` full."""
    return np.stack([grey(channel, low=low, high=high)[..., 0] for channel in values], axis=-1)


def colours(ids: npt.NDArray[Any]) -> Picture:
    """(y, x) ids in colours that only depend on the id; 0 and ignored ids are black."""
    hashed = ids.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    hue = (hashed >> np.uint64(40)).astype(np.float32) / 2**24
    light = 0.65 + 0.35 * ((hashed >> np.uint64(20)) & np.uint64(0xFF)).astype(np.float32) / 255
    turns = (hue[..., None] + np.array([0, 2 / 3, 1 / 3], np.float32)) % 1
    rgb = np.clip(np.abs(turns * 6 - 3) - 1, 0, 1) * 0.75 + 0.25
    rgb *= (light * ((ids != 0) & (ids != IGNORED_ID)))[..., None]
    picture: Picture = (rgb * 255).astype(np.uint8)
    return picture


def blended(picture: Picture, over: Picture, share: float) -> Picture:
    """`over` at `share` on `picture`, where `over` is not black."""
    weight = np.where(over.any(-1, keepdims=True), np.float32(share), np.float32(0))
    mixed: Picture = (picture * (1 - weight) + over * weight).astype(np.uint8)
    return mixed


def without(picture: Picture, where: npt.NDArray[np.bool_] | None) -> Picture:
    """The picture with `NOT_COMPUTED` at the (y, x) of `where`."""
    if where is None:
        return picture
    painted: Picture = np.where(where[..., None], np.array(NOT_COMPUTED, np.uint8), picture)
    return painted


def border_errors(
    labels: npt.NDArray[Any], truth: npt.NDArray[Any], *, tolerance_px: float = 3.0
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Borders that are missed, surplus and found, (y, x) each; within `tolerance_px` they match.

    Where truth is ignored nothing is an error.
    """
    ignored = truth == IGNORED_ID
    expected, found = _borders(np.where(ignored, 0, truth)) & ~ignored, _borders(labels)
    near_found = ndimage.distance_transform_edt(~found) <= tolerance_px if found.any() else found
    near_truth = (
        ndimage.distance_transform_edt(~(expected | ignored)) <= tolerance_px
        if (expected | ignored).any()
        else expected
    )
    return expected & ~near_found, found & ~near_truth & ~ignored, found & near_truth & ~ignored


def class_errors(
    labels: npt.NDArray[Any], truth: npt.NDArray[Any], *, foreground: int | tuple[int, ...]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Voxels of `foreground`, one class or several, missed, surplus and found, (y, x) each.

    Those within any of the `labels` were found; where truth is ignored nothing is an error.
    """
    known, expected, found = truth != IGNORED_ID, np.isin(truth, foreground), labels != 0
    return expected & ~found, found & ~expected & known, found & expected


def error_picture(
    raw: Picture,
    labels: npt.NDArray[Any],
    truth: npt.NDArray[Any],
    *,
    foreground: int | tuple[int, ...] | None,
) -> Picture:
    """The raw section, dimmed, with what is missed red, what is surplus blue and found white.

    Borders of objects; where truth holds classes (`foreground`: which is looked for) its voxels.
    """
    picture = (raw * 0.55).astype(np.uint8)
    if foreground is None:
        missed, surplus, found = border_errors(labels, truth)
    else:
        missed, surplus, found = class_errors(labels, truth, foreground=foreground)
    for mask, colour, share in ((found, FOUND, 0.45), (missed, MISSED, 1.0), (surplus, SURPLUS, 1)):
        over = np.zeros_like(picture)
        over[mask] = colour
        picture = blended(picture, over, share)
    return picture


def montage(rows: Sequence[Mapping[str, Picture]], names: Sequence[str]) -> Picture:
    """Pictures with captions: a row per section, called `names`; a column per key."""
    font = ImageFont.load_default(size=14)
    y, x = next(iter(rows[0].values())).shape[:2]
    columns = list(rows[0])
    width = len(columns) * (x + _GAP) - _GAP
    page = Image.new("RGB", (width, len(rows) * (y + _CAPTION)), "white")
    draw = ImageDraw.Draw(page)
    for r, (row, name) in enumerate(zip(rows, names, strict=True)):
        for c, column in enumerate(columns):
            left, top = c * (x + _GAP), r * (y + _CAPTION)
            draw.text((left + 2, top + 2), f"{name} · {column}", fill="#333", font=font)
            page.paste(Image.fromarray(row[column]), (left, top + _CAPTION))
    return np.asarray(page)


def _borders(ids: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Voxels with a neighbour (right or below) of another id, once membranes are filled.

    Labels may abut where truth has wide membranes of id 0: objects are grown by `_GROWN_PX`
    first, so that both have a line in the membrane's middle.
    """
    if not ids.any():
        return np.zeros(ids.shape, bool)
    far, nearest = ndimage.distance_transform_edt(ids == 0, return_indices=True)
    grown = np.where(far <= _GROWN_PX, ids[tuple(nearest)], 0)
    borders = np.zeros(ids.shape, bool)
    borders[:, :-1] |= grown[:, :-1] != grown[:, 1:]
    borders[:-1] |= grown[:-1] != grown[1:]
    return borders
