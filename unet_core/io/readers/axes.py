"""Axes of foreign files: which of them is c, z, y, x, and how long a voxel is along each."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from unet_core.errors import RawFormatError
from unet_core.geometry import Box
from unet_core.io.readers.raw import Czyx, VoxelSize

Array = npt.NDArray[Any]

_NANOMETRES = {
    "nm": 1.0,
    "nanometer": 1.0,
    "nanometre": 1.0,
    "å": 0.1,
    "angstrom": 0.1,
    "pm": 1e-3,
    "picometer": 1e-3,
    "um": 1e3,
    "µm": 1e3,  # U+00B5, micro sign
    "μm": 1e3,  # U+03BC, Greek mu
    "micron": 1e3,
    "microns": 1e3,
    "micrometer": 1e3,
    "micrometre": 1e3,
    "mm": 1e6,
    "millimeter": 1e6,
    "cm": 1e7,
    "centimeter": 1e7,
    "m": 1e9,
    "meter": 1e9,
    "metre": 1e9,
    "inch": 2.54e7,
}


def nanometres(unit: str | None) -> float | None:
    """How many nanometres one `unit` has; None for pixels and units unknown."""
    return _NANOMETRES.get((unit or "").strip().lower())


def voxel_size(lengths: Mapping[str, float | None]) -> VoxelSize | None:
    """Edge lengths (z, y, x) from those known per axis, nanometres.

    None where y or x is unknown or nonsense (zero, negative, not a number). A section whose
    thickness is unknown counts as thick as a pixel is high.
    """
    y, x = lengths.get("y"), lengths.get("x")
    z = lengths.get("z") or y
    if any(n is None or not math.isfinite(n) or n <= 0 for n in (z, y, x)):
        return None
    return float(z or 0), float(y or 0), float(x or 0)


def guess_axes(shape: Sequence[int], source: object) -> str:
    """Axes of an array that names none: yx, zyx, czyx; a last axis of at most 4 is c.

    Raises
    ------
    RawFormatError
        If it could be one or the other.
    """
    few_last = shape[-1] <= 4 and min(shape[:-1], default=0) > 4
    if len(shape) == 2:
        return "yx"
    if len(shape) == 3:
        return "yxc" if few_last else "zyx"
    if len(shape) == 4 and few_last:
        return "zyxc"
    if len(shape) == 4 and shape[0] <= 16 and shape[-1] > 4:
        return "czyx"
    raise RawFormatError(
        f"{source} has {len(shape)} axes {tuple(shape)} without names: which is channel, which is "
        "z? Name them in the file (HDF5: dataset.dims[0].label = 'c', …; zarr: dimension_names), "
        "or store a 3-D array (z, y, x)"
    )


@dataclass(frozen=True)
class Layout:
    """How the axes of a stored array become (c, z, y, x)."""

    axes: str
    """One letter per stored axis: c, s (samples of a colour), z, y, x; others are 1 long."""

    sizes: tuple[int, ...]
    """Length per stored axis."""

    colours: int | None = None
    """Samples kept of axis s, where alpha follows the colours; None: all."""

    @classmethod
    def of(
        cls, axes: str, sizes: Sequence[int], source: object, *, colours: int | None = None
    ) -> "Layout":
        """The layout of an array whose axes are named; ``i`` and ``q`` (pages) count as z.

        Raises
        ------
        RawFormatError
            If y or x is absent, a time axis is longer than 1, or an axis is not understood.
        """
        letters = axes.lower()
        if "z" not in letters or sizes[letters.index("z")] == 1:
            paged = [n for n, a in enumerate(letters) if a in "iq" and sizes[n] > 1]
            if len(paged) == 1:
                letters = letters.replace("z", "_")
                letters = letters[: paged[0]] + "z" + letters[paged[0] + 1 :]
        for letter, size in zip(letters, sizes, strict=True):
            if letter == "t" and size > 1:
                raise RawFormatError(
                    f"{source} has {size} points in time (axes {axes}, {tuple(sizes)}); a volume "
                    "is one of them: save one point in time as a file of its own, or, if they are "
                    "sections in truth, name the axis z (Fiji: Image > Hyperstacks > Re-order "
                    "Hyperstack)"
                )
            if letter not in "cszyx" and size > 1:
                raise RawFormatError(
                    f"{source} has an axis {letter!r} of {size} (axes {axes}, {tuple(sizes)}); "
                    "only c, z, y and x may be longer than 1: save one part as a file of its own"
                )
        known = [a for a in letters if a in "cszyx"]
        if "y" not in known or "x" not in known or len(set(known)) < len(known):
            raise RawFormatError(
                f"{source} has axes {axes!r}; needed are y and x, and each of c, z at most once"
            )
        if 0 in sizes:
            raise RawFormatError(f"{source} holds no voxels: its shape is {tuple(sizes)}")
        return cls(letters, tuple(int(n) for n in sizes), colours)

    @property
    def shape(self) -> Czyx:
        """(c, z, y, x)."""
        size = dict(zip(self.axes, self.sizes, strict=True))
        samples = self.colours or size.get("s", 1)
        return size.get("c", 1) * samples, size.get("z", 1), size["y"], size["x"]

    def size(self, axis: str) -> int:
        """Length of `axis`; 1 where it is absent."""
        return dict(zip(self.axes, self.sizes, strict=True)).get(axis, 1)

    def index(self, box: Box) -> tuple[slice | int, ...]:
        """Index of `box` into the stored array; what it gives, `arrange` understands."""
        of = dict(zip("zyx", box.slices, strict=True))
        of |= {"c": slice(None), "s": slice(0, self.colours)}
        return tuple(of.get(axis, 0) for axis in self.axes)

    def arrange(self, part: Array) -> Array:
        """What `index` gave, as (c, z, y, x)."""
        kept = [axis for axis in self.axes if axis in "cszyx"]
        order = [kept.index(axis) for axis in "cszyx" if axis in kept]
        part = part.transpose(order)
        missing = [place for place, axis in enumerate("cszyx") if axis not in kept]
        part = np.expand_dims(part, missing)
        return part.reshape(-1, *part.shape[2:])
