import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from unet_core.metrics.warping import _SIMPLE, _around, warping_mismatches

few = settings(deadline=None, max_examples=30)
masks = hnp.arrays(np.bool_, (7, 8))
probabilities = hnp.arrays(
    np.float64, (7, 8), elements=st.integers(0, 10).map(lambda tenths: tenths / 10)
)
EIGHT = np.ones((3, 3), int)


def topology(image: np.ndarray) -> tuple[int, int]:
    """Objects (4-connected) and components of the rest (8-connected), with a border around."""
    padded = np.pad(image, 1)
    return ndimage.label(padded)[1], ndimage.label(~padded, EIGHT)[1]


def simple(image: np.ndarray, y: int, x: int) -> bool:
    around = image[y - 1 : y + 2, x - 1 : x + 2].copy()
    around[1, 1] = False
    pieces = ndimage.label(around)[0]
    touching = {int(pieces[p]) for p in ((0, 1), (1, 0), (1, 2), (2, 1))} - {0}
    return len(touching) == 1 and around.sum() < 8


def warped_by_the_rule(truth: np.ndarray, probability: np.ndarray, threshold: float) -> np.ndarray:
    image, target = np.pad(truth, 1), np.pad(probability > threshold, 1)
    surety = np.pad(np.abs(probability - threshold), 1)
    before = -1
    while (left := int((image != target).sum())) != before:
        before = left
        wrong = [(x, y) for x, y in np.argwhere((image != target).T)]
        for x, y in sorted(wrong, key=lambda p: -surety[p[1], p[0]]):
            if simple(image, y, x):
                image[y, x] = target[y, x]
    return image


def test_the_table_of_simple_neighbourhoods_follows_the_definition() -> None:
    for code in range(256):
        image = np.zeros((3, 3), np.uint8)
        for bit, (y, x) in enumerate(
            [(0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0)]
        ):
            image[y, x] = code >> bit & 1
        assert _around(image, 1, 1) == code
        assert _SIMPLE[code] == simple(image.astype(bool), 1, 1)


@few
@given(truth=masks, probability=probabilities, tenths=st.integers(0, 9))
def test_warping_follows_the_rule_and_keeps_the_topology(
    truth: np.ndarray, probability: np.ndarray, tenths: int
) -> None:
    warped = warped_by_the_rule(truth, probability, tenths / 10)
    left = int((warped != np.pad(probability > tenths / 10, 1)).sum())
    assert topology(warped[1:-1, 1:-1]) == topology(truth)
    found = warping_mismatches(truth, probability, tenths / 10)
    assert found.all == left
    assert 0 <= found.splits_and_mergers <= found.all


def test_a_border_that_is_shifted_or_wider_costs_nothing() -> None:
    truth, probability = np.ones((9, 11), bool), np.ones((9, 11))
    truth[:, 4], probability[:, 5] = False, 0
    assert warping_mismatches(truth, probability, 0.5) == (0, 0)
    probability[:, 3:8] = 0
    assert warping_mismatches(truth, probability, 0.5) == (0, 0)


def test_a_gap_in_a_membrane_is_a_merger_and_a_false_membrane_is_a_split() -> None:
    whole, cut = np.ones((9, 11), bool), np.ones((9, 11), bool)
    cut[:, 5] = False
    gap = cut.astype(float)
    gap[4, 5] = 1
    assert warping_mismatches(cut, gap, 0.5) == (1, 1)
    assert warping_mismatches(whole, cut.astype(float), 0.5) == (1, 1)


def test_added_lost_and_pierced_objects_are_errors_but_neither_splits_nor_mergers() -> None:
    truth = np.zeros((9, 20), bool)
    truth[2:7, 2:7] = True
    nothing = np.zeros(truth.shape)
    assert warping_mismatches(truth, nothing, 0.5) == (1, 0)
    added, pierced = truth.astype(float), truth.astype(float)
    added[4, 12], pierced[4, 4] = 1, 0
    assert warping_mismatches(truth, added, 0.5) == (1, 0)
    assert warping_mismatches(truth, pierced, 0.5) == (1, 0)


def test_ignored_pixels_are_never_wrong() -> None:
    truth, probability = np.ones((6, 6), bool), np.ones((6, 6))
    probability[2, 2] = 0
    ignored = probability == 0
    assert warping_mismatches(truth, probability, 0.5, ignored) == (0, 0)
