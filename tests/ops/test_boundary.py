import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from unet_core.errors import ConfigError
from unet_core.geometry import IGNORED_ID, split
from unet_core.ops.boundary import IGNORED_CLASS, target_of_classes, target_of_instances

ids_of = arrays(
    np.uint32,
    st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 12)),
    elements=st.sampled_from([0, 1, 2, 3, 2**31 + 7, IGNORED_ID]),
)


def brute_force(ids: np.ndarray, border_px: int) -> np.ndarray:
    objects = np.where(ids == IGNORED_ID, 0, ids)
    target = np.zeros(ids.shape, np.uint8)
    for z, section in enumerate(objects):
        for label in np.unique(section[section > 0]):
            others = (section != label) & (section > 0)
            away = ndimage.distance_transform_edt(~others) if others.any() else np.inf
            target[z][(section == label) & (away > border_px)] = 1
    target[ids == IGNORED_ID] = IGNORED_CLASS
    return target


@settings(deadline=None, max_examples=50)
@given(ids=ids_of, border_px=st.integers(0, 4))
def test_target_is_what_distances_to_other_objects_say(ids: np.ndarray, border_px: int) -> None:
    found = target_of_instances(ids, border_px=border_px)
    np.testing.assert_array_equal(found, brute_force(ids, border_px))


@settings(deadline=None, max_examples=30)
@given(
    ids=ids_of,
    border_px=st.integers(0, 3),
    block=st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)),
)
def test_blocks_with_halo_equal_the_whole(
    ids: np.ndarray, border_px: int, block: tuple[int, int, int]
) -> None:
    whole = target_of_instances(ids, border_px=border_px)
    for box in split(ids.shape, block=block):
        read = box.grow((0, border_px, border_px)).clip(ids.shape)
        part = target_of_instances(ids[read.slices], border_px=border_px)
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
