"""Intensity statistics of a volume from those of its blocks: exact, however it is cut.

Whole numbers of 8 and 16 bits are counted value by value; all else follows from the counts. Sums
of float32 values are whole numbers too, in units of the smallest float32, so they are added
without rounding and do not depend on the order.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

Array = npt.NDArray[Any]
IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]

BINS = 65536
"""Bins of the histogram of float32 values, from the least to the greatest."""

PERCENTS = tuple(tenth / 10 for tenth in range(1001))
"""0.0, 0.1, … 100.0."""

_UNIT = 149
"""Every float32 is a whole number of 2^-149."""


@dataclass(frozen=True)
class Moments:
    """Count, extremes and exact sums of float32 values."""

    count: int = 0
    low: float = math.inf
    high: float = -math.inf
    total: int = 0
    """Sum, in units of 2^-149."""
    squares: int = 0
    """Sum of squares, in units of 2^-298."""

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(
            self.count + other.count,
            min(self.low, other.low),
            max(self.high, other.high),
            self.total + other.total,
            self.squares + other.squares,
        )


@dataclass(frozen=True)
class Summary:
    """What is stored per channel of a volume."""

    count: int
    min: float
    max: float
    mean: float
    sd: float
    """Of the whole population: divided by count."""
    percentiles: tuple[float, ...]
    """At `PERCENTS`, linear between neighbours."""


def count_values(values: Array) -> IntArray:
    """How often each value of the dtype occurs, from its least value on.

    Parameters
    ----------
    values : any shape, uint8, uint16, int8 or int16

    Returns
    -------
    (256,) or (65536,) int64
    """
    kind = np.iinfo(values.dtype)
    counts = np.zeros(int(kind.max) - int(kind.min) + 1, np.int64)
    for part in _pieces(values):
        shifted = part.astype(np.intp) - int(kind.min)
        counts += np.bincount(shifted, minlength=len(counts))
    return counts


def measure(values: FloatArray) -> Moments:
    """Count, extremes and exact sums of finite float32 values of any shape."""
    found = Moments()
    for part in _pieces(values):
        total, squares = _exact_sums(part)
        found += Moments(part.size, float(part.min()), float(part.max()), total, squares)
    return found


def count_bins(values: FloatArray, low: float, high: float) -> IntArray:
    """Histogram of float32 values over `BINS` equal bins from `low` to `high`, both included."""
    counts = np.zeros(BINS, np.int64)
    scale = BINS / (high - low) if high > low else 0.0
    for part in _pieces(values):
        place = ((part.astype(np.float64) - low) * scale).astype(np.intp)
        counts += np.bincount(np.clip(place, 0, BINS - 1), minlength=BINS)
    return counts


def summarise_counts(counts: IntArray, dtype: npt.DTypeLike) -> Summary:
    """Summary of whole numbers from how often each occurs (`count_values`)."""
    least = int(np.iinfo(dtype).min)
    places = np.flatnonzero(counts)
    values = [int(place) + least for place in places]
    often = [int(n) for n in counts[places]]
    count = sum(often)
    total = sum(v * n for v, n in zip(values, often, strict=True))
    squares = sum(v * v * n for v, n in zip(values, often, strict=True))
    # The value of the k-th smallest voxel, k from 0, is that of the first place whose running
    # count is beyond k.
    running = np.cumsum(counts[places])
    ranks = [tenth * (count - 1) for tenth in range(1001)]  # in thousandths
    below = np.searchsorted(running, [rank // 1000 for rank in ranks], side="right")
    above = np.searchsorted(running, [-(-rank // 1000) for rank in ranks], side="right")
    percentiles = [
        values[a] + (values[b] - values[a]) * (rank % 1000) / 1000
        for a, b, rank in zip(below, above, ranks, strict=True)
    ]
    mean, sd = _mean_sd(count, Fraction(total), Fraction(squares))
    return Summary(count, float(values[0]), float(values[-1]), mean, sd, tuple(percentiles))


def summarise_bins(moments: Moments, counts: IntArray) -> Summary:
    """Summary of float32 values; percentiles to a 65536th of their range (`count_bins`)."""
    low, high = moments.low, moments.high
    running = np.concatenate([[0], np.cumsum(counts)]).astype(np.float64)
    edges = low + (high - low) * np.arange(BINS + 1) / BINS
    filled = np.flatnonzero(counts)
    # Within a bin the values count as evenly spread; empty bins are jumped over.
    ranks = np.array(PERCENTS) / 100 * moments.count
    bins = filled[np.searchsorted(running[filled + 1], ranks, side="left").clip(0, len(filled) - 1)]
    share = ((ranks - running[bins]) / counts[bins]).clip(0, 1)
    found = edges[bins] + share * (edges[bins + 1] - edges[bins])
    found[0], found[-1] = low, high
    total = Fraction(moments.total, 2**_UNIT)
    mean, sd = _mean_sd(moments.count, total, Fraction(moments.squares, 4**_UNIT))
    return Summary(moments.count, low, high, mean, sd, tuple(found.clip(low, high).tolist()))


def _mean_sd(count: int, total: Fraction, squares: Fraction) -> tuple[float, float]:
    mean = total / count
    return float(mean), math.sqrt(squares / count - mean * mean)


def _exact_sums(values: FloatArray) -> tuple[int, int]:
    """Sum in units of 2^-149 and sum of squares in units of 2^-298.

    A float32 is a mantissa of 24 bits times a power of two: mantissas of one exponent are added
    as integers, the halves of their squares apart, so that 64 bits hold them all.
    """
    total = squares = 0
    for place, (first, high, low) in enumerate(_sums_by_exponent(values.view(np.uint32)).tolist()):
        shift = max(place, 1) - 1  # exponent 0: subnormal, scaled as exponent 1
        total += first << shift
        squares += ((high << 24) + low) << (2 * shift)
    return total, squares


@njit(cache=True)
def _sums_by_exponent(bits: npt.NDArray[np.uint32]) -> IntArray:
    """Per exponent: sum of signed mantissas, of the high and of the low halves of their squares."""
    sums = np.zeros((256, 3), np.int64)
    for n in range(len(bits)):
        word = np.int64(bits[n])
        exponent = (word >> 23) & 255
        mantissa = (word & 0x7FFFFF) | (np.int64(exponent > 0) << 23)
        square = mantissa * mantissa
        sums[exponent, 0] += -mantissa if word >> 31 else mantissa
        sums[exponent, 1] += square >> 24
        sums[exponent, 2] += square & 0xFFFFFF
    return sums


def _pieces(values: Array) -> list[Array]:
    """The values in flat pieces of at most 2^20, so that what is derived of them stays small."""
    flat = values.reshape(-1)
    return [flat[start : start + 2**20] for start in range(0, flat.size, 2**20)]
