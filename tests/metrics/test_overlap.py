import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import linear_sum_assignment

from unet_core.metrics.contingency import contingency
from unet_core.metrics.overlap import Matches, match, overlaps, panoptic, seg_sums

few = settings(deadline=None, max_examples=40)
labels = hnp.arrays(np.uint32, (5, 6), elements=st.integers(0, 4))
THRESHOLDS = [0.5, 0.55, 0.75, 0.95, 1.0]


def by_hand(truth: np.ndarray, found: np.ndarray, threshold: float) -> Matches:
    truths, founds = (sorted(set(a.ravel().tolist()) - {0}) for a in (truth, found))
    good = np.zeros((len(truths), len(founds)))
    for (m, i), (n, j) in itertools.product(enumerate(truths), enumerate(founds)):
        union = ((truth == i) | (found == j)).sum()
        good[m, n] = ((truth == i) & (found == j)).sum() / union >= threshold
    tp = int(good[linear_sum_assignment(-good)].sum())
    return Matches(tp, len(founds) - tp, len(truths) - tp)


@few
@given(truth=labels, found=labels)
def test_matches_are_those_of_the_best_assignment(truth: np.ndarray, found: np.ndarray) -> None:
    pairs = overlaps(contingency(truth, found))
    expected = [by_hand(truth, found, t) for t in THRESHOLDS]
    assert match(pairs, THRESHOLDS) == expected


@few
@given(truth=labels, found=labels, order=st.permutations(range(1, 5)))
def test_scores_do_not_depend_on_the_names_of_objects(
    truth: np.ndarray, found: np.ndarray, order: list[int]
) -> None:
    one = overlaps(contingency(truth, found))
    other = overlaps(contingency(truth, np.array([0, *order], np.uint64)[found]))
    assert match(one, THRESHOLDS) == match(other, THRESHOLDS)
    assert panoptic(one) == panoptic(other)
    assert seg_sums(one) == seg_sums(other)


@few
@given(truth=labels)
def test_truth_itself_is_matched_whole(truth: np.ndarray) -> None:
    truth[0, 0] = 1
    pairs = overlaps(contingency(truth, truth))
    assert all((m.fp, m.fn, m.f1) == (0, 0, 1) for m in match(pairs, THRESHOLDS))
    assert panoptic(pairs).quality == 1
    total, objects = seg_sums(pairs)
    assert total == objects


def test_three_squares_of_which_two_are_found() -> None:
    truth, found = np.zeros((12, 12), int), np.zeros((12, 12), int)
    truth[0:4, 0:4], truth[6:9, 0:3], truth[6:8, 6:8] = 1, 2, 3
    found[0:4, 0:3], found[6:9, 0:4], found[10:12, 10:12] = 1, 2, 3
    pairs = overlaps(contingency(truth, found))
    precisions = [m.average_precision for m in match(pairs, [0.5, 0.75, 0.76])]
    assert precisions == [0.5, 0.5, 0]
    assert panoptic(pairs).quality == 0.5
    assert panoptic(pairs).segmentation == 0.75
    assert panoptic(pairs).recognition == pytest.approx(2 / 3)
    assert seg_sums(pairs) == (1.5, 3)


def test_an_object_found_as_two_halves_is_matched_once_at_one_half_and_not_by_panoptic() -> None:
    pairs = overlaps(contingency(np.array([1, 1, 1, 1]), np.array([1, 1, 2, 2])))
    assert match(pairs, [0.5]) == [Matches(1, 1, 0)]
    assert panoptic(pairs).matches == (0, 2, 1)
    assert seg_sums(pairs) == (0, 1)


def test_where_neither_side_has_an_object_all_is_right_and_with_one_side_all_is_wrong() -> None:
    nothing, one = np.zeros(3, int), np.ones(3, int)
    for truth, found, value in [(nothing, nothing, 1), (one, nothing, 0), (nothing, one, 0)]:
        pairs = overlaps(contingency(truth, found))
        assert match(pairs, [0.5, 0.7])[0].average_precision == value
        assert panoptic(pairs).quality == value
        assert math.isnan(panoptic(pairs).segmentation)
