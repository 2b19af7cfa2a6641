"""The watershed is one and the same for every blocking, and its objects are the h-minima."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from skimage.morphology import reconstruction

from unet_core.config.result import Scope
from unet_core.geometry import Box, Zyx, blocks
from unet_core.ops.components import FACES, faces_of
from unet_core.ops.heights import OUTSIDE, TOP, fenced
from unet_core.ops.watershed import (
    Fragments,
    crossings,
    drained,
    fragments_of,
    merge_fragments,
    seen_by,
    watershed,
)

HEIGHTS = hnp.arrays(
    np.uint16,
    hnp.array_shapes(min_dims=3, max_dims=3, max_side=9),
    elements=st.integers(0, 12) | st.integers(TOP - 2, TOP),
)


def watershed_in_blocks(
    heights: np.ndarray, block: Zyx, *, scope: Scope, depth: int, min_size: int
) -> np.ndarray:
    """The scheme of `run.landscape` in memory."""
    shape, plan = heights.shape, [b.write for b in blocks(heights.shape, block=block)]
    parts, labels, offset, total = {}, {}, {}, 0
    for core in plan:
        box = seen_by(core, shape=shape, scope=scope)
        labels[core.start], parts[core.start] = fragments_of(
            heights[box.slices], box, core, shape=shape, scope=scope
        )
        offset[core.start] = total
        total += len(parts[core.start].first)
    links, edges, saddles = [], [], []
    for core in plan:
        own = parts[core.start]
        edges.append(own.edges + offset[core.start])
        saddles.append(own.saddles)
    for core, axis in itertools.product(plan, range(3)):
        after = tuple(a + block[axis] * (i == axis) for i, a in enumerate(core.start))
        side = "zyx"[axis]
        if f"{side}1" not in FACES[scope] or after not in parts:
            continue
        one, other = core, next(b for b in plan if b.start == after)
        at = np.array([offset[one.start], offset[other.start]])
        here, there = (faces_of(labels[b.start], scope) for b in (one, other))
        h_here, h_there = (faces_of(heights[b.slices], scope) for b in (one, other))
        last, front = layer(one, axis, last=True), layer(other, axis, last=False)
        links.append(drained(parts[one.start].drain, there[f"{side}0"], front, shape) + at)
        links.append(drained(parts[other.start].drain, here[f"{side}1"], last, shape) + at[::-1])
        pairs, low = crossings(
            here[f"{side}1"], there[f"{side}0"], h_here[f"{side}1"], h_there[f"{side}0"]
        )
        edges.append(pairs + at)
        saddles.append(low)
    joined = {
        field.name: np.concatenate([getattr(parts[core.start], field.name) for core in plan])
        for field in dataclasses.fields(Fragments)
        if field.name not in ("edges", "saddles")
    }
    fragments = Fragments(**joined, edges=np.concatenate(edges), saddles=np.concatenate(saddles))
    linked = np.concatenate([np.zeros((0, 2), np.int64), *links])
    assert len(linked) == (fragments.drain >= 0).sum()
    objects, _ = merge_fragments(fragments, linked, depth=depth, min_size=min_size)
    out = np.zeros(shape, np.uint64)
    for core in plan:
        own = labels[core.start]
        out[core.slices][own > 0] = objects[own[own > 0] - 1 + offset[core.start]]
    return out


def layer(box: Box, axis: int, *, last: bool) -> Box:
    start, stop = list(box.start), list(box.stop)
    if last:
        start[axis] = stop[axis] - 1
    else:
        stop[axis] = start[axis] + 1
    return Box(tuple(start), tuple(stop))


@pytest.mark.parametrize("scope", ["section", "volume"])
@settings(deadline=None, max_examples=50)
@given(
    heights=HEIGHTS,
    block=st.tuples(*[st.integers(1, 6)] * 3),
    depth=st.integers(1, 6),
    min_size=st.sampled_from([0, 3, 9]),
)
def test_every_blocking_gives_the_objects_of_the_whole(
    scope: Scope, heights: np.ndarray, block: Zyx, depth: int, min_size: int
) -> None:
    whole, _ = watershed(heights, scope=scope, depth=depth, min_size=min_size)
    found = watershed_in_blocks(heights, block, scope=scope, depth=depth, min_size=min_size)
    np.testing.assert_array_equal(found, whole)


FENCED = hnp.arrays(
    np.int32,
    hnp.array_shapes(min_dims=3, max_dims=3, max_side=9),
    elements=st.integers(0, 12) | st.sampled_from([TOP - 1, TOP, OUTSIDE, OUTSIDE]),
)


@pytest.mark.parametrize("scope", ["section", "volume"])
@settings(deadline=None, max_examples=50)
@given(
    heights=FENCED,
    block=st.tuples(*[st.integers(1, 6)] * 3),
    depth=st.integers(1, 6),
    min_size=st.sampled_from([0, 3, 9]),
)
def test_every_blocking_agrees_where_some_voxels_are_outside(
    scope: Scope, heights: np.ndarray, block: Zyx, depth: int, min_size: int
) -> None:
    whole, count = watershed(heights, scope=scope, depth=depth, min_size=min_size)
    assert not whole[heights == OUTSIDE].any()
    assert set(np.unique(whole)) - {0} == set(range(1, count + 1))
    found = watershed_in_blocks(heights, block, scope=scope, depth=depth, min_size=min_size)
    np.testing.assert_array_equal(found, whole)


@pytest.mark.parametrize("scope", ["section", "volume"])
@settings(deadline=None, max_examples=50)
@given(heights=HEIGHTS, depth=st.integers(1, 6), min_size=st.sampled_from([0, 3]), k=st.data())
def test_a_fence_parts_a_volume_into_two_of_their_own(
    scope: Scope, heights: np.ndarray, depth: int, min_size: int, k: st.DataObject
) -> None:
    keys = {"scope": scope, "depth": depth, "min_size": min_size}
    column = k.draw(st.integers(0, heights.shape[2] - 1))
    inside = np.arange(heights.shape[2]) != column
    whole, _ = watershed(fenced(heights, np.broadcast_to(inside, heights.shape)), **keys)
    for side in (slice(0, column), slice(column + 1, None)):
        if (part := heights[..., side]).size:
            alone, _ = watershed(part, **keys)
            _, ranks = np.unique(whole[..., side], return_inverse=True)
            _, expected = np.unique(alone, return_inverse=True)
            np.testing.assert_array_equal(ranks.reshape(-1), expected.reshape(-1))


@pytest.mark.parametrize("scope", ["section", "volume"])
@pytest.mark.parametrize("block", [(1, 3, 5), (4, 31, 1), (2, 16, 7)])
def test_every_blocking_of_hills_and_valleys_agrees(scope: Scope, block: Zyx) -> None:
    heights = hills((4, 31, 33), seed=1)
    keys = {"scope": scope, "depth": 2000, "min_size": 12}
    whole, n = watershed(heights, **keys)
    assert n > 5
    np.testing.assert_array_equal(watershed_in_blocks(heights, block, **keys), whole)


@pytest.mark.parametrize("scope", ["section", "volume"])
@settings(deadline=None, max_examples=50)
@given(heights=HEIGHTS, depth=st.integers(1, 6))
def test_objects_are_as_many_as_the_h_minima(scope: Scope, heights: np.ndarray, depth: int) -> None:
    heights = np.minimum(heights, 1000)  # below the height of probability 0
    labels, count = watershed(heights, scope=scope, depth=depth, min_size=0)
    assert count == labels.max() == h_minima(heights, depth, scope)
    assert labels.min() == 1


@pytest.mark.parametrize("depth", [1, 3000, 9000])
def test_each_deep_minimum_is_in_an_object_of_its_own(depth: int) -> None:
    heights = hills((5, 30, 30), seed=4) // 500 * 500  # few levels: the reference loops over them
    labels, count = watershed(heights, scope="volume", depth=depth, min_size=0)
    assert count == h_minima(heights, depth, "volume") > 3
    for label in range(1, count + 1):
        assert ndimage.label(labels == label)[1] == 1


def hills(shape: Zyx, seed: int) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), (0.7, 2, 2))
    return ((noise - noise.min()) / np.ptp(noise) * (TOP - 1)).astype(np.uint16)


def h_minima(heights: np.ndarray, depth: int, scope: Scope) -> int:
    """Regional minima left by reconstruction from ``heights + depth - 1``."""
    footprint = ndimage.generate_binary_structure(3, 1)
    if scope == "section":
        footprint[[0, 2]] = False
    flat = heights.astype(np.int64)
    filled = reconstruction(flat + depth - 1, flat, "erosion", footprint=footprint).astype(int)
    count = 0
    for value in np.unique(filled):
        zones, n = ndimage.label(filled == value, footprint)
        around = ndimage.grey_erosion(filled, footprint=footprint, mode="nearest")
        descends = np.zeros(n + 1, bool)
        np.logical_or.at(descends, zones.ravel(), (around < value).ravel())
        count += int((~descends[1:]).sum())
    return count


def test_a_ridge_parts_two_valleys_until_the_depth_exceeds_it() -> None:
    line = np.array([[[3, 1, 2, 5, 4, 0, 6]]], np.uint16)
    keys = {"scope": "section", "min_size": 0}
    assert watershed(line, depth=4, **keys)[0].ravel().tolist() == [1, 1, 1, 1, 2, 2, 2]
    assert watershed(line, depth=5, **keys)[0].ravel().tolist() == [1] * 7


def test_a_small_object_joins_across_its_lowest_saddle() -> None:
    line = np.array([[[0, 0, 0, 9, 1, 7, 0, 0, 0]]], np.uint16)
    keys = {"scope": "section", "depth": 2}
    assert watershed(line, min_size=0, **keys)[0].ravel().tolist() == [1] * 4 + [2] + [3] * 4
    assert watershed(line, min_size=3, **keys)[0].ravel().tolist() == [1] * 4 + [2] * 5
    assert watershed(line, min_size=99, **keys)[1] == 0


def test_a_section_without_any_probability_has_no_object() -> None:
    heights = np.full((2, 3, 3), TOP, np.uint16)
    heights[1, 1, 1] = 0
    labels, count = watershed(heights, scope="section", depth=1, min_size=0)
    assert count == 1
    assert labels[0].max() == 0
    assert labels[1].min() == 1
