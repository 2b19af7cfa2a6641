import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage
from skimage.metrics import adapted_rand_error, variation_of_information

import unet_core.stages.score as stage
from tests.stages.scored import SECTION, VOLUME, Made, calibration_file, write_store
from tests.stages.stores import told_of
from unet_core.config import ObjectsConfig, Resources, ScoreConfig
from unet_core.errors import BlockError, ConfigError, StoreError
from unet_core.geometry import IGNORED_ID, Block
from unet_core.metrics.scores import summed
from unet_core.run.crew import Done


@pytest.mark.parametrize("objects", [SECTION, VOLUME])
def test_chunks_do_not_show_in_the_scores(tmp_path: Path, objects: ObjectsConfig) -> None:
    made = [Made(tmp_path / str(z), chunk=(z, 16, 16)).score(objects=objects) for z in (1, 2, 3, 5)]
    for scores in made:
        scores.pop("provenance")
        assert scores == made[0]


def test_scores_of_two_volumes_add_up_to_those_of_all_sections(tmp_path: Path) -> None:
    whole = Made(tmp_path / "whole")
    parts = []
    for name, sections in {"one": slice(0, 2), "two": slice(2, None)}.items():
        part = Made(tmp_path / name)
        for role, data in (("truth", whole.truth), ("labels", whole.labels)):
            unet = {"truth": {"kind": "instances"}} if role == "truth" else {}
            part.paths[role] = write_store(tmp_path / name / f"cut-{role}", data[sections], **unet)
        part.paths["probabilities"] = write_store(
            tmp_path / name / "cut-probabilities",
            whole.stored[:, sections],
            **told_of(whole.stored),
        )
        parts.append(part.score())
    expected = whole.score()
    total = summed(parts)
    for variant in ("v_rand", "v_info", "rand_error", "warping_error"):
        assert total["isbi"][variant]["curve"] == pytest.approx(expected["isbi"][variant]["curve"])
    assert total["objects"]["panoptic"] == expected["objects"]["panoptic"]
    assert total["labels"]["v_rand"]["per_section"] == expected["labels"]["v_rand"]["per_section"]


def test_a_volume_that_is_its_own_truth_scores_one(tmp_path: Path) -> None:
    made = Made(tmp_path)
    own = np.where(made.truth == IGNORED_ID, 0, made.truth)
    inside = (own > 0)[None] * np.uint8(255)
    for objects in (SECTION, VOLUME):
        folder = tmp_path / objects.scope
        made.paths["labels"] = write_store(folder / "own", own.astype(np.uint64))
        made.paths["probabilities"] = write_store(folder / "inside", inside, **told_of(inside))
        if objects is SECTION:
            pieces = np.stack([ndimage.label(section > 0)[0] for section in own])
            made.paths["labels"] = write_store(folder / "pieces", pieces.astype(np.uint64))
        scores = made.score(objects=objects)
        assert scores["labels"]["v_rand"]["precision"] == 1
        assert scores["objects"]["adapted_rand_error"]["n2_zero_is_label"]["error"] == 0
        assert scores["objects"]["voi"]["total"] == 0
        assert scores["objects"]["panoptic"]["pq"] == 1
        assert scores["objects"]["seg"]["value"] == 1
        assert scores["foreground"]["iou"] == scores["foreground"]["accuracy"] == 1
        assert scores["isbi"]["pixel_error"]["best"] == scores["isbi"]["rand_error"]["best"] == 0
        assert scores["isbi"]["warping_error"]["best"] == 0


def test_volume_scores_are_those_of_scikit_image_on_the_whole_volume(tmp_path: Path) -> None:
    made = Made(tmp_path)
    scores = made.score(objects=VOLUME)["objects"]
    known = made.truth != IGNORED_ID
    truth, labels = made.truth[known], np.unique(made.labels[known], return_inverse=True)[1]
    error = adapted_rand_error(truth, labels)[0]
    assert scores["adapted_rand_error"]["pairs_zero_is_label"]["error"] == pytest.approx(error)
    split, merge = variation_of_information(truth, labels, ignore_labels=(0,))
    assert scores["voi"]["split"] == pytest.approx(split)
    assert scores["voi"]["merge"] == pytest.approx(merge)


def test_workers_and_kills_do_not_show_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Made(tmp_path, chunk=(1, 16, 16))
    made.score()
    expected = made.out.read_bytes()
    count = stage.count_sections

    def fail_late(block: Block, **settings: Any) -> Done:
        if block.write.start[0] >= 3:
            raise OSError("disk full")
        return count(block, **settings)

    monkeypatch.setattr(stage, "count_sections", fail_late)
    with pytest.raises(BlockError):
        made.score()
    assert not made.out.exists()
    monkeypatch.setattr(stage, "count_sections", count)
    made.score()
    assert made.out.read_bytes() == expected
    made.score(resources=Resources(threads=2))
    assert made.out.read_bytes() == expected
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith("scores")) == [
        "scores.json"
    ]


