import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from unet_core.errors import StoreError
from unet_core.geometry import IGNORED_ID
from unet_core.metrics.contingency import Table, added, contingency, sum_of_squares

few = settings(deadline=None, max_examples=40)
SHAPE = (4, 5, 6)
small = hnp.arrays(np.uint32, SHAPE, elements=st.integers(0, 4))
wide = hnp.arrays(np.uint64, SHAPE, elements=st.sampled_from([0, 1, 7, 2**32 + 1, 2**64 - 1]))


def counted(table: Table) -> dict[tuple[int, int], int]:
    return {
        (int(i), int(j)): int(n)
        for i, j, n in zip(table.truth, table.found, table.count, strict=True)
    }


@few
@given(truth=small, found=wide)
def test_the_table_counts_every_pair(truth: np.ndarray, found: np.ndarray) -> None:
    expected: dict[tuple[int, int], int] = {}
    for pair in zip(truth.ravel().tolist(), found.ravel().tolist(), strict=True):
        expected[pair] = expected.get(pair, 0) + 1
    table = contingency(truth, found)
    assert counted(table) == expected
    assert list(counted(table)) == sorted(expected)


@few
@given(truth=small, found=wide, cut=st.integers(0, 6), axis=st.integers(0, 2))
def test_tables_of_parts_add_up_to_the_table_of_the_whole(
    truth: np.ndarray, found: np.ndarray, cut: int, axis: int
) -> None:
    parts = [
        contingency(t, f)
        for t, f in zip(np.split(truth, [cut], axis), np.split(found, [cut], axis), strict=True)
    ]
    assert counted(added(parts)) == counted(contingency(truth, found))


def test_ignored_voxels_are_in_no_count() -> None:
    truth = np.array([1, IGNORED_ID, IGNORED_ID, 2], np.uint32)
    found = np.array([5, 5, 6, 6], np.uint64)
    assert counted(contingency(truth, found)) == {(1, 5): 1, (2, 6): 1}


def test_sizes_are_those_of_whole_objects_background_included() -> None:
    table = contingency(np.array([0, 0, 1, 1]), np.array([3, 3, 3, 0]))
    ids, sizes = table.found_sizes()
    assert dict(zip(ids.tolist(), sizes.tolist(), strict=True)) == {0: 1, 3: 3}


def test_an_empty_array_and_no_table_give_an_empty_table() -> None:
    none = np.empty((0, 3), np.uint32)
    assert counted(contingency(none, none)) == counted(added([])) == {}
    assert contingency(none, none).voxels == 0


def test_sums_of_squares_do_not_wrap() -> None:
    assert sum_of_squares(np.array([5_000_000_000, 3], np.int64)) == 25 * 10**18 + 9
    assert sum_of_squares(np.array([4, 3], np.int64)) == 25


def test_truth_and_labels_of_different_shape_are_refused() -> None:
    with pytest.raises(StoreError, match=r"\(2, 2\).*\(2, 3\)"):
        contingency(np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8))


def test_values_that_are_not_ids_are_refused() -> None:
    with pytest.raises(StoreError, match="-1"):
        contingency(np.array([-1]), np.array([1]))
    with pytest.raises(StoreError, match="float"):
        contingency(np.array([0.5]), np.array([1]))  # type: ignore[arg-type]
