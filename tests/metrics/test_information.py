import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.metrics import variation_of_information as scikit_image_voi

from unet_core.metrics.contingency import contingency
from unet_core.metrics.information import (
    information_scores,
    variation_of_information,
    variation_sums,
)

few = settings(deadline=None, max_examples=40)
labels = hnp.arrays(np.uint32, (5, 6), elements=st.integers(0, 4))


@few
@given(truth=labels, found=labels)
def test_variation_of_information_is_that_of_scikit_image(
    truth: np.ndarray, found: np.ndarray
) -> None:
    truth[0, 0] = 1
    expected = scikit_image_voi(truth, found, ignore_labels=(0,))
    ours = variation_of_information(contingency(truth, found))
    assert ours == pytest.approx(tuple(expected), abs=1e-12)
    assert min(ours) >= 0


@few
@given(truth=labels, found=labels)
def test_exchanging_the_two_exchanges_split_and_merge(truth: np.ndarray, found: np.ndarray) -> None:
    split, merge = variation_of_information(contingency(truth + 1, found + 1))
    assert variation_of_information(contingency(found + 1, truth + 1)) == (merge, split)


@few
@given(truth=labels, found=labels, cut=st.integers(1, 4))
def test_sums_of_disjoint_objects_add_up(truth: np.ndarray, found: np.ndarray, cut: int) -> None:
    apart = np.where(np.arange(5)[:, None] < cut, 0, 10).astype(np.uint32)
    truth, found = np.where(truth > 0, truth + apart, 0), found + apart
    total = variation_sums(contingency(truth, found))
    parts = [variation_sums(contingency(truth[s], found[s])) for s in np.s_[:cut, cut:]]
    whole = parts[0] + parts[1]
    assert (whole.split, whole.merge) == pytest.approx((total.split, total.merge), abs=1e-9)
    assert whole.voxels == total.voxels


def test_two_objects_found_as_one_lack_one_bit() -> None:
    table = contingency(np.array([1, 1, 2, 2]), np.array([7, 7, 7, 7]))
    assert variation_of_information(table) == (0, 1)


def test_a_published_example() -> None:
    truth = np.array([1, 1, 2, 2, 2, 3, 3, 3, 3, 4, 4])
    found = np.array([3, 3, 3, 3, 4, 5, 6, 6, 5, 5, 5])
    assert variation_of_information(contingency(truth, found)) == pytest.approx(
        (0.6140806820148608, 0.7272727272727271), abs=1e-14
    )


@few
@given(truth=labels)
def test_truth_itself_has_v_info_one(truth: np.ndarray) -> None:
    truth[0, :2] = 1, 2
    assert information_scores(contingency(truth, truth)) == pytest.approx((1, 1, 1), abs=1e-12)


@few
@given(truth=labels, found=labels)
def test_voxels_of_zero_count_as_objects_of_their_own(truth: np.ndarray, found: np.ndarray) -> None:
    truth[0, 0] = 1
    alone = np.where(found > 0, found, 100 + np.arange(found.size).reshape(found.shape))
    expected = information_scores(contingency(truth, alone))
    assert information_scores(contingency(truth, found)) == pytest.approx(expected, abs=1e-9)


def test_labellings_without_any_information_have_the_scores_of_the_challenge() -> None:
    one, two = np.ones(4, int), np.array([1, 1, 2, 2])
    assert information_scores(contingency(one, two)) == (0, 1, 0)
    assert information_scores(contingency(two, one)) == (1, 0, 0)


def test_without_truth_there_is_no_score() -> None:
    table = contingency(np.zeros(3, int), np.ones(3, int))
    assert all(map(math.isnan, variation_of_information(table)))
    assert all(map(math.isnan, information_scores(table)))
