"""Calibration finds the threshold or watershed that is right by construction."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.stages.stores import mask_store, told_of
from unet_core.config import CalibrateConfig, ObjectsConfig, Resources, StitchConfig
from unet_core.errors import ConfigError, PlanError, StoreError
from unet_core.geometry import IGNORED_ID
from unet_core.io.arrays import create_array
from unet_core.io.calibration import read_calibration, read_threshold
from unet_core.io.ledger import building
from unet_core.io.ngff import content_of, multiscale
from unet_core.stages.calibrate import calibrate_objects, candidates_of

THRESHOLDS = CalibrateConfig(methods=("threshold",))
OBJECTS = ObjectsConfig(min_size_vx=4)


def store(path: Path, values: np.ndarray, *, stage: str, unet: dict) -> Path:
    axes = "czyx"[-values.ndim :]
    with building(path, stage=stage, settings={}, inputs={"sum": str(values.sum())}) as build:
        keys = {
            "shape": values.shape,
            "dtype": values.dtype,
            "chunk": (2, 8, 8),
            "shard": (2, 8, 8),
        }
        create_array(path, "0", **keys)[:] = values
        build.publish(ome=multiscale("v", axes=axes, voxel_size_nm=(8, 4, 4)), unet=unet)
    return path


def calibrated(
    folder: Path,
    probability: np.ndarray,
    truth: np.ndarray,
    config: CalibrateConfig = THRESHOLDS,
    objects: ObjectsConfig = OBJECTS,
    kind: str = "instances",
    mask: np.ndarray | None = None,
    **keys,
) -> dict:
    masks = [] if mask is None else [mask_store(folder / "m.zarr", mask)]
    told = told_of(probability, mask=content_of(masks[0]) if masks else None)
    p = store(folder / "p.zarr", probability, stage="infer", unet=told)
    t = store(
        folder / "t.zarr",
        truth.astype(np.uint32),
        stage="convert",
        unet={"truth": {"kind": kind}},
    )
    out = folder / "calibration.json"
    calibrate_objects(
        config,
        objects=objects,
        probabilities=[p],
        truth=[t],
        masks=masks,
        out=out,
        resources=Resources(**keys),
    )
    return json.loads(out.read_text())


def two_cells(sections: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Two cells, p = 0.9, and a membrane between them that is inside up to p = 0.6."""
    probability = np.full((1, sections, 9, 13), 230, np.uint8)
    probability[..., 6] = 153
    truth = np.ones((sections, 9, 13), int)
    truth[..., 6], truth[..., 7:] = 0, 2
    return probability, truth


