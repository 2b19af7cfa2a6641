import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from unet_core.ops.downsample import level_factors, level_shape, mean_level, mode_level

steps = st.tuples(*[st.sampled_from([1, 2])] * 3)
shapes = st.tuples(st.integers(1, 5), st.integers(1, 7), st.integers(1, 7))


@st.composite
def volumes(draw, dtype, top):
    shape = draw(shapes)
    return draw(hnp.arrays(dtype, shape, elements=st.integers(0, top)))


def cells(volume, step):
    """Every cell of `step` voxels with its place, cut off at the edges."""
    for place in np.ndindex(*level_shape(volume.shape, step)):
        at = tuple(slice(p * s, p * s + s) for p, s in zip(place, step, strict=True))
        yield place, volume[at].ravel()


@settings(deadline=None, max_examples=40)
@given(volume=volumes(np.uint8, 255), step=steps)
def test_a_mean_is_rounded_half_up_over_the_voxels_there_are(volume, step):
    level = mean_level(volume, step)
    for place, values in cells(volume, step):
        assert level[place] == int(np.floor(values.astype(float).mean() + 0.5))


@settings(deadline=None, max_examples=40)
@given(volume=volumes(np.uint32, 3), step=steps)
def test_a_mode_is_the_most_frequent_and_of_equals_the_smallest(volume, step):
    level = mode_level(volume, step)
    for place, values in cells(volume, step):
        found, often = np.unique(values, return_counts=True)
        assert level[place] == found[np.argmax(often)]


@settings(deadline=None, max_examples=30)
@given(volume=volumes(np.uint16, 9), step=steps, cut=st.integers(1, 3), axis=st.integers(0, 2))
@pytest.mark.parametrize("reduce", [mean_level, mode_level])
def test_a_level_does_not_depend_on_where_it_is_cut(reduce, volume, step, cut, axis):
    at = min(cut * step[axis], volume.shape[axis])
    one, other = np.split(volume, [at], axis=axis)
    parts = [reduce(part, step) for part in (one, other) if part.size]
    np.testing.assert_array_equal(np.concatenate(parts, axis=axis), reduce(volume, step))


def test_channels_are_averaged_apart_and_signs_are_kept():
    raw = np.array([[[[-3, -4]]], [[[7, 8]]]], np.int16)
    assert mean_level(raw, (1, 1, 2)).ravel().tolist() == [-3, 8]  # -3.5 and 7.5, halves up


def test_floats_are_averaged_without_rounding():
    raw = np.array([[[0.25, 0.5]]], np.float32)
    assert mean_level(raw, (1, 1, 2)).item() == np.float32(0.375)


def test_thin_sections_are_halved_in_plane_until_voxels_are_nearly_cubes():
    factors = level_factors((100, 4096, 4096), (50, 4, 4), smallest_px=128)
    assert factors == [(1, 1, 1), (1, 2, 2), (1, 4, 4), (1, 8, 8), (2, 16, 16), (4, 32, 32)]


def test_one_section_is_never_halved_along_z():
    assert level_factors((1, 600, 500), (1, 4, 4), smallest_px=256) == [
        (1, 1, 1),
        (1, 2, 2),
        (1, 4, 4),
    ]


def test_a_small_volume_has_one_level():
    assert level_factors((30, 256, 256), (50, 4, 4), smallest_px=256) == [(1, 1, 1)]


def test_levels_end_even_where_one_axis_is_one_voxel():
    factors = level_factors((1, 1, 1000), (1, 1, 1), smallest_px=1)
    assert factors[-1] == (1, 1, 1024)
