"""Sections in files of their own: a folder or a glob of TIFF, PNG or JPEG files, or just one."""

import glob
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from unet_core.errors import RawFormatError
from unet_core.geometry import Box
from unet_core.io.readers import tiff
from unet_core.io.readers.raw import COPY_AGAIN, DAMAGE, Array, RawVolume, VoxelSize, damaged

_KINDS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    **dict.fromkeys((".tif", ".tiff", ".btf", ".tf8"), "TIFF"),
}


@dataclass(frozen=True)
class _Section:
    """One file of a series: what its header says, and how its pixels are read."""

    shape: tuple[int, int, int]
    """(c, y, x)."""
    dtype: np.dtype[Any]
    read: Callable[[slice, slice], Array]
    """Region in y and x to (c, y, x)."""
    colour_table: bool = False
    voxel_size_nm: VoxelSize | None = None


def open_series(source: str) -> RawVolume:
    """Open a folder, a glob or one image file; sections follow in natural order of the names.

    Raises
    ------
    RawFormatError
        If there are no images, or of different formats, or one is not a single section.
    """
    files = _files(source)
    first = _section(files[0])
    channels, height, width = first.shape

    def check() -> None:
        for file in files:
            _refuse_other(file, _section(file), files[0], first)

    def fetch(box: Box) -> Array:
        ys, xs = box.slices[1:]
        out = np.empty((channels, *box.shape), first.dtype)
        for z in range(box.start[0], box.stop[0]):
            section = _section(files[z])
            _refuse_other(files[z], section, files[0], first)
            try:
                out[:, z - box.start[0]] = section.read(ys, xs)
            except DAMAGE as error:
                raise RawFormatError(
                    f"{files[z]} (section {z}) cannot be read ({error}); {COPY_AGAIN}"
                ) from error
        return out

    return RawVolume(
        source,
        (channels, len(files), height, width),
        first.dtype,
        first.voxel_size_nm if len(files) == 1 else None,
        (1, height, width),
        fetch,
        first.colour_table,
        check,
        lossy=_KINDS[files[0].suffix.lower()] == "JPEG",
    )


def natural(name: str) -> list[tuple[int, str]]:
    """Sort key under which ``2`` comes before ``10``; equal numbers in order of their spelling."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), part) if part.isdecimal() else (-1, part) for part in parts]


def _files(source: str) -> list[Path]:
    path = Path(source)
    if path.is_dir():
        found = [p for p in path.iterdir() if not p.name.startswith(".")]
        found = [p for p in found if p.suffix.lower() in _KINDS and p.is_file()]
    elif path.is_file():
        found = [path]
    else:
        found = [p for p in map(Path, glob.glob(source)) if p.is_file()]  # noqa: PTH207
    if not found:
        raise RawFormatError(
            f"{source}: no TIFF, PNG or JPEG sections there; give a folder of them, or a glob in "
            "quotes that matches at least one"
        )
    kinds = {_KINDS.get(p.suffix.lower(), p.suffix) for p in found}
    if len(kinds) > 1 or not kinds <= set(_KINDS.values()):
        raise RawFormatError(
            f"{source}: sections must all be TIFF, all PNG or all JPEG, found "
            f"{', '.join(sorted(kinds))}; give a glob that matches one kind, such as '*.tif'"
        )
    return sorted(found, key=lambda p: natural(p.as_posix()))


def _section(path: Path) -> _Section:
    readers = {"PNG": _png, "JPEG": _jpeg, "TIFF": _tiff}
    try:
        return readers[_KINDS[path.suffix.lower()]](path)
    except (*DAMAGE, tifffile.TiffFileError) as error:
        raise damaged(path, error) from error


def _refuse_other(file: Path, section: _Section, first_file: Path, first: _Section) -> None:
    if (section.shape, section.dtype) != (first.shape, first.dtype):
        raise RawFormatError(
            f"{file} has (c, y, x) {section.shape} {section.dtype}, the first section "
            f"{first_file.name} has {first.shape} {first.dtype}; all sections of a series must be "
            "alike: crop or convert it, or take it out"
        )


def _tiff(path: Path) -> _Section:
    volume = tiff.open_section(path)
    c, z, y, x = volume.shape
    if z != 1:
        raise RawFormatError(
            f"{path} holds {z} sections; in a series every file is one section (give the file "
            "alone, if it is the volume)"
        )

    def read(ys: slice, xs: slice) -> Array:
        return volume.fetch(Box((0, ys.start, xs.start), (1, ys.stop, xs.stop)))[:, 0]

    return _Section((c, y, x), volume.dtype, read, volume.colour_table, volume.voxel_size_nm)


def _png(path: Path) -> _Section:
    with path.open("rb") as file:
        header = file.read(26)
    if len(header) < 26 or header[:8] != b"\x89PNG\r\n\x1a\n" or header[12:16] != b"IHDR":
        raise ValueError("no PNG header")
    x, y, depth, colour = struct.unpack(">IIBB", header[16:26])
    channels = 3 if colour in (2, 6) else 1  # alpha is dropped
    dtype = np.dtype({1: bool, 16: np.uint16}.get(depth if colour != 3 else 8, np.uint8))

    def read(ys: slice, xs: slice) -> Array:
        if colour == 3 or depth < 8:
            # Pillow keeps the numbers of a palette, and scales 2 and 4 bits up to 8.
            with path.open("rb") as file, PngImageFile(file) as image:
                pixels = np.asarray(image)
            if colour == 0 and depth in (2, 4):
                pixels = pixels // np.uint8(255 // (2**depth - 1))
        else:
            pixels = imagecodecs.png_decode(path.read_bytes())
        return _channels_first(pixels, channels, (y, x))[:, ys, xs].astype(dtype)

    table = colour == 3 and not _grey_png_palette(path)
    return _Section((channels, y, x), dtype, read, table)


def _grey_png_palette(path: Path) -> bool:
    """Whether colour number n of the palette is the grey n."""
    with path.open("rb") as file, PngImageFile(file) as image:
        table = np.array(image.getpalette("RGB") or [0], np.uint8)
    return len(table) % 3 == 0 and bool(
        (np.arange(len(table) // 3) == table.reshape(-1, 3).T).all()
    )


def _jpeg(path: Path) -> _Section:
    # Pillow, as it refuses a file that is cut short where libjpeg alone fills up with grey.
    with path.open("rb") as file, JpegImageFile(file) as image:
        (x, y), mode = image.size, image.mode
    if mode not in ("L", "RGB"):
        raise RawFormatError(f"{path} holds {mode} colours; save it as grey or RGB")
    channels = 3 if mode == "RGB" else 1

    def read(ys: slice, xs: slice) -> Array:
        with path.open("rb") as file, JpegImageFile(file) as image:
            pixels = np.asarray(image)
        return _channels_first(pixels, channels, (y, x))[:, ys, xs]

    return _Section((channels, y, x), np.dtype(np.uint8), read)


def _channels_first(pixels: Array, channels: int, size: tuple[int, int]) -> Array:
    """(y, x[, samples]) to (c, y, x), of samples the first `channels`."""
    pixels = pixels.reshape(*size, -1)
    return np.moveaxis(pixels[:, :, :channels], -1, 0)
