from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from unet_core.errors import ConfigError
from unet_core.geometry import IGNORED_ID, split
from unet_core.ops.boundary import target_of_instances
from unet_core.ops.two_nearest import two_nearest
from unet_core.ops.weight_map import border_halo, border_term, near_term

GAP_1, GAP_10 = 9.231163463866358, 0.8892161745938634

sparse = st.sampled_from([0] * 12 + [1, 2, 3, 5, 2**31 + 7, IGNORED_ID])
dense = st.sampled_from([1, 2, 3, 4])
ids_of = st.one_of(
    arrays(
        np.uint32,
        st.tuples(st.integers(1, 4), st.integers(1, 16), st.integers(1, 16)),
        elements=elements,
    )
    for elements in (sparse, dense)
)


def brute_force(
    ids: np.ndarray, target: np.ndarray, weight: float, sigma: float, z_spacing: float | None
) -> np.ndarray:
    """The definition, with one distance transform per object; per section where asked."""
    if z_spacing is None and len(ids) > 1:
        each = [
            brute_force(ids[z : z + 1], target[z : z + 1], weight, sigma, None)
            for z in range(len(ids))
        ]
        return np.concatenate(each)
    objects = [i for i in np.unique(ids) if i not in (0, IGNORED_ID)]
    if len(objects) < 2:
        return np.zeros(ids.shape)
    spacing = (z_spacing or 1.0, 1.0, 1.0)
    away = np.stack([ndimage.distance_transform_edt(ids != i, sampling=spacing) for i in objects])
    d1, d2 = np.partition(away, 1, axis=0)[:2]
    return np.where(target == 0, weight * np.exp(-((d1 + d2) ** 2) / (2 * sigma**2)), 0)


@settings(deadline=None, max_examples=50)
@given(
    ids=ids_of,
    border_px=st.integers(0, 2),
    sigma=st.sampled_from([0.3, 0.5, 1.0, 5.0]),
    z_spacing=st.sampled_from([None, 1.0, 2.5, 12.5]),
)
def test_term_equals_one_distance_transform_per_object(
    ids: np.ndarray, border_px: int, sigma: float, z_spacing: float | None
) -> None:
    target = target_of_instances(ids, border_px=border_px)
    found = border_term(ids, target, weight=10, sigma_px=sigma, z_spacing=z_spacing)
    expected = brute_force(ids, target, 10, sigma, z_spacing)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@settings(deadline=None, max_examples=50)
@given(
    ids=ids_of,
    sigma=st.sampled_from([0.2, 0.37, 0.7]),
    z_spacing=st.sampled_from([None, 1.0, 1.3, 4.0]),
    block=st.tuples(st.integers(1, 3), st.integers(1, 7), st.integers(1, 7)),
)
def test_any_blocking_equals_the_whole_bit_for_bit(
    ids: np.ndarray, sigma: float, z_spacing: float | None, block: tuple[int, int, int]
) -> None:
    target = target_of_instances(ids, border_px=1)
    whole = border_term(ids, target, sigma_px=sigma, z_spacing=z_spacing)
    halo = border_halo(sigma, z_spacing=z_spacing)
    for box in split(ids.shape, block=block):
        read = box.grow(halo).clip(ids.shape)
        part = border_term(
            ids[read.slices], target[read.slices], sigma_px=sigma, z_spacing=z_spacing
        )
        np.testing.assert_array_equal(part[box.relative_to(read.start).slices], whole[box.slices])


def test_blocks_of_a_dense_section_equal_the_whole_bit_for_bit() -> None:
    rng = np.random.default_rng(0)
    points = rng.integers(0, 200, (60, 2))
    free = np.ones((200, 200), bool)
    free[tuple(points.T)] = False
    away, nearest = ndimage.distance_transform_edt(free, return_indices=True)
    names = np.zeros((200, 200), np.uint32)
    names[tuple(points.T)] = np.arange(1, 61)
    ids = np.where(away < 11, names[tuple(nearest)], 0).astype(np.uint32)[None]
    target = target_of_instances(ids, border_px=1)
    whole = border_term(ids, target)
    np.testing.assert_allclose(whole, brute_force(ids, target, 10, 5, None), rtol=0, atol=1e-5)
    for box in split(ids.shape, block=(1, 67, 45)):
        read = box.grow(border_halo(5.0)).clip(ids.shape)
        part = border_term(ids[read.slices], target[read.slices])
        np.testing.assert_array_equal(part[box.relative_to(read.start).slices], whole[box.slices])


