"""HDF5 datasets, with the axes and voxel sizes of ilastik, plant-seg and CREMI."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from unet_core.errors import RawFormatError
from unet_core.geometry import Box
from unet_core.io.readers.axes import Layout, guess_axes, voxel_size
from unet_core.io.readers.raw import Array, RawVolume, VoxelSize

_SIZES = {"element_size_um": 1e3, "resolution_nm": 1.0, "resolution": 1.0}
"""Attributes with edge lengths (z, y, x), and their unit in nanometres."""


def open_hdf5(source: str) -> RawVolume:
    """Open ``FILE.h5::DATASET``, or ``FILE.h5`` where it holds one dataset of two or more axes."""
    name, _, wanted = source.partition("::")
    with _file(Path(name)) as file:
        data = _dataset(file, wanted, source)
        if data.dtype.kind not in "biuf":
            raise RawFormatError(f"{source} holds {data.dtype}; needed are numbers")
        layout = Layout.of(_axes(data, source), data.shape, source)
        chunks = dict(zip(layout.axes, data.chunks or (1,) * data.ndim, strict=True))
        size, dtype, path = _voxel_size(data), data.dtype.newbyteorder("="), data.name

    def fetch(box: Box) -> Array:
        with _file(Path(name)) as again:
            return layout.arrange(np.asarray(again[path][layout.index(box)]))

    unit = chunks.get("z", 1), chunks["y"], chunks["x"]
    return RawVolume(source, layout.shape, dtype, size, unit, fetch)


def _file(path: Path) -> Any:
    # Without locks: files of the user's are read alone, often from file systems without them.
    return h5py.File(path, "r", locking=False)


def _dataset(file: Any, wanted: str, source: str) -> Any:
    found: list[str] = []

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim >= 2 and item.dtype.kind in "biuf":
            found.append(name)

    if not wanted:
        file.visititems(visit)
        if len(found) == 1:
            return file[found[0]]
        listed = ", ".join(f"{name} {file[name].shape}" for name in found[:20]) or "none"
        raise RawFormatError(
            f"{source} holds {len(found)} datasets of two or more axes; name one as "
            f"{source}::DATASET: {listed}"
        )
    item = file.get(wanted)
    if isinstance(item, h5py.Dataset) and item.ndim >= 2:
        return item
    file.visititems(visit)
    raise RawFormatError(
        f"{source}: the file has no dataset {wanted!r} of two or more axes; it has "
        f"{', '.join(found[:20]) or 'none'}"
    )


def _axes(data: Any, source: str) -> str:
    if (tags := data.attrs.get("axistags")) is not None:
        return "".join(axis["key"] for axis in json.loads(tags)["axes"])
    if isinstance(named := data.attrs.get("axes"), str) and len(named) == data.ndim:
        return named
    labels = [dimension.label for dimension in data.dims]
    if all(len(label) == 1 for label in labels):
        return "".join(labels)
    return guess_axes(data.shape, source)


def _voxel_size(data: Any) -> VoxelSize | None:
    for name, unit in _SIZES.items():
        lengths = np.atleast_1d(data.attrs.get(name, ()))
        if lengths.shape == (3,) and lengths.dtype.kind in "iuf":
            z, y, x = (float(length) * unit for length in lengths)
            return voxel_size({"z": z, "y": y, "x": x}) if z > 0 else None
    return None
