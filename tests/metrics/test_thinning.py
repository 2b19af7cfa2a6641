from collections import deque
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from skimage.segmentation import watershed

from unet_core.metrics.contingency import contingency
from unet_core.metrics.rand import rand_scores
from unet_core.metrics.thinning import components, grow_labels, thin_borders

few = settings(deadline=None, max_examples=50)
shapes = hnp.array_shapes(min_dims=2, max_dims=2, max_side=14)
masks = hnp.arrays(np.bool_, shapes, elements=st.sampled_from([True, False, False]))


def by_the_rule(inside: np.ndarray) -> np.ndarray:
    """The queue rule of the ISBI 2012 program, a dictionary of pixels and a deque."""
    if not inside.any():
        return np.ones(inside.shape, int)
    first = ndimage.label(inside)[0]
    height, width = inside.shape
    label = {(y, x): int(first[y, x]) for y in range(height) for x in range(width)}
    dams: set[tuple[int, int]] = set()
    queued: set[tuple[int, int]] = set()

    def neighbours(p: tuple[int, int]) -> list[tuple[int, int]]:
        y, x = p
        return [c for c in ((y, x - 1), (y - 1, x), (y, x + 1), (y + 1, x)) if c in label]

    queue: deque[tuple[int, int]] = deque()
    for x in range(width):
        for y in range(height):
            if not label[y, x] and any(label[c] for c in neighbours((y, x))):
                queue.append((y, x))
                queued.add((y, x))
    shared = False
    while queue:
        p = queue.popleft()
        for c in neighbours(p):
            if label[c]:
                if (not label[p] and p not in dams) or (p in dams and shared):
                    label[p] = label[c]
                    dams.discard(p)
                elif label[p] and label[p] != label[c]:
                    label[p] = 0
                    dams.add(p)
                    shared = False
            elif c in dams:
                if not label[p] and p not in dams:
                    dams.add(p)
                    shared = True
            elif c not in queued:
                queue.append(c)
                queued.add(c)
    return np.array([[label[y, x] for x in range(width)] for y in range(height)])


@few
@given(inside=masks)
def test_thinning_follows_the_queue_rule_to_the_pixel(inside: np.ndarray) -> None:
    np.testing.assert_array_equal(thin_borders(inside), by_the_rule(inside))


def test_thinning_follows_the_queue_rule_on_a_membrane_like_section() -> None:
    rng = np.random.default_rng(3)
    smooth = ndimage.gaussian_filter(rng.normal(size=(90, 70)), 2)
    for threshold in (-0.05, 0.0, 0.1):
        inside = smooth > threshold
        np.testing.assert_array_equal(thin_borders(inside), by_the_rule(inside))


@few
@given(values=hnp.arrays(np.uint8, shapes, elements=st.integers(0, 2)))
def test_components_are_those_of_each_value_in_raster_order(values: np.ndarray) -> None:
    expected = np.zeros(values.shape, int)
    for value in (1, 2):
        labels = ndimage.label(values == value)[0]
        expected[labels > 0] = labels[labels > 0] + expected.max()
    ids, first = np.unique(expected[expected > 0], return_index=True)
    rank = np.zeros(expected.max() + 1, int)
    rank[ids[np.argsort(first)]] = np.arange(1, len(ids) + 1)
    np.testing.assert_array_equal(components(values), rank[expected])


def test_objects_keep_their_pixels_and_their_number() -> None:
    rng = np.random.default_rng(0)
    inside = ndimage.gaussian_filter(rng.normal(size=(60, 60)), 2) > 0.05
    thin = thin_borders(inside)
    np.testing.assert_array_equal(thin[inside], components(inside)[inside])


def test_labels_that_touch_stay_apart_when_they_grow() -> None:
    labels = np.array([[4, 9, 0, 0, 2], [4, 9, 0, 0, 2]], np.int32)
    np.testing.assert_array_equal(grow_labels(labels), [[4, 9, 9, 0, 2], [4, 9, 9, 0, 2]])
    np.testing.assert_array_equal(labels[0], [4, 9, 0, 0, 2])


def test_a_section_without_interior_is_one_object() -> None:
    np.testing.assert_array_equal(thin_borders(np.zeros((3, 4), bool)), np.ones((3, 4)))
    assert thin_borders(np.zeros((0, 4), bool)).shape == (0, 4)


def test_a_wide_membrane_between_two_cells_costs_nothing_once_thinned() -> None:
    truth = np.ones((7, 9), int)
    truth[:, 5:] = 2
    truth[:, 4] = 0
    inside = truth > 0
    inside[:, 3:6] = False
    thinned = contingency(truth, thin_borders(inside))
    assert rand_scores(thinned, "n2_zero_is_singletons") == (1, 1, 1)
    wide = rand_scores(contingency(truth, components(inside)), "n2_zero_is_singletons")
    assert wide.precision == 1
    assert wide.recall == 896 / 1568
    assert round(wide.f, 6) == 0.727273


def test_thinning_scores_real_membranes_nearly_like_a_watershed(real_data: Path) -> None:
    path = real_data / "isbi2012" / "train-labels.tif"
    if not path.is_file():
        pytest.skip("no isbi2012 in UNET_TEST_DATA")
    section = tifffile.imread(path)[0] > 0
    truth, inside = components(section), ndimage.binary_erosion(section, iterations=2)
    flooded = watershed(np.zeros(section.shape), components(inside), watershed_line=True)
    exact, near = (
        rand_scores(contingency(truth, found), "n2_zero_is_singletons").f
        for found in (thin_borders(inside), flooded)
    )
    assert exact > 0.95
    assert abs(exact - near) < 1.5e-3
