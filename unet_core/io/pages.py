"""Multi-page TIFF files that appear whole, one page per section."""

from pathlib import Path
from typing import Any

import numpy.typing as npt
import tifffile


def write_pages(path: Path, sections: npt.NDArray[Any], *, description: str) -> None:
    """Write (z, y, x) to `path`, deflated, under another name first.

    `description` (ASCII) goes into the first page; equal arguments give equal bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    tifffile.imwrite(
        partial,
        sections,
        photometric="minisblack",
        compression="zlib",
        description=description,
        metadata=None,
    )
    partial.replace(path)


def description_of(path: Path) -> str | None:
    """What `write_pages` has noted in the first page; None if there is no such TIFF file."""
    try:
        with tifffile.TiffFile(path) as file:
            text: str = file.pages.first.description
    except (FileNotFoundError, tifffile.TiffFileError):
        return None
    return text
