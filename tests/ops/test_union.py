"""Pieces of any blocking give the objects of the whole volume, ids included."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from unet_core.config.result import Scope
from unet_core.geometry import Zyx, blocks
from unet_core.ops.components import FACES, label_block, pieces_of
from unet_core.ops.union import meeting_pieces, number_objects, unite


def label_in_blocks(mask: np.ndarray, block: Zyx, scope: Scope, min_size: int) -> np.ndarray:
    """The scheme of `run.objects` in memory."""
    plan = blocks(mask.shape, block=block)
    found, offset, total = {}, {}, 0
    for part in plan:
        box = part.write
        labels, count = label_block(mask[box.slices], scope)
        pieces = pieces_of(labels, count, start=box.start, shape=mask.shape, scope=scope)
        found[box.start] = (labels, pieces)
        offset[box.start] = total
        total += count
    links = [np.zeros((0, 2), np.int64)]
    for part, axis in itertools.product(plan, range(3)):
        after = tuple(a + block[axis] * (i == axis) for i, a in enumerate(part.write.start))
        side = "zyx"[axis]
        if f"{side}1" in FACES[scope] and after in found:
            pairs = meeting_pieces(
                found[part.write.start][1].faces[f"{side}1"], found[after][1].faces[f"{side}0"]
            )
            links.append(pairs - 1 + [offset[part.write.start], offset[after]])
    member, sets = unite(total, np.concatenate(links))
    first = np.concatenate([found[p.write.start][1].first for p in plan])
    size = np.concatenate([found[p.write.start][1].size for p in plan])
    objects, _ = number_objects(first, size, member, sets, min_size=min_size)
    out = np.zeros(mask.shape, np.uint64)
    for part in plan:
        labels, _ = found[part.write.start]
        lut = np.append(np.uint64(0), objects[offset[part.write.start] :])
        out[part.write.slices] = lut[labels]
    return out


@pytest.mark.parametrize("scope", ["section", "volume"])
@settings(deadline=None, max_examples=50)
@given(
    mask=hnp.arrays(np.bool_, hnp.array_shapes(min_dims=3, max_dims=3, max_side=11)),
    block=st.tuples(*[st.integers(1, 7)] * 3),
)
def test_every_blocking_gives_the_ids_of_scipy(scope: Scope, mask: np.ndarray, block: Zyx) -> None:
    structure = ndimage.generate_binary_structure(3, 1)
    if scope == "section":
        structure[[0, 2]] = False
    expected, _ = ndimage.label(mask, structure)
    np.testing.assert_array_equal(label_in_blocks(mask, block, scope, 0), expected)


@pytest.mark.parametrize("scope", ["section", "volume"])
@pytest.mark.parametrize("block", [(1, 3, 5), (2, 24, 1), (7, 9, 8), (6, 40, 40)])
def test_objects_of_noise_are_those_of_scipy_without_the_small(scope: Scope, block: Zyx) -> None:
    mask = np.random.default_rng(3).random((6, 23, 26)) < 0.45
    structure = ndimage.generate_binary_structure(3, 1)
    if scope == "section":
        structure[[0, 2]] = False
    expected, _ = ndimage.label(mask, structure)
    large = np.bincount(expected.ravel()) >= 9
    large[0] = False
    expected = np.where(large, np.cumsum(large), 0)[expected]
    assert expected.max() > 3
    np.testing.assert_array_equal(label_in_blocks(mask, block, scope, 9), expected)


def test_pieces_meet_where_both_sides_are_inside() -> None:
    one = np.array([[1, 1, 0], [2, 2, 3]], np.uint32)
    other = np.array([[5, 5, 5], [0, 4, 5]], np.uint32)
    assert meeting_pieces(one, other).tolist() == [[1, 5], [2, 4], [3, 5]]


def test_size_counts_all_pieces_of_an_object() -> None:
    first, size = np.array([7, 0, 3]), np.array([2, 1, 4])
    member, sets = unite(3, np.array([[0, 1]]))
    assert number_objects(first, size, member, sets, min_size=4)[0].tolist() == [0, 0, 1]
    assert number_objects(first, size, member, sets, min_size=3)[0].tolist() == [1, 1, 2]
    assert number_objects(first, size, member, sets, min_size=4)[1] == 1


def test_no_pieces_are_no_objects() -> None:
    member, sets = unite(0, np.zeros((0, 2), np.int64))
    none = np.zeros(0, np.int64)
    objects, count = number_objects(none, none, member, sets, min_size=5)
    assert (len(objects), count) == (0, 0)
