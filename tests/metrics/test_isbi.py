import numpy as np
import pytest
from scipy import ndimage

from unet_core.geometry import IGNORED_ID
from unet_core.metrics.contingency import added as added_tables
from unet_core.metrics.contingency import contingency
from unet_core.metrics.information import information_scores
from unet_core.metrics.isbi import isbi_counts, isbi_scores, threshold_grid, truth_objects
from unet_core.metrics.rand import rand_scores
from unet_core.metrics.scores import added
from unet_core.metrics.thinning import components, thin_borders

GRID = threshold_grid(11)


def two_cells() -> tuple[np.ndarray, np.ndarray]:
    """Cells of 7 x 4 pixels with a membrane of 1 px between them, found 3 px wide."""
    truth, probability = np.ones((7, 9), np.uint32), np.ones((7, 9))
    truth[:, 4], probability[:, 3:6] = 0, 0
    return truth, probability


def sections(n: int, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(n):
        smooth = ndimage.gaussian_filter(rng.normal(size=(40, 50)), 2)
        noise = 0.05 * ndimage.gaussian_filter(rng.normal(size=(40, 50)), 1)
        truth = truth_objects((smooth > -0.02).astype(np.uint32))
        made.append((truth, np.round(np.clip(0.5 + 4 * (smooth + noise), 0, 1), 2)))
    return made


def test_the_grid_is_that_of_the_challenge() -> None:
    threshold, expected = 0.0, []
    while threshold <= 1:
        expected.append(threshold)
        threshold += 0.1
    assert expected == GRID
    assert GRID[-1] == 0.9999999999999999
    assert all(len(threshold_grid(n)) == n and max(threshold_grid(n)) <= 1 for n in range(2, 99))


def test_a_wide_membrane_between_two_cells() -> None:
    truth, probability = two_cells()
    scores = isbi_scores(isbi_counts(truth_objects(truth), probability, [0.5]), [0.5])
    assert scores["v_rand"]["best"] == scores["v_info"]["best"] == 1
    assert scores["rand_error"]["best"] == pytest.approx(1 - 2 * 896 / (1568 + 896))
    assert scores["pixel_error_plain"]["curve"] == [14 / 63]
    assert scores["pixel_error"]["curve"] == [14 / (2 * 42 + 14)]
    assert scores["warping_error"]["curve"] == [0]


def test_means_are_over_sections_and_sums_before_ratios() -> None:
    stack = sections(3)
    counts = added(isbi_counts(truth, probability, GRID) for truth, probability in stack)
    scores = isbi_scores(counts, GRID)
    for k, threshold in enumerate(GRID):
        thinned = [contingency(t, thin_borders(p > threshold)) for t, p in stack]
        f = [rand_scores(table, "n2_zero_is_singletons").f for table in thinned]
        assert scores["v_rand"]["curve"][k] == pytest.approx(np.mean(f), abs=1e-14)
        f = [information_scores(table).f for table in thinned]
        assert scores["v_info"]["curve"][k] == pytest.approx(np.mean(f), abs=1e-14)
        apart = [
            contingency(np.where(t, t + 10_000 * z, 0), np.where(s, s + 10_000 * z, 0))
            for z, (t, s) in enumerate((t, components(p > threshold)) for t, p in stack)
        ]
        whole = rand_scores(added_tables(apart), "n2_zero_is_singletons")
        assert scores["rand_error"]["curve"][k] == pytest.approx(whole.error, abs=1e-14)
        wrong = np.mean([(p > threshold) != (t > 0) for t, p in stack])
        assert scores["pixel_error_plain"]["curve"][k] == pytest.approx(wrong)


def test_the_best_is_the_highest_of_a_quality_and_the_lowest_of_an_error() -> None:
    counts = added(isbi_counts(truth, probability, GRID) for truth, probability in sections(2))
    scores = isbi_scores(counts, GRID)
    for name in ("v_rand", "v_info"):
        curve = scores[name]["curve"]
        assert scores[name]["best"] == max(curve)
        assert scores[name]["best_threshold"] == GRID[curve.index(max(curve))]
    for name in ("rand_error", "pixel_error", "pixel_error_plain"):
        assert scores[name]["best"] == min(scores[name]["curve"])
    assert scores["warping_error"]["best"] == min(scores["warping_error"]["curve"][:-1])


def test_the_value_at_the_calibrated_threshold_is_beside_the_curve() -> None:
    truth, probability = sections(1)[0]
    counts = isbi_counts(truth, probability, GRID)
    chosen = isbi_counts(truth, probability, [GRID[4]])
    scores = isbi_scores(counts, GRID, calibrated=chosen)
    for name in ("v_rand", "v_info", "rand_error", "pixel_error", "warping_error"):
        assert scores[name]["calibrated"] == scores[name]["curve"][4]
        assert "calibrated" not in isbi_scores(counts, GRID)[name]


def test_sections_without_truth_are_left_out_of_means() -> None:
    truth, probability = two_cells()
    one = isbi_counts(truth_objects(truth), probability, [0.5])
    none = isbi_counts(np.zeros((7, 9), np.uint32), probability, [0.5])
    scores = isbi_scores(added([one, none]), [0.5])
    assert scores["v_rand"]["curve"] == [1]
    empty = isbi_scores(none, [0.5])
    assert empty["v_rand"]["best"] is None
    assert empty["rand_error"]["curve"] == [None]
    assert empty["pixel_error"]["curve"] == [1]


def test_ignored_pixels_change_no_score() -> None:
    truth, probability = two_cells()
    truth[:2] = IGNORED_ID
    spoilt = probability.copy()
    spoilt[0, 0] = 0
    for p in (probability, spoilt):
        scores = isbi_scores(isbi_counts(truth_objects(truth), p, [0.5]), [0.5])
        assert scores["v_rand"]["best"] == 1
        assert scores["pixel_error_plain"]["best"] == 10 / 45
        assert scores["warping_error"]["best"] == 0


def test_equal_ids_apart_are_two_objects_and_touching_ids_are_too() -> None:
    truth = np.array([[5, 5, 7, 0, 5]], np.uint32)
    np.testing.assert_array_equal(truth_objects(truth), [[1, 1, 2, 0, 3]])
