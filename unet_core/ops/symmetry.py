"""The eight symmetries of the section: flips and quarter turns of (..., y, x) arrays.

Code = 4 t + 2 v + h, each bit 0 or 1: first y and x change places (t), then the section is flipped
along y (v), then along x (h). Code 0 leaves everything as it is.
"""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

CODES = tuple(range(8))
"""All codes; the first four keep the shape of a section that is not square."""

Scalar = TypeVar("Scalar", bound=np.generic)


def apply(array: NDArray[Scalar], code: int) -> NDArray[Scalar]:
    """The array with its last two axes flipped and turned as `code` says.

    Parameters
    ----------
    array : (..., y, x)
        Sections need not be square; codes 4 to 7 give (..., x, y).
    code
        0 to 7.

    Returns
    -------
    A view of `array`: copy it where contiguous memory is needed.
    """
    _check(code)
    turned = array.swapaxes(-1, -2) if code & 4 else array
    flipped: NDArray[Scalar] = turned[_flips(code)]
    return flipped


def inverse(code: int) -> int:
    """The code that undoes `code`: ``apply(apply(a, code), inverse(code))`` is ``a``."""
    _check(code)
    # Undoing a transposition after a flip along y means flipping along x: the bits change places.
    return 4 | (code & 1) << 1 | (code & 2) >> 1 if code & 4 else code


def shape_before(shape_yx: tuple[int, int], code: int) -> tuple[int, int]:
    """(y, x) of the section that `code` turns into one of `shape_yx`."""
    _check(code)
    y, x = shape_yx
    return (x, y) if code & 4 else (y, x)


def _flips(code: int) -> Any:
    y = slice(None, None, -1) if code & 2 else slice(None)
    x = slice(None, None, -1) if code & 1 else slice(None)
    return (..., y, x)


def _check(code: int) -> None:
    if not 0 <= code < len(CODES):
        raise ValueError(f"a symmetry is a code from 0 to 7, got {code}")
