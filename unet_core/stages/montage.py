"""The picture of one volume: sections as raw, probability, objects, and errors against truth."""

from pathlib import Path

from PIL import Image

from unet_core.config import ObjectsConfig, ReportConfig
from unet_core.figures import overlay
from unet_core.geometry import Box
from unet_core.io.arrays import open_level, read
from unet_core.io.atomic import replacing
from unet_core.io.ngff import attributes_of


def draw_montage(
    config: ReportConfig,
    *,
    objects: ObjectsConfig,
    raw: Path,
    probabilities: Path,
    labels: Path,
    truth: Path | None,
    out: Path,
) -> None:
    """Write a JPEG of `config.sections` sections of a volume, at full resolution.

    Of sections wider than `config.width_px` the middle is shown. Columns: raw, probability of the
    foreground class, objects over raw, and with truth the borders missed, surplus and found.
    """
    statistics = attributes_of(raw)["unet"]["statistics"][0]
    low, high = statistics["percentiles"][5], statistics["percentiles"][995]
    level = open_level(raw)
    shape = level.shape[-3:]
    count = min(config.sections, shape[0])
    chosen = [int((n + 0.5) * shape[0] / count) for n in range(count)]
    rows = []
    for z in chosen:
        box = _middle(z, shape, config.width_px)
        grey = overlay.grey(read(level, box)[0, 0], low=low, high=high)
        stored = read(open_level(probabilities), box)[objects.foreground - 1, 0]
        ids = read(open_level(labels), box)[0]
        row = {
            "raw": grey,
            "probability": overlay.grey(stored, low=0, high=1 if stored.dtype.kind == "f" else 255),
            "objects": overlay.blended(grey, overlay.colours(ids), 0.45),
        }
        if truth is not None:
            annotated = read(open_level(truth), box)[0]
            row["truth"] = overlay.blended(grey, overlay.colours(annotated), 0.45)
            row["missed red, surplus blue"] = overlay.error_picture(grey, ids, annotated)
        rows.append(row)
    picture = overlay.montage(rows, [f"section {z}" for z in chosen])
    with replacing(out) as partial:
        Image.fromarray(picture).save(partial, "JPEG", quality=75)


def _middle(z: int, shape: tuple[int, ...], width_px: int) -> Box:
    y0, x0 = (max(0, (n - width_px) // 2) for n in shape[1:])
    y1, x1 = (min(n, a + width_px) for n, a in zip(shape[1:], (y0, x0), strict=True))
    return Box((z, y0, x0), (z + 1, y1, x1))
