"""Affinities of pairs of voxels."""

from itertools import product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from unet_core.geometry import IGNORED_ID
from unet_core.ops.affinities import affinities_of

OFFSETS = st.lists(st.tuples(*[st.integers(-4, 4)] * 3), min_size=1, max_size=4)
IDS = arrays.arrays(
    np.uint32,
    st.tuples(*[st.integers(1, 4)] * 3),
    elements=st.sampled_from([0, 1, 2, 7, IGNORED_ID]),
)


@settings(deadline=None, max_examples=60)
@given(ids=IDS, offsets=OFFSETS)
def test_a_pair_is_of_one_object_apart_or_unknown(
    ids: np.ndarray, offsets: list[tuple[int, int, int]]
) -> None:
    found = affinities_of(ids, offsets)
    assert found.shape == (len(offsets), *ids.shape)
    for affinity, offset in zip(found, offsets, strict=True):
        for place in product(*map(range, ids.shape)):
            other = tuple(a + d for a, d in zip(place, offset, strict=True))
            inside = all(0 <= a < n for a, n in zip(other, ids.shape, strict=True))
            if not inside or IGNORED_ID in (ids[place], ids[other]):
                assert affinity[place] == 255
            else:
                assert affinity[place] == (ids[place] == ids[other] != 0)


@settings(deadline=None, max_examples=30)
@given(ids=IDS, axis=st.integers(0, 2))
def test_affinities_of_mirrored_objects_are_mirrored_and_turn_round(
    ids: np.ndarray, axis: int
) -> None:
    offset, turned = [0, 0, 0], [0, 0, 0]
    offset[axis], turned[axis] = 1, -1
    (one,) = affinities_of(ids, [tuple(offset)])
    (other,) = affinities_of(np.flip(ids, axis), [tuple(turned)])
    np.testing.assert_array_equal(np.flip(one, axis), other)


def test_affinities_by_hand() -> None:
    ids = np.array([[[5, 5, 0, 0, 6, IGNORED_ID]]], np.uint32)
    before, far = affinities_of(ids, [(0, 0, -1), (0, 0, 4)])
    assert before.tolist() == [[[255, 1, 0, 0, 0, 255]]]
    assert far.tolist() == [[[0, 255, 255, 255, 255, 255]]]
