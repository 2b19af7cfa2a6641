"""TIFF files: any compression and tiling, OME, ImageJ, pages as sections, samples as channels."""

import re
import xml.etree.ElementTree as Xml
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile

from unet_core.errors import RawFormatError
from unet_core.geometry import Box
from unet_core.io.readers.axes import Layout, nanometres, voxel_size
from unet_core.io.readers.raw import (
    COPY_AGAIN,
    DAMAGE,
    Array,
    RawVolume,
    VoxelSize,
    damaged,
)

TIFF_DAMAGE = (*DAMAGE, tifffile.TiffFileError)

_WHITE_IS_ZERO, _RGB, _PALETTE, _YCBCR = 0, 2, 3, 6
_UNREADABLE = {5: "CMYK", 8: "CIELAB", 9: "ICCLAB", 10: "ITULAB", 32803: "a colour filter array"}
_JPEGS = (6, 7, 33007, 34892)


@dataclass(frozen=True)
class _Page:
    """Where the pixels of one page stand in the file, and how they are decoded."""

    decode: Callable[..., Any]
    jpeg: dict[str, bytes | None]
    offsets: tuple[int, ...]
    counts: tuple[int, ...]
    shaped: tuple[int, ...]
    """Planes of samples, depth (1), y, x, samples side by side."""
    nodata: float

    @classmethod
    def of(cls, page: Any) -> "_Page":
        frame = page.keyframe
        return cls(
            frame.decode,
            {"jpegtables": frame.jpegtables, "jpegheader": frame.jpegheader},
            tuple(page.dataoffsets),
            tuple(page.databytecounts),
            tuple(frame.shaped),
            frame.nodata,
        )

    def read(self, file: BinaryIO, dtype: np.dtype[Any], ys: slice, xs: slice) -> Array:
        """The samples of a region: (samples, y, x)."""
        planes, _, _, _, contiguous = self.shaped
        out = np.full(
            (planes, ys.stop - ys.start, xs.stop - xs.start, contiguous), self.nodata, dtype
        )
        for index, (offset, count) in enumerate(zip(self.offsets, self.counts, strict=True)):
            _, (plane, _, y, x, _), (_, rows, columns, _) = self.decode(None, index, **self.jpeg)
            y0, y1 = max(y, ys.start), min(y + rows, ys.stop)
            x0, x1 = max(x, xs.start), min(x + columns, xs.stop)
            if y0 >= y1 or x0 >= x1 or count == 0:
                continue
            file.seek(offset)
            data = file.read(count)
            if len(data) < count:
                raise EOFError(f"the file ends {count - len(data)} bytes before the pixels do")
            part = self.decode(data, index, **self.jpeg)[0][0]
            if part.shape[0] < y1 - y or part.shape[1] < x1 - x:
                raise EOFError("the compressed pixels end too early")
            out[plane, y0 - ys.start : y1 - ys.start, x0 - xs.start : x1 - xs.start] = part[
                y0 - y : y1 - y, x0 - x : x1 - x
            ]
        return np.moveaxis(out, -1, 1).reshape(-1, *out.shape[1:3])


def open_tiff(source: str) -> RawVolume:
    """Open a TIFF, BigTIFF, OME-TIFF or ImageJ file of one image.

    Raises
    ------
    RawFormatError
        If it holds several images, points in time, or colours other than grey, RGB or a palette.
    """
    return _opened(Path(source), ome=True)


def open_section(path: Path) -> RawVolume:
    """Open one file of a series by its pages alone: OME metadata may tell of the whole series."""
    return _opened(path, ome=False)


def _opened(path: Path, *, ome: bool) -> RawVolume:
    flags: dict[str, Any] = {} if ome else {"is_ome": False}
    try:
        with tifffile.TiffFile(path, **flags) as file:
            return _open(file, path)
    except tifffile.TiffFileError as error:
        raise damaged(path, error) from error


