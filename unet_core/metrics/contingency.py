"""The sparse table of label pairs that Rand, information and overlap scores are functions of.

Tables of disjoint parts add up to the table of the whole, exactly, however the whole was cut.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix

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
    runs_truth, runs_found, length = _runs(_unsigned(truth), _unsigned(found))
    if (ignored := runs_truth == IGNORED_ID).any():
        keep = ~ignored
        runs_truth, runs_found, length = runs_truth[keep], runs_found[keep], length[keep]
    return _reduced(runs_truth, runs_found, length)


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


def _runs(
    truth: npt.NDArray[Any], found: npt.NDArray[Any]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], Counts]:
    """Both arrays in C order as runs of equal pairs: ids and lengths."""
    flat_truth, flat_found = truth.ravel(), found.ravel()
    if flat_truth.size == 0:
        return flat_truth, flat_found, np.empty(0, np.int64)
    change = flat_truth[1:] != flat_truth[:-1]
    change |= flat_found[1:] != flat_found[:-1]
    start = np.concatenate([np.zeros(1, np.int64), np.flatnonzero(change) + 1])
    return flat_truth[start], flat_found[start], np.diff(start, append=flat_truth.size)


def _reduced(truth: npt.NDArray[Any], found: npt.NDArray[Any], count: Counts) -> Table:
    """Equal pairs joined, sorted by (truth, found)."""
    ids_truth, row = _numbered(truth)
    ids_found, column = _numbered(found)
    shape = (max(len(ids_truth), 1), max(len(ids_found), 1))
    rows = coo_matrix((count, (row, column)), shape=shape).tocsr()
    rows.sum_duplicates()  # sorts the columns of every row, too
    number = np.repeat(np.arange(shape[0]), np.diff(rows.indptr))
    return Table(
        ids_truth[number] if count.size else np.empty(0, np.uint64),
        ids_found[rows.indices] if count.size else np.empty(0, np.uint64),
        rows.data.astype(np.int64, copy=False),
    )


def _numbered(ids: npt.NDArray[Any]) -> tuple[Ids, npt.NDArray[Any]]:
    """Ascending ids and the place of each voxel's id among them, by counting if ids are dense."""
    if ids.size == 0:
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    low, high = int(ids.min()), int(ids.max())
    if high - low < 2 * ids.size + 1024:
        place = ids - ids.dtype.type(low)
        known = np.arange(high - low + 1, dtype=np.uint64) + np.uint64(low)
        return known, place.astype(np.int64, copy=False)
    unique, inverse = np.unique(ids, return_inverse=True)
    return unique.astype(np.uint64, copy=False), inverse


def _sizes(ids: Ids, count: Counts) -> tuple[Ids, Counts]:
    unique, inverse = np.unique(ids, return_inverse=True)
    sizes = np.zeros(len(unique), np.int64)
    np.add.at(sizes, inverse, count)
    return unique, sizes


def _unsigned(ids: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The same ids as unsigned integers."""
    if ids.dtype == np.bool_:
        return ids.view(np.uint8)
    if ids.dtype.kind == "u":
        return ids
    if ids.dtype.kind != "i":
        raise StoreError(f"ids must be integers, got {ids.dtype}; scores compare labels")
    if ids.size and int(ids.min()) < 0:
        raise StoreError(f"ids must be >= 0, got {int(ids.min())}; 0 is background")
    return ids.view(ids.dtype.str.replace("i", "u"))
