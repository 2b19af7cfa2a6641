"""zarr 2 and 3 arrays and OME-Zarr 0.4 and 0.5 images that were not made by us."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from unet_core.errors import RawFormatError
from unet_core.geometry import Box
from unet_core.io.readers.axes import Layout, guess_axes, nanometres, voxel_size
from unet_core.io.readers.raw import Array, RawVolume, VoxelSize

_MARKERS = ("zarr.json", ".zarray", ".zgroup")


def is_zarr(path: Path) -> bool:
    """Whether the folder is a zarr array or group, or is named like one."""
    return any((path / name).is_file() for name in _MARKERS) or path.suffix == ".zarr"


def open_zarr(source: str) -> RawVolume:
    """Open a zarr array, the finest level of an OME-Zarr image, or a group's only array."""
    name, _, inner = source.partition("::")
    root = Path(name) / inner
    path, axes, size = _find(root, source)
    _refuse_pickles(path)
    array: Any = zarr.open_array(path, mode="r")
    if array.dtype.kind not in "biuf":
        raise RawFormatError(f"{source} holds {array.dtype}; needed are numbers")
    layout = Layout.of(axes or _own_axes(path, array, source), array.shape, source)

    def fetch(box: Box) -> Array:
        return layout.arrange(np.asarray(array[layout.index(box)]))

    stored = dict(zip(layout.axes, array.chunks, strict=True))
    unit = stored.get("z", 1), stored["y"], stored["x"]
    return RawVolume(source, layout.shape, array.dtype.newbyteorder("="), size, unit, fetch)


def _find(root: Path, source: str) -> tuple[Path, str | None, VoxelSize | None]:
    """Folder of the array, its axes if metadata names them, its voxel size if known."""
    if (root / ".zarray").is_file() or _metadata(root).get("node_type") == "array":
        return root, None, None
    if not any((root / name).is_file() for name in _MARKERS):
        raise RawFormatError(
            f"{source} is not a zarr array or group: it has none of {', '.join(_MARKERS)}; is the "
            "copy complete?"
        )
    attributes = _attributes(root)
    ome = attributes.get("ome", attributes)
    if images := ome.get("multiscales"):
        return _multiscale(root, images[0], source)
    if "bioformats2raw.layout" in ome and (root / "0").is_dir():
        if (root / "1").is_dir():
            raise RawFormatError(f"{source} holds several images; name one: {source}/0, …/1")
        return _find(root / "0", source)
    inside = sorted(p for p in root.iterdir() if p.is_dir() and is_array(p))
    if len(inside) != 1:
        listed = ", ".join(str(p) for p in inside) or "none directly in it"
        raise RawFormatError(f"{source} is a group of {len(inside)} arrays; name one: {listed}")
    return inside[0], None, None


def is_array(path: Path) -> bool:
    """Whether the folder is a zarr array."""
    return (path / ".zarray").is_file() or _metadata(path).get("node_type") == "array"


def _multiscale(
    root: Path, image: dict[str, Any], source: str
) -> tuple[Path, str | None, VoxelSize | None]:
    level = image["datasets"][0]
    path = root / str(level["path"])
    if not path.resolve().is_relative_to(root.resolve()) or not is_array(path):
        raise RawFormatError(f"{source}: its finest level {level['path']!r} is missing")
    named = image.get("axes", [{"name": a} for a in "tczyx"])
    axes = [{"name": a} if isinstance(a, str) else a for a in named]
    scale = np.ones(len(axes))
    # The scale of the level, then that of all levels, if there is one (NGFF 0.4, multiscales).
    for step in [*level.get("coordinateTransformations", ()), *image.get(_STEPS, ())]:
        if step.get("type") == "scale":
            scale = scale * step["scale"]
    lengths: dict[str, float | None] = {}
    for axis, factor in zip(axes, scale, strict=True):
        unit = nanometres(axis.get("unit"))
        lengths[axis["name"]] = None if unit is None else float(factor) * unit
    letters = "".join(str(axis["name"])[:1] for axis in axes)
    return path, letters, voxel_size(lengths)


_STEPS = "coordinateTransformations"


def _own_axes(path: Path, array: Any, source: str) -> str:
    names = getattr(array.metadata, "dimension_names", None)
    names = names or _attributes(path).get("_ARRAY_DIMENSIONS")
    if names and all(isinstance(n, str) and len(n) == 1 for n in names):
        return "".join(names)
    return guess_axes(array.shape, source)


def _refuse_pickles(path: Path) -> None:
    """A codec that unpickles would run whatever the file says."""
    for name in ("zarr.json", ".zarray"):
        file = path / name
        if file.is_file() and any("pickle" in codec.lower() for codec in _codecs(_json(file))):
            raise RawFormatError(f"{path} is stored with a pickle codec, which is not safe to read")


def _codecs(value: Any) -> list[str]:
    """All names of codecs in array metadata, however deep."""
    if isinstance(value, list):
        return [name for part in value for name in _codecs(part)]
    if isinstance(value, dict):
        own = [str(value[key]) for key in ("id", "name") if key in value]
        parts = [part for key, part in value.items() if key != "attributes"]
        return own + _codecs(parts)
    return []


def _metadata(path: Path) -> dict[str, Any]:
    return _json(path / "zarr.json")


def _attributes(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = _metadata(path).get("attributes", {}) or _json(path / ".zattrs")
    return found


def _json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    value = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise RawFormatError(f"{file} is not zarr metadata")
    return value
