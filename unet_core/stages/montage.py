"""The picture of one volume: sections as raw, probability, objects, and errors against truth."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from unet_core.config import ObjectsConfig, ReportConfig
from unet_core.figures import overlay
from unet_core.geometry import IGNORED_ID, Box, Zyx, fine
from unet_core.io.arrays import open_level, read
from unet_core.io.atomic import replacing
from unet_core.io.ngff import attributes_of
from unet_core.io.probabilities import open_probabilities, read_foreground
from unet_core.io.truth import open_truth


def draw_montage(
    config: ReportConfig,
    *,
    objects: ObjectsConfig,
    raw: Path,
    probabilities: Path,
    labels: Path,
    truth: Path | None,
    out: Path,
    mask: Path | None = None,
) -> None:
    """Write a JPEG of `config.sections` sections of a volume, voxel by voxel as predicted.

    Of a region that was computed alone, and of sections wider than `config.width_px`, the middle
    is shown. Columns: raw (its first channel; three are red, green and blue), probability of the
    foreground class, objects over raw, and with truth the borders missed, surplus and found, or,
    where truth holds classes, the voxels of the foreground class. What was not computed (outside
    of `mask`, in failed blocks) is a flat blue-grey in these, and no error. Of raw and truth the
    first of the voxels that are predicted as one are shown.
    """
    source = open_probabilities(probabilities, [mask] if mask else [])
    step = source.downsample
    classes = truth is not None and open_truth(truth).kind == "semantic"
    z, y, x = open_level(labels).shape
    shown = source.region or Box((0, 0, 0), (z, y, x))
    count = min(config.sections, shown.shape[0])
    chosen = [shown.start[0] + int((n + 0.5) * shown.shape[0] / count) for n in range(count)]
    rows = []
    for section in chosen:
        box = _middle(section, shown, config.width_px)
        seen = _picture(raw, box, step)
        stored = read_foreground(source, box, objects.classes)[0]
        ids = read(open_level(labels), box)[0]
        computed = source.computed(box)
        absent = None if computed is None else ~computed[0]
        shown_as = overlay.grey(stored, low=0, high=1 if stored.dtype.kind == "f" else 255)
        objects_drawn = overlay.blended(seen, overlay.colours(ids), 0.45)
        row = {
            "raw": seen,
            "probability": overlay.without(shown_as, absent),
            "objects": overlay.without(objects_drawn, absent),
        }
        if truth is not None:
            annotated = _coarse(truth, box, step)[0]
            row["truth"] = overlay.blended(seen, overlay.colours(annotated), 0.45)
            scored = annotated if absent is None else np.where(absent, IGNORED_ID, annotated)
            foreground = objects.foreground if classes else None
            errors = overlay.error_picture(seen, ids, scored, foreground=foreground)
            row["missed red, surplus blue"] = overlay.without(errors, absent)
        rows.append(row)
    names = [f"section {section * step[0]}" for section in chosen]
    picture = overlay.montage(rows, names)
    with replacing(out) as partial:
        Image.fromarray(picture).save(partial, "JPEG", quality=75)


def _picture(raw: Path, box: Box, step: Zyx) -> overlay.Picture:
    """The one section of a box; colours share one scale, so that they stay what they are."""
    of = attributes_of(raw)["unet"]["statistics"]
    values = _coarse(raw, box, step)[:, 0]
    of = of if len(values) == 3 else of[:1]
    low = min(channel["percentiles"][5] for channel in of)
    high = max(channel["percentiles"][995] for channel in of)
    if len(values) == 3:
        return overlay.red_green_blue(values, low=low, high=high)
    return overlay.grey(values[0], low=low, high=high)


def _coarse(store: Path, box: Box, step: Zyx) -> npt.NDArray[Any]:
    """The first voxel of each of those that a box of predicted voxels spans."""
    level = open_level(store)
    voxels = read(level, fine(box, step).clip(level.shape[-3:]))
    z, y, x = step
    return voxels[..., ::z, ::y, ::x]


def _middle(section: int, shown: Box, width_px: int) -> Box:
    """The middle of a section of a box, at most `width_px` wide and high."""
    (_, y0, x0), (_, height, width) = shown.start, shown.shape
    y0, x0 = y0 + max(0, (height - width_px) // 2), x0 + max(0, (width - width_px) // 2)
    return Box((section, y0, x0), (section + 1, y0 + width_px, x0 + width_px)).intersection(shown)
