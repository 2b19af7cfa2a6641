import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.metrics import adapted_rand_error

from unet_core.errors import ConfigError
from unet_core.metrics.contingency import contingency
from unet_core.metrics.isbi import isbi_counts, truth_objects
from unet_core.metrics.scores import (
    added,
    label_counts,
    object_counts,
    scores_of,
    semantic_counts,
    summed,
)
from unet_core.metrics.thinning import grow_labels

SETTINGS = {
    "thresholds": [0.0, 0.5],
    "iou_thresholds": [0.5, 0.75],
    "calibrated_threshold": 0.25,
}
stacks = st.integers(1, 4).flatmap(
    lambda n: st.tuples(
        hnp.arrays(np.uint32, (n, 5, 6), elements=st.integers(0, 3)),
        hnp.arrays(np.uint64, (n, 5, 6), elements=st.integers(0, 3)),
    )
)


def counts_of(truth: np.ndarray, found: np.ndarray) -> dict[str, Any]:
    objects, probability = truth_objects(truth), found / 3
    table = contingency(objects, found)
    return {
        "labels": label_counts(table, contingency(objects, grow_labels(found.astype(np.int32)))),
        "objects": object_counts(table, SETTINGS["iou_thresholds"]),
        "foreground": semantic_counts(contingency(truth > 0, found > 0), 2),
        "classes": semantic_counts(contingency(truth, found), 4),
        "isbi": isbi_counts(objects, probability, SETTINGS["thresholds"]),
        "calibrated": isbi_counts(objects, probability, [SETTINGS["calibrated_threshold"]]),
    }


def scored(truth: np.ndarray, found: np.ndarray) -> dict[str, Any]:
    counts = added(counts_of(t, f) for t, f in zip(truth, found, strict=True))
    return {"settings": SETTINGS, "counts": counts, **scores_of(counts, SETTINGS)}


def alike(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            alike(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            alike(a, b)
    else:
        assert one == (pytest.approx(other, abs=1e-12) if isinstance(one, float) else other)


@given(stack=stacks, cut=st.integers(1, 3))
def test_scores_of_volumes_add_up_to_those_of_all_their_sections(
    stack: tuple[np.ndarray, np.ndarray], cut: int
) -> None:
    truth, found = (np.concatenate([part, part[::-1]]) for part in stack)
    parts = [scored(truth[s], found[s]) for s in np.s_[:cut, cut:] if len(truth[s])]
    alike(summed(parts), scored(truth, found))


@given(stack=stacks)
def test_scores_are_json_without_nan(stack: tuple[np.ndarray, np.ndarray]) -> None:
    scores = scored(*stack)
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores


def test_a_volume_alone_sums_to_itself() -> None:
    rng = np.random.default_rng(1)
    scores = scored(rng.integers(0, 3, (2, 5, 6), np.uint32), rng.integers(0, 3, (2, 5, 6)))
    assert summed([scores]) == scores


def test_objects_of_one_section_have_the_scores_of_scikit_image() -> None:
    rng = np.random.default_rng(2)
    truth, found = rng.integers(0, 5, (1, 9, 9), np.uint32), rng.integers(0, 5, (1, 9, 9))
    error, _, _ = adapted_rand_error(truth_objects(truth[0]), found[0])
    pairs = scored(truth, found)["objects"]["adapted_rand_error"]["pairs_zero_is_label"]
    assert pairs["error"] == pytest.approx(error)


def test_without_truth_relative_scores_are_null_and_a_reason_is_given() -> None:
    scores = scored(np.zeros((2, 5, 6), np.uint32), np.ones((2, 5, 6), np.uint64))
    assert "truth" in scores["missing"]
    assert scores["labels"]["v_rand"]["f"] is None
    assert scores["labels"]["v_rand"]["per_section"] == [None, None]
    assert scores["objects"]["voi"]["total"] is None
    assert scores["objects"]["seg"]["value"] is None
    assert scores["objects"]["average_precision"]["values"] == [0, 0]
    assert scored(np.ones((1, 5, 6), np.uint32), np.ones((1, 5, 6), int))["missing"] is None


def test_scores_made_with_other_settings_are_not_added() -> None:
    one = scored(np.ones((1, 5, 6), np.uint32), np.ones((1, 5, 6), int))
    with pytest.raises(ConfigError, match="different settings"):
        summed([one, {**one, "settings": {**SETTINGS, "thresholds": [0.5]}}])
    with pytest.raises(ConfigError, match="at least one"):
        summed([])
    with pytest.raises(ConfigError, match="2 and 1"):
        added([{"tp": [1, 2]}, {"tp": [1]}])
