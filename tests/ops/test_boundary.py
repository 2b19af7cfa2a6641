import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from unet_core.errors import ConfigError
from unet_core.geometry import IGNORED_ID, split
from unet_core.ops.boundary import (
    IGNORED_CLASS,
    border_reach,
    target_of_classes,
    target_of_instances,
)

ids_of = arrays(
    np.uint32,
    st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 12)),
    elements=st.sampled_from([0, 1, 2, 3, 2**31 + 7, IGNORED_ID]),
)


spacings = st.sampled_from([None, 0.5, 1.0, 1.5, 12.5])


def brute_force(ids: np.ndarray, border_px: int, z_spacing: float | None) -> np.ndarray:
    objects = np.where(ids == IGNORED_ID, 0, ids)
    target = np.zeros(ids.shape, np.uint8)
    # Sections that are infinitely far apart.
    parts = [slice(None)] if z_spacing else [slice(z, z + 1) for z in range(len(ids))]
    for part in parts:
        seen = objects[part]
        for label in np.unique(seen[seen > 0]):
            others = (seen != label) & (seen > 0)
            voxel = (z_spacing or 1, 1, 1)
            away = (
                ndimage.distance_transform_edt(~others, sampling=voxel) if others.any() else np.inf
            )
            target[part][(seen == label) & (away > border_px)] = 1
    target[ids == IGNORED_ID] = IGNORED_CLASS
    return target


@settings(deadline=None, max_examples=80)
@given(ids=ids_of, border_px=st.integers(0, 4), z_spacing=spacings)
def test_target_is_what_distances_to_other_objects_say(
    ids: np.ndarray, border_px: int, z_spacing: float | None
) -> None:
    found = target_of_instances(ids, border_px=border_px, z_spacing=z_spacing)
    np.testing.assert_array_equal(found, brute_force(ids, border_px, z_spacing))


@settings(deadline=None, max_examples=30)
@given(
    ids=ids_of,
    border_px=st.integers(0, 3),
    block=st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)),
    z_spacing=spacings,
)
def test_blocks_with_halo_equal_the_whole(
    ids: np.ndarray, border_px: int, block: tuple[int, int, int], z_spacing: float | None
) -> None:
    whole = target_of_instances(ids, border_px=border_px, z_spacing=z_spacing)
    for box in split(ids.shape, block=block):
        read = box.grow(border_reach(border_px, z_spacing=z_spacing)).clip(ids.shape)
        part = target_of_instances(ids[read.slices], border_px=border_px, z_spacing=z_spacing)
        core = box.relative_to(read.start)
        np.testing.assert_array_equal(part[core.slices], whole[box.slices])


def test_touching_objects_get_apart_and_edges_to_background_stay() -> None:
    ids = np.array([[[0, 1, 1, 1, 2, 2, 0]]], np.uint32)
    assert target_of_instances(ids, border_px=1).tolist() == [[[0, 1, 1, 0, 0, 1, 0]]]
    assert target_of_instances(ids, border_px=0).tolist() == [[[0, 1, 1, 1, 1, 1, 0]]]


def test_a_gap_counts_for_the_distance() -> None:
    ids = np.array([[[1, 1, 1, 0, 2, 2, 2]]], np.uint32)
    assert target_of_instances(ids, border_px=1).tolist() == [[[1, 1, 1, 0, 1, 1, 1]]]
    assert target_of_instances(ids, border_px=2).tolist() == [[[1, 1, 0, 0, 0, 1, 1]]]


def test_distance_is_euclidean_and_within_the_section() -> None:
    ids = np.array([[[1, 0], [0, 2]], [[3, 3], [3, 3]]], np.uint32)
    assert target_of_instances(ids, border_px=1)[0].tolist() == [[1, 0], [0, 1]]
    assert target_of_instances(ids, border_px=2)[0].tolist() == [[0, 0], [0, 0]]
    assert target_of_instances(ids, border_px=2)[1].all()


def test_objects_above_one_another_get_apart_where_distances_are_in_3d() -> None:
    ids = np.repeat(np.array([1, 1, 2, 2], np.uint32), 4).reshape(4, 2, 2)
    assert target_of_instances(ids, border_px=1).all()
    cubic = target_of_instances(ids, border_px=1, z_spacing=1.0)
    assert cubic[:, 0, 0].tolist() == [1, 0, 0, 1]
    thick = target_of_instances(ids, border_px=3, z_spacing=4.0)
    assert thick.all()
    assert target_of_instances(ids, border_px=4, z_spacing=4.0)[:, 0, 0].tolist() == [1, 0, 0, 1]


def test_ignored_voxels_are_no_object() -> None:
    ids = np.array([[[1, 1, IGNORED_ID, 2]]], np.uint32)
    assert target_of_instances(ids, border_px=1).tolist() == [[[1, 1, 255, 1]]]


def test_classes_stay_and_unknown_ones_are_refused() -> None:
    classes = np.array([[[0, 3, 254, IGNORED_ID]]], np.uint32)
    assert target_of_classes(classes).tolist() == [[[0, 3, 254, 255]]]
    with pytest.raises(ConfigError, match=r"class 255.*ignore_label to 255"):
        target_of_classes(np.array([[[255]]], np.uint32))


def test_empty_volumes_work() -> None:
    assert target_of_instances(np.zeros((1, 4, 5), np.uint32), border_px=2).sum() == 0
    assert target_of_classes(np.zeros((0, 4, 5), np.uint32)).shape == (0, 4, 5)
