import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from unet_core.metrics.classes import accuracy, class_counts
from unet_core.metrics.contingency import contingency

classes = hnp.arrays(np.uint8, (4, 7), elements=st.integers(0, 3))


@given(truth=classes, found=classes)
def test_counts_are_those_of_each_class_against_all_others(
    truth: np.ndarray, found: np.ndarray
) -> None:
    counts = class_counts(contingency(truth, found), 4)
    for number, (tp, fp, fn) in enumerate(counts):
        t, f = truth == number, found == number
        assert (tp, fp, fn) == ((t & f).sum(), (f & ~t).sum(), (t & ~f).sum())
    assert accuracy(counts) == (truth == found).mean()


@given(truth=classes, found=classes)
def test_dice_follows_from_iou(truth: np.ndarray, found: np.ndarray) -> None:
    for count in class_counts(contingency(truth, found), 4):
        if not math.isnan(count.iou):
            assert count.dice == pytest.approx(2 * count.iou / (1 + count.iou))


def test_a_class_in_neither_has_no_score() -> None:
    counts = class_counts(contingency(np.array([0, 1, 1]), np.array([0, 0, 1])), 3)
    assert counts[1].iou == 0.5
    assert math.isnan(counts[2].iou)
    assert math.isnan(counts[2].dice)
    assert math.isnan(accuracy([]))
