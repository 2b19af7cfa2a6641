from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_core.ops.intensity import Jitter, draw_jitter, jitter, normalise, normaliser


def statistics_of(raw: np.ndarray) -> list[dict[str, Any]]:
    rows = []
    for channel in raw:
        of = channel[np.isfinite(channel)].astype(float)
        percentiles = np.percentile(of, np.linspace(0, 100, 1001)).tolist()
        ends = {"min": float(of.min()), "max": float(of.max())}
        rows.append({"mean": of.mean(), "sd": of.std(), **ends, "percentiles": percentiles})
    return rows


@given(seed=st.integers(0, 10), dtype=st.sampled_from(["u1", "u2", "i2", "f4"]))
def test_mean_std_gives_every_channel_mean_0_and_deviation_1(seed: int, dtype: str) -> None:
    rng = np.random.default_rng(seed)
    raw = rng.normal(100, [[[[9]]], [[[30]]]], (2, 3, 8, 8)).clip(0, 255).astype(dtype)
    out = normalise(raw, normaliser(statistics_of(raw), "mean_std", raw.dtype))
    assert out.dtype == np.float32
    np.testing.assert_allclose(out.mean((1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(out.std((1, 2, 3)), 1, atol=1e-5)


@given(cut=st.integers(1, 7))
def test_a_part_is_normalised_as_in_the_whole(cut: int) -> None:
    raw = np.random.default_rng(1).integers(0, 999, (1, 2, 8, 8)).astype("u2")
    by = normaliser(statistics_of(raw), "percentile", raw.dtype)
    np.testing.assert_array_equal(normalise(raw, by)[..., :cut], normalise(raw[..., :cut], by))


def test_percentile_takes_0_5_and_99_5_to_0_and_1() -> None:
    raw = np.arange(1001, dtype="u2").reshape(1, 1, 1, 1001)
    out = normalise(raw, normaliser(statistics_of(raw), "percentile", raw.dtype)).ravel()
    assert out[5] == 0
    assert out[995] == pytest.approx(1)


def test_percentile_of_a_sparse_volume_takes_minimum_and_maximum() -> None:
    raw = np.zeros((1, 1, 100, 100), "u1")
    raw[0, 0, 0, 0] = 10
    out = normalise(raw, normaliser(statistics_of(raw), "percentile", raw.dtype))
    assert out.max() == pytest.approx(1)
    assert out.min() == 0


@pytest.mark.parametrize(("dtype", "largest"), [("u1", 255), ("u2", 65535), ("i2", 32767)])
def test_none_divides_by_the_range_of_the_type(dtype: str, largest: int) -> None:
    raw = np.array([0, largest], dtype).reshape(1, 1, 1, 2)
    out = normalise(raw, normaliser(statistics_of(raw), "none", raw.dtype))
    np.testing.assert_allclose(out.ravel(), [0, 1], atol=1e-7)


def test_none_leaves_floating_point_as_it_is() -> None:
    raw = np.array([-3.5, 1e4], "f4").reshape(1, 1, 1, 2)
    np.testing.assert_array_equal(
        normalise(raw, normaliser(statistics_of(raw), "none", raw.dtype)), raw
    )


@pytest.mark.parametrize("method", ["mean_std", "percentile"])
def test_a_constant_volume_becomes_zero(method: Any) -> None:
    raw = np.full((1, 2, 3, 3), 7, "u1")
    assert not normalise(raw, normaliser(statistics_of(raw), method, raw.dtype)).any()


@pytest.mark.parametrize("method", ["mean_std", "percentile", "none"])
def test_what_is_not_finite_becomes_the_mean(method: Any) -> None:
    raw = np.array([1, 2, 6, np.nan, np.inf, -np.inf], "f4").reshape(1, 1, 1, 6)
    by = normaliser(statistics_of(raw), method, raw.dtype)
    mean = normalise(np.full((1, 1, 1, 1), 3, "f4"), by)
    np.testing.assert_array_equal(normalise(raw, by).ravel()[3:], np.full(3, mean.item()))


def test_a_volume_without_a_finite_voxel_becomes_zero() -> None:
    nothing = {"mean": None, "sd": None, "min": None, "max": None, "percentiles": [None] * 1001}
    raw = np.full((1, 1, 2, 2), np.nan, "f4")
    for method in ("mean_std", "percentile", "none"):
        assert not normalise(raw, normaliser([nothing], method, raw.dtype)).any()


def test_another_number_of_channels_is_refused() -> None:
    raw = np.zeros((1, 1, 2, 2), "u1")
    by = normaliser(statistics_of(raw), "none", raw.dtype)
    with pytest.raises(ValueError, match="1 channels, raw of 2"):
        normalise(np.zeros((2, 1, 2, 2), "u1"), by)


@given(seed=st.integers(0, 99))
def test_gain_and_shift_stay_within_their_ranges(seed: int) -> None:
    by = draw_jitter(np.random.default_rng(seed), contrast=0.2, brightness=0.1, noise_sd=0)
    assert 0.8 <= by.gain <= 1.2
    assert -0.1 <= by.shift <= 0.1


def test_switching_one_jitter_off_leaves_the_other_as_drawn() -> None:
    on = draw_jitter(np.random.default_rng(3), contrast=0.2, brightness=0.1, noise_sd=1)
    off = draw_jitter(np.random.default_rng(3), contrast=0, brightness=0.1, noise_sd=0)
    assert off == Jitter(gain=1.0, shift=on.shift, noise_sd=0, noise_seed=on.noise_seed)


def test_jitter_multiplies_then_shifts_then_adds_noise() -> None:
    raw = np.arange(4, dtype="f4")
    np.testing.assert_array_equal(jitter(raw, Jitter(gain=2, shift=1)), [1, 3, 5, 7])
    flat = np.zeros((200, 200), "f4")
    noisy = jitter(flat, Jitter(noise_sd=0.5, noise_seed=4))
    assert noisy.std() == pytest.approx(0.5, rel=0.02)
    np.testing.assert_array_equal(noisy, jitter(flat, Jitter(noise_sd=0.5, noise_seed=4)))
