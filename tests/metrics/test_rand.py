import math
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.metrics import adapted_rand_error

from unet_core.metrics.contingency import contingency
from unet_core.metrics.rand import RandVariant, rand_scores, rand_sums

few = settings(deadline=None, max_examples=40)
VARIANTS: tuple[RandVariant, ...] = get_args(RandVariant)
labels = hnp.arrays(np.uint32, (5, 6), elements=st.integers(0, 4))


@few
@given(truth=labels, found=labels, order=st.permutations(range(1, 5)))
def test_scores_do_not_depend_on_the_names_of_objects(
    truth: np.ndarray, found: np.ndarray, order: list[int]
) -> None:
    renamed = np.array([0, *order], np.uint64)[found] * np.uint64(2**40)
    for variant in VARIANTS:
        assert rand_sums(contingency(truth, found), variant) == rand_sums(
            contingency(truth, renamed), variant
        )


@few
@given(truth=labels)
def test_truth_itself_scores_one(truth: np.ndarray) -> None:
    truth[0, 0] = 1
    for variant in VARIANTS:
        assert rand_scores(contingency(truth, truth), variant) == (1, 1, 1)


@few
@given(truth=labels, found=labels)
def test_without_zeros_exchanging_the_two_exchanges_precision_and_recall(
    truth: np.ndarray, found: np.ndarray
) -> None:
    there = rand_scores(contingency(truth + 1, found + 1), "n2_zero_is_label")
    back = rand_scores(contingency(found + 1, truth + 1), "n2_zero_is_label")
    assert there == (back.recall, back.precision, back.f)


@few
@given(truth=labels, found=labels)
def test_the_pairs_variant_is_that_of_scikit_image(truth: np.ndarray, found: np.ndarray) -> None:
    truth[0, :2] = found[0, :2] = 1
    ours = rand_scores(contingency(truth, found), "pairs_zero_is_label")
    error, of_truth, of_found = adapted_rand_error(truth, found)
    assert ours.error == pytest.approx(error, abs=1e-12)
    assert ours.precision == pytest.approx(of_found, abs=1e-12)
    assert ours.recall == pytest.approx(of_truth, abs=1e-12)


@pytest.mark.parametrize(
    ("variant", "error"), [("n2_zero_is_label", 1 / 3), ("pairs_zero_is_label", 0.5)]
)
def test_two_objects_found_as_one(variant: RandVariant, error: float) -> None:
    scores = rand_scores(contingency(np.array([1, 1, 2, 2]), np.array([7, 7, 7, 7])), variant)
    assert scores.error == pytest.approx(error, abs=1e-15)
    assert scores.recall == 1
    if variant == "n2_zero_is_label":
        assert scores.precision == 0.5


@pytest.mark.parametrize(
    ("variant", "error"),
    [
        ("n2_zero_is_label", 1 / 4),
        ("n2_zero_is_singletons", 1 / 3),
        ("pairs_zero_is_label", 0.4),
        ("snemi3d_script", 0.4159),
    ],
)
def test_the_four_variants_differ_on_one_pair_of_volumes(
    variant: RandVariant, error: float
) -> None:
    truth, found = np.array([0, 1, 1, 1, 1, 2, 2, 0]), np.array([5, 1, 1, 0, 0, 2, 2, 2])
    scores = rand_scores(contingency(truth, found), variant)
    assert scores.error == pytest.approx(error, abs=5e-5)


def test_a_published_example() -> None:
    truth = np.array([1, 1, 2, 2, 2, 3, 3, 3, 3, 4, 4])
    found = np.array([3, 3, 3, 3, 4, 5, 6, 6, 5, 5, 5])
    scores = rand_scores(contingency(truth, found), "n2_zero_is_label")
    assert scores.precision == pytest.approx(0.5675675675675675, abs=1e-15)
    assert scores.recall == pytest.approx(0.6363636363636364, abs=1e-15)


def test_without_truth_there_is_no_score() -> None:
    for variant in VARIANTS:
        assert all(
            map(math.isnan, rand_scores(contingency(np.zeros(3, int), np.ones(3, int)), variant))
        )


def test_single_voxels_have_no_pairs_and_are_neither_merged_nor_split() -> None:
    table = contingency(np.array([1, 2, 3]), np.array([1, 2, 3]))
    assert rand_scores(table, "pairs_zero_is_label") == (1, 1, 1)


def test_sums_of_disjoint_objects_add_up() -> None:
    truth, found = np.array([1, 1, 2, 2, 3, 0]), np.array([1, 4, 2, 2, 0, 3])
    whole = rand_sums(contingency(truth, found), "n2_zero_is_singletons")
    parts = [
        rand_sums(contingency(truth[s], found[s]), "n2_zero_is_singletons")
        for s in (slice(0, 2), slice(2, None))
    ]
    assert parts[0] + parts[1] == whole
