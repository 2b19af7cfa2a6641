"""Multi-page TIFF files that appear whole, one page per section."""

from pathlib import Path
from typing import Any

import numpy.typing as npt
import tifffile

from unet_core.io.atomic import replacing


def write_pages(path: Path, sections: npt.NDArray[Any], *, description: str) -> None:
    """Write (z, y, x) to `path`, deflated.

    `description` (ASCII) goes into the first page; equal arguments give equal bytes.
    """
    with replacing(path) as partial:
        tifffile.imwrite(
            partial,
            sections,
            photometric="minisblack",
            compression="zlib",
            description=description,
            metadata=None,
        )


def description_of(path: Path) -> str | None:
    """What `write_pages` has noted in the first page; None if there is no such TIFF file."""
    try:
        with tifffile.TiffFile(path) as file:
            text: str = file.pages.first.description
    except (FileNotFoundError, tifffile.TiffFileError):
        return None
    return text