@pytest.mark.parametrize(("gap", "term"), [(1, GAP_1), (10, GAP_10)])
@pytest.mark.parametrize("axis", [1, 2])
def test_a_straight_gap_of_g_pixels_has_d1_plus_d2_of_g_plus_1(
    gap: int, term: float, axis: int
) -> None:
    line = np.array([7] * 3 + [0] * gap + [9] * 3, np.uint32)
    ids = np.moveaxis(np.broadcast_to(line, (1, 5, line.size)), 2, axis).copy()
    found = border_term(ids, target_of_instances(ids, border_px=0))
    np.testing.assert_array_equal(found[ids == 0], np.float32(term))
    assert (found[ids != 0] == 0).all()


def test_a_gap_across_sections_is_measured_with_their_spacing() -> None:
    ids = np.zeros((3, 2, 2), np.uint32)
    ids[0], ids[2] = 1, 2
    target = target_of_instances(ids, border_px=0)
    found = border_term(ids, target, z_spacing=5.5)  # d1 + d2 = 11, as a gap of 10 pixels
    np.testing.assert_array_equal(found[1], np.float32(GAP_10))
    assert (border_term(ids, target) == 0).all()


def test_fewer_than_two_cells_give_no_border_term() -> None:
    ids = np.zeros((2, 9, 9), np.uint32)
    ids[0, 2:5, 2:5] = 4
    ids[0, 6:, 6:] = IGNORED_ID
    assert (border_term(ids, target_of_instances(ids, border_px=1)) == 0).all()


def test_a_folded_cell_is_no_second_cell() -> None:
    ids = np.zeros((1, 12, 12), np.uint32)
    ids[0, :, :2], ids[0, :, 10:], ids[0, :2] = 1, 1, 1
    assert (border_term(ids, target_of_instances(ids, border_px=1)) == 0).all()


def test_a_border_drawn_into_touching_cells_is_at_distance_0_of_its_own_cell() -> None:
    ids = np.array([[[1, 1, 1, 2, 2, 2]]], np.uint32)
    found = border_term(ids, target_of_instances(ids, border_px=1))
    expected = np.float32(10 * np.exp(-1 / 50))  # d1 = 0, d2 = 1
    assert found.tolist() == [[[0, 0, expected, expected, 0, 0]]]


def test_term_is_0_beyond_6_sigma_and_where_it_is_off() -> None:
    line = np.array([1] + [0] * 10 + [2], np.uint32)[None, None]
    target = target_of_instances(line, border_px=0)
    found = border_term(line, target, sigma_px=1.0)
    assert np.flatnonzero(found).tolist() == [5, 6]  # d2 <= 6
    assert (border_term(line, target, weight=0) == 0).all()


def test_empty_and_single_voxel_volumes_work() -> None:
    for shape in [(0, 3, 3), (1, 1, 1), (1, 0, 4)]:
        ids = np.ones(shape, np.uint32)
        term = border_term(ids, target_of_instances(ids, border_px=1), z_spacing=2.0)
        assert term.shape == shape
        assert not term.any()


def test_a_spacing_of_0_is_refused() -> None:
    ids = np.ones((1, 2, 2), np.uint32)
    with pytest.raises(ConfigError, match="voxel_size_nm"):
        two_nearest(ids, ids > 0, bound=3, z_spacing=0.0)


def test_dense_bodies_without_background_equal_the_definition(real_data: Path) -> None:
    source = real_data / "fib-medulla" / "groundtruth.h5"
    if not source.exists():
        pytest.skip(f"{source} is absent")
    with h5py.File(source) as file:
        ids = file["stack"][100:101].astype(np.uint32)
    assert (ids == 0).mean() < 0.01
    target = target_of_instances(ids, border_px=1)
    found = border_term(ids, target)
    assert found.max() > 9
    np.testing.assert_allclose(found, brute_force(ids, target, 10, 5, None), rtol=0, atol=1e-5)


def test_the_weight_of_background_falls_with_the_distance_to_one_object() -> None:
    line = np.zeros((1, 1, 30), np.uint32)
    line[0, 0, 2] = 5
    target = target_of_instances(line, border_px=1)
    found = near_term(line, target, weight=0.9, sigma_px=2.0)[0, 0]
    away = np.abs(np.arange(30) - 2)
    expected = np.where((away == 0) | (away > 12), 0, 0.9 * np.exp(-(away**2) / 8))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert (near_term(line, target, weight=0, sigma_px=2.0) == 0).all()


def test_the_border_that_is_drawn_between_touching_objects_is_nearest_to_them() -> None:
    ids = np.array([[[1, 1, 1, 2, 2, 2]]], np.uint32)
    target = target_of_instances(ids, border_px=1)
    found = near_term(ids, target, weight=0.9, sigma_px=10.0)
    np.testing.assert_allclose(found[0, 0], [0, 0, 0.9, 0.9, 0, 0], rtol=1e-6)
