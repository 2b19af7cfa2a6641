"""From the number types of files to those of the stores: what is kept, widened or refused."""

from typing import Any

import numpy as np
import numpy.typing as npt

from unet_core.config import TruthConfig
from unet_core.errors import RawFormatError
from unet_core.geometry import IGNORED_ID

Array = npt.NDArray[Any]
IdArray = npt.NDArray[np.uint32]

_STORED = {
    "bool": "uint8",
    "uint8": "uint8",
    "uint16": "uint16",
    "int8": "int16",
    "int16": "int16",
    "float16": "float32",
    "float32": "float32",
    "float64": "float32",
}

_MOST_CLASSES = 254
"""The greatest class: targets are uint8, where 255 counts for nothing."""


def stored_dtype(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """Number type in the raw store of intensities that are `dtype` in the file.

    Raises
    ------
    RawFormatError
        If it is a whole number of 32 or 64 bits, of which the range is not known.
    """
    name = np.dtype(dtype).name
    if name not in _STORED:
        raise RawFormatError(
            f"intensities are {name}; stored are 8 and 16 bits and floats. Save them as uint16 or "
            "float32 (or is this truth? Then it belongs into the column truth)"
        )
    return np.dtype(_STORED[name])


def as_intensities(values: Array) -> Array:
    """Intensities in the number type of the raw store (`stored_dtype`), any shape.

    Raises
    ------
    RawFormatError
        If a value is not finite, or not in float32.
    """
    if values.dtype.kind != "f":
        return values.astype(stored_dtype(values.dtype))
    with np.errstate(over="ignore"):
        stored = values.astype(np.float32)
    if not np.isfinite(stored).all():
        bad = stored[~np.isfinite(stored)]
        raise RawFormatError(
            f"{bad.size} intensities are not finite numbers (such as {bad[0]}); replace them, for "
            "example by the mean, before converting"
        )
    return stored


def as_ids(values: Array, truth: TruthConfig) -> IdArray:
    """Truth as ids: `truth.ignore_label` becomes IGNORED_ID.

    Parameters
    ----------
    values : any shape and number type
        As in the file.
    truth
        Says what they mean.

    Returns
    -------
    same shape, uint32
        instances: the ids. semantic: the classes. binary, foreground: 1 where non-zero, else 0.

    Raises
    ------
    RawFormatError
        If a value is negative, a fraction, or too large.
    """
    if truth.ignore_label is None:
        return _as_ids(values, truth)
    ignored = values == truth.ignore_label
    ids = _as_ids(np.where(ignored, values.dtype.type(0), values), truth)
    ids[ignored] = IGNORED_ID
    return ids


def present_ids(ids: IdArray) -> IdArray:
    """The ids that occur, ascending."""
    flat = ids.reshape(-1)
    # Ids come in runs: where one begins is far less to sort than all voxels.
    begins = np.append(True, flat[1:] != flat[:-1])
    return np.unique(flat[begins])


def _as_ids(values: Array, truth: TruthConfig) -> IdArray:
    if truth.kind in ("binary", "foreground"):
        return np.asarray(values != 0, np.uint32)
    _refuse_no_ids(values, truth)
    return np.asarray(values, np.uint32)


def _refuse_no_ids(values: Array, truth: TruthConfig) -> None:
    if values.dtype.kind == "f" and not (np.isfinite(values) & (values % 1 == 0)).all():
        odd = values[~(np.isfinite(values) & (values % 1 == 0))][0]
        raise RawFormatError(
            f"truth holds the value {odd}, {truth.kind} need whole numbers; is this the raw volume?"
        )
    low, high = int(values.min()), int(values.max())
    if low < 0:
        raise RawFormatError(
            f"truth holds the value {low}, ids must be >= 0; if it means 'not annotated', set "
            f"truth.ignore_label to {low}"
        )
    if truth.kind == "semantic" and high > _MOST_CLASSES:
        raise RawFormatError(
            f"truth holds the class {high}, classes go up to {_MOST_CLASSES}; set truth.kind to "
            "foreground if it is a mask of 0 and another value, or to instances if these are ids "
            "of objects; number classes from 0, and set truth.ignore_label if it is none"
        )
    if high >= IGNORED_ID:
        raise RawFormatError(
            f"truth holds the id {high}, ids go up to {IGNORED_ID - 1}; relabel the file, so that "
            "ids count from 1 (skimage.segmentation.relabel_sequential)"
        )
