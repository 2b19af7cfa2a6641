"""What a reader hands out: a lazily read (c, z, y, x) volume."""

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from unet_core.errors import PlanError, RawFormatError
from unet_core.geometry import Box, Zyx

Array = npt.NDArray[Any]
Czyx = tuple[int, int, int, int]
VoxelSize = tuple[float, float, float]

DAMAGE = (
    OSError,
    ValueError,
    RuntimeError,
    LookupError,
    TypeError,
    AttributeError,
    NotImplementedError,
    EOFError,
    SyntaxError,  # Pillow, for a damaged PNG
    OverflowError,
    AssertionError,
    struct.error,
    zlib.error,
)
"""What the format libraries raise on files that are cut short or damaged."""


def _nothing() -> None:
    """All that a single file needs: it was checked when it was opened."""


@dataclass(frozen=True, eq=False)
class RawVolume:
    """A volume in a file of the user's, of which only the parts asked for are read.

    Holds no open file, so it may be used from any thread; pickled, it is opened anew by name.
    """

    source: str
    """What the user wrote: file, folder, glob, ``FILE.h5::DATASET``."""

    shape: Czyx
    """(c, z, y, x)."""

    dtype: np.dtype[Any]
    """As in the file, in native byte order."""

    voxel_size_nm: VoxelSize | None
    """Edge lengths (z, y, x) of a voxel, nanometres; None where the file does not say."""

    unit: Zyx
    """Voxels (z, y, x) that the file stores together: a smaller read costs as much."""

    fetch: Callable[[Box], Array] = field(repr=False)
    """Reads a box within the volume: (c, z, y, x), any byte order."""

    colour_table: bool = False
    """Whether the values are numbers of colours (a palette), not intensities."""

    check: Callable[[], None] = field(default=_nothing, repr=False)
    """Looks at the headers of all files of a series; raises RawFormatError naming the first that
    does not fit."""

    lossy: bool = False
    """Whether the format changes values (JPEG): ids, classes and masks do not survive it."""

    def refuse_lossy(self) -> None:
        """RawFormatError where values are ids, classes or a mask, and the format changes them."""
        if self.lossy:
            raise RawFormatError(
                f"{self.source} is JPEG, which changes values around every edge; save truth and "
                "masks as PNG or TIFF (a mask that was made so: what is above 127 as 255, the rest "
                "as 0)"
            )

    @property
    def unit_mb(self) -> float:
        """What the file stores together, MB."""
        return float(np.prod([self.shape[0], *self.unit])) * self.dtype.itemsize / 1e6

    def read(self, box: Box) -> Array:
        """The voxels of `box`, which lies in the volume: (c, z, y, x).

        Raises
        ------
        RawFormatError
            If the file is damaged there; names file and sections.
        """
        if box != box.clip(self.shape[1:]) or box.size == 0:
            raise PlanError(f"{box} is not a part of {self.source} with shape {self.shape}")
        first, stop = box.start[0], box.stop[0]
        try:
            data = self.fetch(box)
        except DAMAGE as error:
            where = f"section {first}" if stop - first == 1 else f"sections {first}..{stop - 1}"
            raise RawFormatError(
                f"{self.source}: {where}, region {box.start[1:]}..{box.stop[1:]} (y, x) cannot be "
                f"read ({_told(error)}); {COPY_AGAIN}"
            ) from error
        if data.shape != (self.shape[0], *box.shape):
            raise RawFormatError(
                f"{self.source}: {box} gave {data.shape}, expected {(self.shape[0], *box.shape)}; "
                "was the file changed while it was read?"
            )
        return np.ascontiguousarray(data, dtype=self.dtype)

    def __reduce__(self) -> tuple[Any, ...]:
        from unet_core.io.readers import open_raw

        return open_raw, (self.source,)


COPY_AGAIN = "the file is cut short or damaged: copy it again from where it came"


def damaged(source: object, error: BaseException) -> RawFormatError:
    """The refusal of a file whose header cannot be read."""
    return RawFormatError(f"{source} cannot be opened ({_told(error)}); {COPY_AGAIN}")


def _told(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