def _open(file: Any, path: Path) -> RawVolume:
    _refuse_more_files(file, path)
    series = _only_series(file, path)
    frame = series.keyframe
    _refuse_cut_chain(file, path)
    if frame.dtype is None or frame.dtype.kind not in "biuf":
        raise RawFormatError(
            f"{path} holds {frame.bitspersample}-bit values of sample format "
            f"{frame.sampleformat}; needed are integers or floats"
        )
    invert = _inverter(frame)
    indexed = frame.photometric == _PALETTE and not _grey_palette(frame)
    colours = _colours(frame, path)
    size = _voxel_size(file)
    if series.dataoffset is not None:
        layout, fetch = _mapped(file, series, path, colours, invert)
        unit = (1, 1, 1)
    else:
        layout, fetch = _paged(series, path, colours, invert)
        rows = min(frame.rowsperstrip, layout.shape[2])
        unit = (1, rows, layout.shape[3])
        if frame.is_tiled:
            unit = (1, frame.tilelength, frame.tilewidth)
    dtype = frame.dtype.newbyteorder("=")
    return RawVolume(str(path), layout.shape, dtype, size, unit, fetch, colour_table=indexed)


def _mapped(
    file: Any, series: Any, path: Path, colours: int | None, invert: Callable[[Array], Array]
) -> tuple[Layout, Callable[[Box], Array]]:
    """Layout of a series whose pixels stand in the file as they are, and its reader."""
    stored, offset, shape = (
        series.dtype.newbyteorder(file.byteorder),
        series.dataoffset,
        series.shape,
    )
    layout = Layout.of(series.axes, shape, path, colours=colours)
    _refuse_cut_data(path, offset, series, stored)

    def fetch(box: Box) -> Array:
        mapped = np.memmap(path, stored, "r", offset, shape)
        return invert(layout.arrange(mapped[layout.index(box)]))

    return layout, fetch


def _paged(
    series: Any, path: Path, colours: int | None, invert: Callable[[Array], Array]
) -> tuple[Layout, Callable[[Box], Array]]:
    """Layout of a series of pages that must be decoded, and its reader."""
    frame = series.keyframe
    if frame.shaped[1] != 1 or not series.axes.endswith(frame.axes):
        raise RawFormatError(
            f"{path}: pages with axes {frame.axes} in an image with axes {series.axes} are not "
            "supported; save it anew as a plain TIFF, one page per section"
        )
    layout = Layout.of(series.axes, series.shape, path, colours=colours)
    outer = len(series.axes) - len(frame.axes)
    numbers = np.arange(int(np.prod(series.shape[:outer]))).reshape(*series.shape[:outer], 1, 1)
    if len(series) != numbers.size or any(page is None for page in series):
        raise RawFormatError(
            f"{path}: {len(series)} of {numbers.size} pages are there; {COPY_AGAIN}"
        )
    order = Layout.of(layout.axes[:outer] + "yx", numbers.shape, path)
    every = Box((0, 0, 0), order.shape[1:])
    order_cz = order.arrange(numbers[order.index(every)])[:, :, 0, 0]
    pages = [_Page.of(page) for page in series]
    dtype = frame.dtype.newbyteorder("=")

    def fetch(box: Box) -> Array:
        z0, z1 = box.start[0], box.stop[0]
        out = np.empty((layout.shape[0], *box.shape), dtype)
        samples = layout.shape[0] // len(order_cz)
        with path.open("rb") as file:
            for z in range(z0, z1):
                for c, page in enumerate(order_cz[:, z]):
                    try:
                        found = pages[page].read(file, dtype, *box.slices[1:])
                    except TIFF_DAMAGE as error:
                        raise RawFormatError(
                            f"{path}: section {z} (page {page}) cannot be read ({error}); "
                            f"{COPY_AGAIN}"
                        ) from error
                    out[c * samples : (c + 1) * samples, z - z0] = found[:samples]
        return invert(out)

    return layout, fetch


def _only_series(file: Any, path: Path) -> Any:
    """The one image of the file; smaller copies of it (previews, pyramids) do not count."""
    if not file.pages:
        raise RawFormatError(f"{path} holds no page; {COPY_AGAIN}")
    images = [s for s in file.series if not s.keyframe.is_reduced] or list(file.series)
    if len(images) != 1:
        shapes = ", ".join(f"{s.axes} {s.shape}" for s in images[:5])
        raise RawFormatError(
            f"{path} holds {len(images)} images of different kinds ({shapes}); save the one you "
            "mean as a file of its own"
        )
    return images[0]


def _refuse_more_files(file: Any, path: Path) -> None:
    if file.is_ome:
        names = set(re.findall(r'FileName="([^"]*)"', file.ome_metadata or ""))
        if len(names) > 1:
            raise RawFormatError(
                f"{path} is one of {len(names)} files of an OME-TIFF set; give a glob of them, if "
                "each is a section, or save them as one file"
            )


