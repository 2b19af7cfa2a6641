"""The sparse table of label pairs that Rand, information and overlap scores are functions of.

Tables of disjoint parts add up to the table of the whole, exactly, however the whole was cut.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from unet_core.errors import StoreError
from unet_core.geometry import IGNORED_ID

Ids = npt.NDArray[np.uint64]
Counts = npt.NDArray[np.int64]
Integers = npt.NDArray[np.integer[Any]] | npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Table:
    """Voxels per pair (truth id, found id), sorted by pair; every count is > 0."""

    truth: Ids
    """(k,) truth id of each pair; 0 is background."""

    found: Ids
    """(k,) found id of each pair; 0 is no object."""

    count: Counts
    """(k,) voxels with both ids."""

    @property
    def voxels(self) -> int:
        """All voxels that were not ignored."""
        return int(self.count.sum())

    def truth_sizes(self) -> tuple[Ids, Counts]:
        """Truth ids (ascending, 0 included if present) and their voxels."""
        return _sizes(self.truth, self.count)

    def found_sizes(self) -> tuple[Ids, Counts]:
        """Found ids (ascending, 0 included if present) and their voxels, over background too."""
        return _sizes(self.found, self.count)

    def where(self, keep: npt.NDArray[np.bool_]) -> "Table":
        """The pairs of a (k,) mask."""
        return Table(self.truth[keep], self.found[keep], self.count[keep])


def contingency(truth: Integers, found: Integers) -> Table:
    """Count the voxels of every pair of ids at the same place.

    Parameters
    ----------
    truth, found : integers or bool, same shape, ids >= 0 of up to 64 bits
        Voxels with truth id `geometry.IGNORED_ID` are left out.

    Raises
    ------
    StoreError
        Shapes differ, or there are negative ids.
    """
    if truth.shape != found.shape:
        raise StoreError(
            f"truth has shape {truth.shape} and labels have {found.shape}; scores need the same "
            "voxels: make both from the same volume"
        )
    pairs = _count(_flat(truth), _flat(found), np.uint64(IGNORED_ID))
    return _reduced(pairs[:, 0], pairs[:, 1], pairs[:, 2].astype(np.int64))


def added(tables: Iterable[Table]) -> Table:
    """The table of parts that have ids in common: counts of equal pairs are added."""
    parts = [*tables]
    if not parts:
        return Table(np.empty(0, np.uint64), np.empty(0, np.uint64), np.empty(0, np.int64))
    return _reduced(
        np.concatenate([part.truth for part in parts]),
        np.concatenate([part.found for part in parts]),
        np.concatenate([part.count for part in parts]),
    )


def sum_of_squares(count: Counts) -> int:
    """Sum of count**2 as an exact integer of any size."""
    if count.size == 0:
        return 0
    # count**2 summed is at most max * sum: beyond 2**63 int64 would wrap silently.
    if int(count.max()) * int(count.sum()) < 2**63:
        return int(np.dot(count, count))
    return sum(c * c for c in count.tolist())


def _reduced(truth: Ids, found: Ids, count: Counts) -> Table:
    """Equal pairs joined, sorted by (truth, found)."""
    order = np.lexsort((found, truth))
    truth, found = truth[order], found[order]
    new = np.ones(len(order), np.bool_)
    new[1:] = (truth[1:] != truth[:-1]) | (found[1:] != found[:-1])
    start = np.flatnonzero(new)
    total = np.add.reduceat(count[order], start) if len(start) else count
    return Table(truth[start], found[start], total)


@njit(cache=True)
def _count(truth: Any, found: Any, ignored: Any) -> Any:
    """Voxels of every pair but the ignored, in no order: runs of equal pairs into a hash table."""
    # Ids and count of a pair side by side: one miss of the cache per run instead of three.
    entries = np.zeros((1024, 3), np.uint64)
    used, i = 0, 0
    while i < truth.size:
        t, f, first = truth[i], found[i], i
        i += 1
        while i < truth.size and truth[i] == t and found[i] == f:
            i += 1
        if np.uint64(t) == ignored:
            continue
        if 2 * used > len(entries):
            entries = _larger(entries)
        slot = _slot(entries, np.uint64(t), np.uint64(f))
        if entries[slot, 2] == 0:
            entries[slot, 0], entries[slot, 1] = t, f
            used += 1
        entries[slot, 2] += np.uint64(i - first)
    return entries[entries[:, 2] > 0]


@njit(cache=True)
def _larger(entries: Any) -> Any:
    larger = np.zeros((2 * len(entries), 3), np.uint64)
    for k in range(len(entries)):
        if entries[k, 2]:
            larger[_slot(larger, entries[k, 0], entries[k, 1])] = entries[k]
    return larger


@njit(cache=True)
def _slot(entries: Any, truth: Any, found: Any) -> Any:
    """Where a pair is, or the empty place where it belongs."""
    mask, one = np.uint64(len(entries) - 1), np.uint64(1)
    mixed = truth * np.uint64(0x9E3779B97F4A7C15) ^ found * np.uint64(0xC2B2AE3D27D4EB4F)
    slot = (mixed ^ (mixed >> np.uint64(32))) & mask
    while entries[slot, 2] and (entries[slot, 0] != truth or entries[slot, 1] != found):
        slot = (slot + one) & mask
    return slot


def _sizes(ids: Ids, count: Counts) -> tuple[Ids, Counts]:
    unique, inverse = np.unique(ids, return_inverse=True)
    sizes = np.zeros(len(unique), np.int64)
    np.add.at(sizes, inverse, count)
    return unique, sizes


def _flat(ids: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The same ids in C order as uint32, or uint64 where they are of 64 bits."""
    if ids.dtype.kind not in "bui":
        raise StoreError(f"ids must be integers, got {ids.dtype}; scores compare labels")
    if ids.dtype.kind == "i" and ids.size and int(ids.min()) < 0:
        raise StoreError(f"ids must be >= 0, got {int(ids.min())}; 0 is background")
    wide = np.uint64 if ids.dtype.itemsize == 8 else np.uint32
    return np.ascontiguousarray(ids).ravel().astype(wide, copy=False)
