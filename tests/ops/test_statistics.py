import functools
import operator
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from unet_core.ops.statistics import (
    BINS,
    PERCENTS,
    Moments,
    count_bins,
    count_values,
    measure,
    summarise_bins,
    summarise_counts,
)

whole = st.sampled_from([np.uint8, np.uint16, np.int16]).flatmap(
    lambda dtype: hnp.arrays(dtype, st.integers(1, 60))
)
floats = hnp.arrays(
    np.float32,
    st.integers(1, 60),
    elements=st.floats(allow_nan=False, allow_infinity=False, width=32),
)


@settings(deadline=None, max_examples=40)
@given(values=whole)
def test_whole_numbers_are_summarised_as_numpy_would(values):
    found = summarise_counts(count_values(values), values.dtype)
    exact = values.astype(np.float64)
    assert (found.count, found.min, found.max) == (values.size, exact.min(), exact.max())
    assert found.mean == pytest.approx(exact.mean(), rel=1e-12, abs=1e-9)
    assert found.sd == pytest.approx(exact.std(), rel=1e-9, abs=1e-7)
    np.testing.assert_allclose(found.percentiles, np.percentile(exact, PERCENTS), rtol=1e-9)


@settings(deadline=None, max_examples=50)
@given(values=floats, cut=st.integers(0, 60))
def test_sums_of_floats_are_exact_and_do_not_depend_on_the_cut(values, cut):
    parts = [part for part in (values[cut:], values[:cut]) if part.size]
    found = functools.reduce(operator.add, map(measure, parts), Moments())
    assert found == measure(values)
    assert Fraction(found.total, 2**149) == sum(Fraction(float(v)) for v in values)
    assert Fraction(found.squares, 4**149) == sum(Fraction(float(v)) ** 2 for v in values)


@settings(deadline=None, max_examples=30)
@given(values=floats)
def test_percentiles_of_floats_ascend_from_least_to_greatest(values):
    with np.errstate(over="ignore"):
        moments = measure(values)
        found = summarise_bins(moments, count_bins(values, moments.low, moments.high))
    assert found.percentiles[0] == values.min()
    assert found.percentiles[-1] == values.max()
    assert (np.diff(found.percentiles) >= 0).all()


def test_percentiles_of_many_floats_are_right_to_a_bin():
    values = np.random.default_rng(0).normal(size=200_000).astype(np.float32)
    moments = measure(values)
    found = summarise_bins(moments, count_bins(values, moments.low, moments.high))
    wanted = np.percentile(values.astype(np.float64), PERCENTS)
    middle = slice(10, -10)  # further out neighbours lie more than a bin apart
    width = (moments.high - moments.low) / BINS
    assert np.abs(np.array(found.percentiles) - wanted)[middle].max() < 20 * width
    assert found.mean == pytest.approx(values.astype(np.float64).mean(), abs=1e-12)
    assert found.sd == pytest.approx(values.astype(np.float64).std(), rel=1e-12)


@pytest.mark.parametrize("value", [0, 7])
def test_a_constant_volume_has_deviation_zero(value):
    whole_numbers = summarise_counts(count_values(np.full(10, value, np.uint8)), np.uint8)
    values = np.full(10, value, np.float32)
    fractions = summarise_bins(measure(values), count_bins(values, value, value))
    for found in (whole_numbers, fractions):
        assert (found.mean, found.sd, set(found.percentiles)) == (value, 0, {value})


def test_the_median_of_one_and_four_is_their_middle():
    found = summarise_counts(count_values(np.array([1, 4], np.uint8)), np.uint8)
    assert found.percentiles[500] == 2.5
    assert (found.mean, found.sd) == (2.5, 1.5)