def _refuse_cut_chain(file: Any, path: Path) -> None:
    """The last page must say that it is the last: else the file ends before its pages do."""
    form, last = file.tiff, file.pages[-1]
    with path.open("rb") as raw:
        raw.seek(last.offset)
        tags = int.from_bytes(raw.read(form.tagnosize), _endian(form))
        raw.seek(tags * form.tagsize, 1)
        follows = raw.read(form.offsetsize)
    if len(follows) < form.offsetsize or any(follows):
        raise RawFormatError(
            f"{path}: after section {len(file.pages) - 1} more pages are announced and none can "
            f"be read; {COPY_AGAIN}"
        )


def _endian(form: Any) -> Any:
    return "big" if form.byteorder == ">" else "little"


def _refuse_cut_data(path: Path, offset: int, series: Any, stored: np.dtype[Any]) -> None:
    section = int(np.prod(series.keyframe.shape)) * stored.itemsize
    wanted = int(np.prod(series.shape)) * stored.itemsize
    there = path.stat().st_size - offset
    if there < wanted:
        raise RawFormatError(
            f"{path} ends within section {max(0, there) // section} of {wanted // section}; "
            f"{COPY_AGAIN}"
        )


def _colours(frame: Any, path: Path) -> int | None:
    """How many samples are colours, where alpha follows them."""
    if (kind := _UNREADABLE.get(frame.photometric)) is not None:
        raise RawFormatError(f"{path} holds {kind} colours; save it as grey or RGB")
    if frame.photometric == _YCBCR and frame.compression not in _JPEGS:
        raise RawFormatError(f"{path} holds YCbCr colours; save it as grey or RGB")
    alpha = sum(int(kind) in (1, 2) for kind in frame.extrasamples)
    colours = frame.samplesperpixel - alpha
    return colours if alpha == 1 and colours in (1, 3) else None


def _inverter(frame: Any) -> Callable[[Array], Array]:
    """Undoes white-is-zero, so that larger is brighter; only whole numbers from 0 are inverted."""
    if frame.photometric != _WHITE_IS_ZERO or frame.dtype.kind not in "bu":
        return lambda values: values
    if frame.dtype.kind == "b":
        return np.logical_not
    top = frame.dtype.type(2 ** int(frame.bitspersample) - 1)
    return lambda values: top - values


def _grey_palette(frame: Any) -> bool:
    """Whether colour number n is the grey n."""
    table = np.asarray(frame.colormap)
    if table.ndim != 2 or len(table) != 3:
        return False
    return bool((table >> 8 == np.arange(table.shape[1])).all())


def _voxel_size(file: Any) -> VoxelSize | None:
    # Plain resolution tags are ignored: most say 72 or 96 dots per inch of paper.
    if file.is_ome:
        return _ome_size(file.ome_metadata)
    if not file.is_imagej:
        return None
    about = file.imagej_metadata or {}
    unit = nanometres(_unescape(str(about.get("unit", ""))))
    if unit is None:
        return None
    lengths: dict[str, float | None] = {}
    tags = file.pages[0].tags
    for axis, tag in (("y", "YResolution"), ("x", "XResolution")):
        number, per = tags[tag].value if tag in tags else (0, 1)
        lengths[axis] = unit * per / number if number else None
    if int(about.get("slices", 1)) > 1 or "spacing" in about:
        lengths["z"] = unit * float(about.get("spacing", 1.0))  # ImageJ leaves out a spacing of 1
    return voxel_size(lengths)


def _unescape(text: str) -> str:
    return re.sub(r"\\u([0-9a-fA-F]{4})", lambda found: chr(int(found[1], 16)), text)


def _ome_size(text: str) -> VoxelSize | None:
    try:
        root = Xml.fromstring(text)
    except Xml.ParseError:
        return None
    pixels = next((item for item in root.iter() if item.tag.endswith("}Pixels")), None)
    if pixels is None:
        return None
    lengths: dict[str, float | None] = {}
    for axis in "zyx":
        value = pixels.get(f"PhysicalSize{axis.upper()}")
        unit = nanometres(pixels.get(f"PhysicalSize{axis.upper()}Unit", "µm"))
        try:
            lengths[axis] = None if value is None or unit is None else float(value) * unit
        except ValueError:
            lengths[axis] = None
    return voxel_size(lengths)
