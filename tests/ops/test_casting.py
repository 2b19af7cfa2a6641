from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from unet_core.config import TruthConfig
from unet_core.errors import RawFormatError
from unet_core.geometry import IGNORED_ID
from unet_core.ops.casting import as_ids, as_intensities, present_ids, stored_dtype

FINITE = {"allow_nan": False, "allow_infinity": False}
whole = st.sampled_from(["bool", "uint8", "uint16", "int8", "int16"])
arrays = whole.flatmap(lambda dtype: hnp.arrays(dtype, 20)) | st.sampled_from(
    ["float16", "float32"]
).flatmap(lambda dtype: hnp.arrays(dtype, 20, elements=FINITE))


@given(values=arrays)
def test_intensities_keep_their_values(values: np.ndarray) -> None:
    stored = as_intensities(values)
    assert stored.dtype == stored_dtype(values.dtype)
    np.testing.assert_array_equal(stored.astype(np.float64), values.astype(np.float64))


@given(ids=hnp.arrays(np.uint32, hnp.array_shapes(min_dims=3, max_dims=3)))
def test_ids_that_occur_are_listed_once_and_ascend(ids: np.ndarray) -> None:
    assert present_ids(ids).tolist() == sorted(set(ids.ravel().tolist()))


def test_double_precision_becomes_single() -> None:
    assert as_intensities(np.array([0.1])) == np.float32(0.1)


@pytest.mark.parametrize("dtype", ["uint32", "int32", "int64", "uint64", "complex64"])
def test_whole_numbers_without_a_known_range_are_refused(dtype: str) -> None:
    with pytest.raises(RawFormatError, match=f"{dtype}.*uint16 or float32"):
        stored_dtype(dtype)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_intensities_that_are_no_numbers_are_refused(value: float) -> None:
    with pytest.raises(RawFormatError, match="1 intensities are not finite"):
        as_intensities(np.array([0, value]))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int64", "float32"])
def test_ids_keep_their_values_and_the_ignored_get_the_last_id(dtype: str) -> None:
    values = np.array([0, 1, 7, 99], dtype)
    found = as_ids(values, TruthConfig(ignore_label=99))
    assert found.dtype == np.uint32
    assert found.tolist() == [0, 1, 7, IGNORED_ID]


def test_a_negative_value_may_mean_ignored() -> None:
    found = as_ids(np.array([-1, 4]), TruthConfig(kind="semantic", ignore_label=-1))
    assert found.tolist() == [IGNORED_ID, 4]


def test_binary_is_what_is_not_zero() -> None:
    found = as_ids(np.array([0, -3, 255, 7]), TruthConfig(kind="binary", ignore_label=7))
    assert found.tolist() == [0, 1, 1, IGNORED_ID]


@pytest.mark.parametrize("kind", ["binary", "foreground"])
def test_masks_are_read_whatever_stands_for_inside(kind: Any) -> None:
    for mask in (np.array([False, True]), np.array([0, 255], np.uint8), np.array([0.0, 1.0])):
        assert as_ids(mask, TruthConfig(kind=kind)).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("value", "kind", "why"),
    [
        (-1, "instances", "set truth.ignore_label to -1"),
        (2**32 - 1, "instances", "relabel"),
        (2**40, "instances", "relabel"),
        (255, "semantic", "the class 255.* set truth.kind to foreground"),
        (0.5, "instances", "whole numbers"),
        (np.nan, "semantic", "whole numbers"),
    ],
)
def test_values_that_are_no_ids_are_refused_with_advice(value: float, kind: str, why: str) -> None:
    with pytest.raises(RawFormatError, match=why):
        as_ids(np.array([0, value]), TruthConfig(kind=kind))  # type: ignore[arg-type]