@pytest.mark.parametrize("measure", ["v_rand", "adapted_rand"])
@pytest.mark.parametrize("scope", ["section", "volume"])
def test_the_middle_of_the_right_thresholds_is_chosen(
    tmp_path: Path, measure: str, scope: str
) -> None:
    config = CalibrateConfig(methods=("threshold",), measure=measure)
    objects = ObjectsConfig(min_size_vx=4, scope=scope)
    found = calibrated(tmp_path, *two_cells(sections=2), config, objects)
    right = [c for c in found["candidates"] if 0.6 < c["threshold"] < 230 / 255]
    assert found["best"] == right[(len(right) - 1) // 2]
    for candidate in found["candidates"]:
        assert (candidate["value"] == 1) == (candidate in right)
    assert read_calibration(tmp_path / "calibration.json") == StitchConfig(
        method="threshold", threshold=found["best"]["threshold"]
    )


def test_a_merger_of_two_equal_cells_costs_what_the_formula_says(tmp_path: Path) -> None:
    """Precision 1/2, recall 1: F = 2/3 of all sections alike."""
    found = calibrated(tmp_path, *two_cells())
    merged = [c["value"] for c in found["candidates"] if c["threshold"] < 0.6]
    np.testing.assert_allclose(merged, 2 / 3)


def test_watershed_wins_where_no_threshold_parts_all_cells(tmp_path: Path) -> None:
    """One membrane is brighter than another cell's inside: every threshold merges or loses one."""
    widths = [5, 1, 5, 1, 4, 1, 4]
    row = np.repeat([250, 240, 250, 20, 60, 40, 60], widths).astype(np.uint8)
    probability = np.tile(row, (1, 1, 9, 1))
    truth = np.tile(np.repeat([1, 0, 2, 0, 3, 0, 4], widths), (1, 9, 1))
    config = CalibrateConfig(smoothing_px=(0.0,), depths=(0.02, 0.5))
    found = calibrated(tmp_path, probability, truth, config)
    assert found["best"] == {
        "method": "watershed",
        "smoothing_px": 0.0,
        "depth": 0.02,
        "value": 1.0,
    }
    assert read_calibration(tmp_path / "calibration.json").depth == 0.02
    thresholds = [c for c in found["candidates"] if c["method"] == "threshold"]
    assert found["best_threshold"]["value"] == max(c["value"] for c in thresholds)
    threshold = found["best_threshold"]["threshold"]
    assert read_threshold(tmp_path / "calibration.json") == threshold


def test_ties_go_to_the_threshold(tmp_path: Path) -> None:
    found = calibrated(tmp_path, *two_cells(), CalibrateConfig())
    assert found["best"]["method"] == "threshold"
    assert [c["value"] for c in found["candidates"] if c["method"] == "watershed"].count(1.0) > 0


def test_classes_are_compared_as_components_of_the_foreground(tmp_path: Path) -> None:
    probability, truth = two_cells()
    classes = np.where(truth > 0, 2, 1)
    probability = np.concatenate([255 - probability, probability])
    objects = ObjectsConfig(foreground=2, min_size_vx=4)
    found = calibrated(tmp_path, probability, classes, objects=objects, kind="semantic")
    assert 0.6 < found["best"]["threshold"] < 0.9
    assert found["best"]["value"] == 1


def test_ignored_voxels_and_sections_without_truth_count_for_nothing(tmp_path: Path) -> None:
    probability, truth = two_cells(sections=3)
    probability[0, 0, 3:6] = 90  # wrong, where truth is ignored
    truth[0, 3:6], truth[2] = IGNORED_ID, 0
    found = calibrated(tmp_path, probability, truth)
    assert found["best"]["value"] == 1


def test_the_result_does_not_depend_on_the_workers(tmp_path: Path) -> None:
    noise = np.random.default_rng(2).integers(0, 256, (1, 3, 16, 16)).astype(np.uint8)
    truth = np.random.default_rng(3).integers(0, 4, (3, 4, 4)).repeat(4, 1).repeat(4, 2)
    config = CalibrateConfig(smoothing_px=(1.0,), depths=(0.05, 0.1))
    calibrated(tmp_path / "one", noise, truth, config)
    calibrated(tmp_path / "two", noise, truth, config, threads=2)
    one, two = ((tmp_path / n / "calibration.json").read_bytes() for n in ("one", "two"))
    assert one == two
    left = {path.name for path in (tmp_path / "two").glob("calibration*")}
    assert left == {"calibration.json"}


def test_thresholds_are_evenly_spaced_in_logit() -> None:
    values = np.array([c["threshold"] for c in candidates_of(CalibrateConfig())[:60]])
    assert (values[0], values[-1]) == (0.002, 0.998)
    np.testing.assert_allclose(np.diff(np.log(values / (1 - values)), 2), 0, atol=1e-2)
    grid = len(CalibrateConfig().smoothing_px) * len(CalibrateConfig().depths)
    assert len(candidates_of(CalibrateConfig())) == 60 + grid


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    probability, truth = two_cells()
    with pytest.raises(StoreError, match="holds no object"):
        calibrated(tmp_path / "a", probability, truth * 0)
    with pytest.raises(StoreError, match="no truth store"):
        calibrated(tmp_path / "b", probability, truth, kind="")
    with pytest.raises(StoreError, match="same voxels"):
        calibrated(tmp_path / "c", probability, truth[:, 1:])
    with pytest.raises(ConfigError, match="has the classes 1;"):
        calibrated(tmp_path / "d", probability, truth, objects=ObjectsConfig(foreground=2))
    with pytest.raises(PlanError, match=r"\(1, 9, 13\) voxels need about 300 MB, the job has 100"):
        calibrated(
            tmp_path / "e", probability, truth, objects=ObjectsConfig(scope="volume"), memory_mb=100
        )
    with pytest.raises(StoreError, match="1 stores of probabilities and 0 of truth"):
        calibrate_objects(
            CalibrateConfig(),
            objects=OBJECTS,
            probabilities=[tmp_path / "a/p.zarr"],
            truth=[],
            out=tmp_path / "x.json",
            resources=Resources(),
        )


@pytest.mark.parametrize("scope", ["section", "volume"])
@pytest.mark.parametrize("measure", ["v_rand", "adapted_rand"])
@pytest.mark.parametrize("method", ["threshold", "watershed"])
def test_what_lies_outside_of_the_mask_counts_for_nothing(
    tmp_path: Path, scope: str, measure: str, method: str
) -> None:
    """Right cells inside; outside truth says one thing and the probability another."""
    probability, truth = two_cells(sections=2)
    probability, truth = (np.concatenate([a, a], axis=-2) for a in (probability, truth))
    inside = np.ones(truth.shape, np.uint8)
    inside[:, 9:] = 0
    truth[:, 9:] = np.arange(9 * 13).reshape(9, 13) + 5
    config = CalibrateConfig(
        methods=(method,), measure=measure, smoothing_px=(0.0,), depths=(0.01, 0.05)
    )
    objects = ObjectsConfig(min_size_vx=4, scope=scope)
    found = calibrated(tmp_path, probability, truth, config, objects, mask=inside)
    assert found["best"]["value"] == 1
