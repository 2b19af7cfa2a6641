import colorsys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_core.ops.colours import Colours, draw_colours, recoloured

FULL = {"brightness": 0.125, "contrast": 0.5, "saturation": 0.5, "hue": 0.1}


def rgb(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((3, 2, 5, 4), np.float32)


def drawn(seed: int, **changed: float) -> Colours:
    return draw_colours(np.random.default_rng(seed), **{**FULL, **changed})


@given(seed=st.integers(0, 10**6))
def test_changes_stay_within_their_ranges(seed: int) -> None:
    by = drawn(seed)
    assert abs(by.shift) <= 0.125
    assert 0.5 <= by.gain <= 1.5
    assert 0.5 <= by.saturation <= 1.5
    assert abs(by.hue) <= np.float32(0.1)
    assert not by.gain_last or by.gain != 1


@given(seed=st.integers(0, 10**6))
def test_switching_one_change_off_leaves_the_others_as_drawn(seed: int) -> None:
    by = drawn(seed)
    assert drawn(seed, brightness=0) == replace(by, shift=0.0)
    assert drawn(seed, contrast=0) == replace(by, gain=1.0, gain_last=False)
    assert drawn(seed, saturation=0) == replace(by, saturation=1.0)
    assert drawn(seed, hue=0) == replace(by, hue=0.0)


def test_each_change_is_made_in_half_of_the_patches() -> None:
    rows = [drawn(seed) for seed in range(2000)]
    for name, none in (("shift", 0), ("gain", 1), ("saturation", 1), ("hue", 0)):
        assert np.mean([getattr(by, name) != none for by in rows]) == pytest.approx(0.5, abs=0.05)
    assert np.mean([by.gain_last for by in rows]) == pytest.approx(0.25, abs=0.05)


@given(seed=st.integers(0, 10**6))
def test_colours_stay_colours(seed: int) -> None:
    out = recoloured(rgb(seed), drawn(seed))
    assert out.shape == (3, 2, 5, 4)
    assert out.dtype == np.float32
    assert out.min() >= 0
    assert out.max() <= 1


def test_nothing_drawn_changes_nothing() -> None:
    np.testing.assert_array_equal(recoloured(rgb(), Colours()), rgb())


@pytest.mark.parametrize(("saturation", "hue"), [(0.5, 0.0), (1.5, 0.0), (1.0, 0.1), (0.7, -0.1)])
def test_saturation_and_hue_are_those_of_the_hsv_cone(saturation: float, hue: float) -> None:
    raw = rgb(3)
    out = recoloured(raw, Colours(saturation=saturation, hue=hue))
    for before, after in zip(raw.reshape(3, -1).T, out.reshape(3, -1).T, strict=True):
        h, s, v = colorsys.rgb_to_hsv(*before.tolist())
        expected = colorsys.hsv_to_rgb((h + hue) % 1, min(1.0, s * saturation), v)
        np.testing.assert_allclose(after, expected, atol=2e-5)


def test_contrast_comes_before_saturation_or_after_it() -> None:
    raw = np.array([0.4, 0.2, 0.6], np.float32)[:, None, None, None]
    by = Colours(shift=0.1, gain=1.5)
    np.testing.assert_allclose(recoloured(raw, by).ravel(), [0.75, 0.45, 1.0], atol=1e-6)
    # value 0.7, saturation (0.7 - 0.3) / 0.7, halved: the others rise to half-way.
    last = replace(by, gain_last=True, saturation=0.5)
    np.testing.assert_allclose(recoloured(raw, last).ravel(), [0.9, 0.75, 1.0], atol=1e-5)
    first = replace(last, gain_last=False)
    np.testing.assert_allclose(recoloured(raw, first).ravel(), [0.875, 0.725, 1.0], atol=1e-5)