def test_sections_counted_under_another_cut_are_not_taken_for_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same voxels in other chunks: the same content, but a block is other sections."""
    expected = Made(tmp_path / "undisturbed", chunk=(4, 16, 16)).score()
    count = stage.count_sections

    def fail_late(block: Block, **settings: Any) -> Done:
        if block.write.start[0] >= 2:
            raise OSError("disk full")
        return count(block, **settings)

    monkeypatch.setattr(stage, "count_sections", fail_late)
    with pytest.raises(BlockError):
        Made(tmp_path / "x", chunk=(1, 16, 16)).score()
    monkeypatch.setattr(stage, "count_sections", count)
    for name in ("truth", "labels", "probabilities"):
        shutil.rmtree(tmp_path / "x" / name)
        (tmp_path / "x" / f"{name}.ledger.jsonl").unlink()
    scores = Made(tmp_path / "x", chunk=(4, 16, 16)).score()
    assert scores == expected


def test_the_file_names_no_place_and_no_time(tmp_path: Path) -> None:
    one, other = Made(tmp_path / "one"), Made(tmp_path / "other")
    one.score()
    other.score()
    assert one.out.read_bytes() == other.out.read_bytes()
    assert str(tmp_path) not in one.out.read_text()


@pytest.mark.parametrize("objects", [SECTION, VOLUME])
def test_semantic_truth_is_scored_by_class_and_its_components_as_objects(
    tmp_path: Path, objects: ObjectsConfig
) -> None:
    made = Made(tmp_path / "semantic", kind="semantic")
    scores = made.score(objects=objects)
    ids = Made(tmp_path / "ids").score(objects=objects)
    found = 2 * made.stored[0].astype(int) > 255
    known = made.truth != IGNORED_ID
    iou = (found & (made.truth == 1) & known).sum() / ((found | (made.truth == 1)) & known).sum()
    assert scores["classes"]["iou"][1] == pytest.approx(iou)
    assert len(scores["classes"]["iou"]) == 2
    assert ids["classes"] is None
    assert scores["foreground"] == ids["foreground"]
    if objects is SECTION:
        assert scores["objects"] == ids["objects"]
    else:
        assert scores["objects"]["seg"]["value"] is not None


@pytest.mark.parametrize("dtype", ["uint8", "float16"])
@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_of_classes_by_themselves_none_is_found_where_none_is_above_a_half(
    tmp_path: Path, output: str, dtype: str
) -> None:
    # Probabilities of classes 1 and 2 in three voxels; class 0 has the rest, or none of its own.
    probability = np.array([[0.4, 0.6, 0.2], [0.3, 0.7, 0.9]])[:, None, None]
    whole = 255 if dtype == "uint8" else 1
    stored = (probability * whole).round(2).astype(dtype)
    found = {"softmax": [1, 2, 2], "sigmoid": [0, 2, 2]}[output]
    made = Made(tmp_path / "m", kind="semantic")
    told = told_of(stored, model={"output": output})
    truth = np.array([[[0, 2, 1]]], np.uint32)
    for name, data, unet in (
        ("probabilities", stored, told),
        ("truth", truth, {"truth": {"kind": "semantic"}}),
        ("labels", truth.astype(np.uint64), {}),
    ):
        made.paths[name] = write_store(tmp_path / name, data, **unet)
    classes = made.score()["classes"]
    assert classes["accuracy"] == pytest.approx((truth.ravel() == found).mean())


def test_half_floats_score_like_bytes(tmp_path: Path) -> None:
    fine = Made(tmp_path / "fine", dtype="float16").score()
    coarse = Made(tmp_path / "coarse").score()
    assert fine["labels"] == coarse["labels"]
    assert fine["isbi"]["v_rand"]["curve"][1] == pytest.approx(
        coarse["isbi"]["v_rand"]["curve"][1], abs=0.05
    )


def test_the_calibrated_threshold_is_scored_beside_the_curve(tmp_path: Path) -> None:
    made = Made(tmp_path)
    for method in ("threshold", "watershed"):  # whatever the objects are made with
        chosen = made.score(calibration=calibration_file(tmp_path, method=method, threshold=0.5))
        assert chosen["isbi"]["calibrated_threshold"] == 0.5
        assert chosen["isbi"]["v_rand"]["calibrated"] == chosen["isbi"]["v_rand"]["curve"][1]
    untried = made.score(calibration=calibration_file(tmp_path, method="watershed"))
    assert "calibrated" not in untried["isbi"]["v_rand"]


def test_without_the_isbi_set_the_other_scores_stay(tmp_path: Path) -> None:
    made = Made(tmp_path)
    without = made.score(ScoreConfig(isbi=False))
    assert without["isbi"] is None
    assert without["labels"]["v_rand"]["f"] > 0.5


def test_empty_truth_gives_null_and_a_reason(tmp_path: Path) -> None:
    made = Made(tmp_path, sections=1)
    nothing = np.zeros_like(made.truth)
    made.paths["truth"] = write_store(tmp_path / "none", nothing, truth={"kind": "binary"})
    for objects in (SECTION, VOLUME):
        scores = made.score(objects=objects)
        assert scores["missing"]
        assert scores["labels"]["v_rand"]["f"] is None
        assert scores["isbi"]["v_rand"]["best"] is None
        assert scores["objects"]["voi"]["total"] is None


def test_stores_that_do_not_fit_each_other_are_refused(tmp_path: Path) -> None:
    made = Made(tmp_path)
    with pytest.raises(ConfigError, match=r"class 2.*classes 1;"):
        made.score(objects=ObjectsConfig(foreground=2))
    with pytest.raises(StoreError, match="calibrate"):
        made.score(calibration=calibration_file(tmp_path, threshold="high"))
    made.paths["labels"] = write_store(tmp_path / "short", made.labels[:2])
    with pytest.raises(StoreError, match="same voxels"):
        made.score()
    made.paths["truth"] = made.paths["probabilities"]
    with pytest.raises(StoreError, match="no truth store"):
        made.score()
