"""Heights are exact, so that every block agrees on them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from unet_core.ops.heights import TOP, depth_steps, heights_of, smooth, smoothing_reach


def test_every_stored_probability_has_its_own_height() -> None:
    stored = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(heights_of(stored), TOP - 257 * np.arange(256))
    as_float = heights_of(stored.astype(np.float64) / 255)
    np.testing.assert_array_equal(as_float, heights_of(stored))


def test_half_precision_stays_in_range() -> None:
    assert heights_of(np.array([0, 0.5, 1], np.float16)).tolist() == [TOP, 32768, 0]


@settings(deadline=None, max_examples=30)
@given(
    sigma=st.tuples(*[st.sampled_from([0.0, 0.4, 1.0, 1.7])] * 3),
    seed=st.integers(0, 99),
    cut=st.tuples(*[st.integers(1, 6)] * 3),
)
def test_a_part_is_smoothed_to_the_bits_of_the_whole(
    sigma: tuple[float, float, float], seed: int, cut: tuple[int, int, int]
) -> None:
    reach = smoothing_reach(sigma)
    shape = [7 + 2 * r for r in reach]
    heights = np.random.default_rng(seed).integers(0, TOP + 1, shape).astype(np.uint16)
    whole = smooth(heights, sigma)
    assert whole.shape == (7, 7, 7)
    part = tuple(slice(c, None) for c in cut)
    np.testing.assert_array_equal(smooth(heights[part], sigma), whole[part])


def test_smoothing_is_the_gaussian_to_a_thousandth() -> None:
    heights = np.random.default_rng(0).integers(0, TOP + 1, (1, 60, 60)).astype(np.uint16)
    expected = gaussian_filter(heights.astype(float), (0, 2, 2), truncate=3.0)
    found = smooth(heights, (0, 2, 2))
    np.testing.assert_allclose(found, expected[:, 6:-6, 6:-6], atol=TOP / 1000)


@pytest.mark.parametrize("level", [0, 1, 40000, TOP])
def test_smoothing_keeps_a_flat_landscape(level: int) -> None:
    flat = np.full((9, 15, 15), level, np.uint16)
    assert np.unique(smooth(flat, (1, 2, 2))).tolist() == [level]


def test_depth_zero_still_joins_flat_minima() -> None:
    assert [depth_steps(d) for d in (0, 1 / 255, 1)] == [1, 257, TOP]
