"""An ensemble is one more model, a mask one more image of its volume: what reruns for them."""

import dataclasses
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.workflow.conftest import CONFIG, PRESET, Project, merged, rows
from tests.workflow.edits import of_volume, stages
from unet_core.config.workflow import load_workflow


def test_an_ensemble_is_one_more_model_that_is_not_trained(project: Project) -> None:
    jobs = project.plan(ensembles={"both": ["two", "one"]})
    assert jobs - {job for job in jobs if "model=both" in job} == {"all", "report"}
    assert stages(jobs) == {"infer", "calibrate", "stitch", "score", "montage", "report", "all"}


def test_a_member_that_is_trained_anew_makes_its_ensemble_stale(project: Project) -> None:
    both = {"ensembles": {"both": ["one", "two"]}}
    assert project.snakemake("--config", "ensembles={both: [one, two]}").returncode == 0
    assert project.plan(**both) == set()
    assert project.plan(ensembles={"both": ["two", "one"]}) == set(), "order counts for nothing"
    project.write("two.yaml", "model: {depth: 2, width: 4}\ntrain: {steps: 10}\n")
    jobs = project.plan(**both)
    assert {"train model=two", "infer volume=d model=both", "infer volume=d model=two"} <= jobs
    assert not any("model=one" in job for job in jobs)


def test_other_members_make_an_ensemble_stale_and_no_model(project: Project) -> None:
    project.write("three.yaml", PRESET)
    models = "models=[one.yaml,two.yaml,three.yaml]"
    assert project.snakemake("--config", models, "ensembles={both: [one, two]}").returncode == 0
    given = {"models": ["one.yaml", "two.yaml", "three.yaml"]}
    jobs = project.plan(**given, ensembles={"both": ["one", "three"]})
    assert "infer volume=d model=both" in jobs
    assert jobs - {job for job in jobs if "model=both" in job} == {"all", "report"}


def test_a_mask_is_read_by_what_speaks_of_its_volume(project: Project) -> None:
    project.write("data/d.mask", "mask of d")
    project.sheet([[*row, "data/d.mask" if row[0] == "d" else ""] for row in rows()])
    jobs = project.plan()
    assert jobs - of_volume(jobs, "d") == {"all", "report"}
    expected = {"convert mask", "infer", "stitch", "score", "montage"}
    assert stages(of_volume(jobs, "d")) == expected
    assert project.snakemake().returncode == 0
    assert project.plan() == set()
    path = project.folder / "data/d.mask"
    os.utime(path, (time.time() + 5, time.time() + 5))
    assert project.plan() == set(), "touched"
    path.write_text("mask of D")
    assert stages(of_volume(project.plan(), "d")) == expected


def test_a_mask_of_a_validation_volume_is_given_to_calibrate(project: Project) -> None:
    project.write("data/c.mask", "mask of c")
    project.sheet([[*row, "data/c.mask" if row[0] == "c" else ""] for row in rows()])
    jobs = project.plan()
    assert "convert volume=c image=mask" in jobs
    assert not any(job.startswith(("train", "augment", "weights")) for job in jobs)
    assert "calibrate model=one" in jobs


def test_settings_that_decide_no_voxel_are_passed_beside_those_that_do(
    fresh: Callable[[], Project], monkeypatch: pytest.MonkeyPatch
) -> None:
    project = fresh()
    monkeypatch.chdir(project.folder)
    project.write("two.yaml", "model: {depth: 2, norm: instance}\n")
    config = merged(CONFIG, {"ensembles": {"both": ["one", "two"]}})
    asked = load_workflow(config, presets=Path("presets"))
    every = set(dataclasses.asdict(asked.sections["infer"]))
    beside = {"tile_px", "on_error", "spread", "slab"}
    assert set(json.loads(asked.running())) == beside
    for model in ("one", "two", "both"):
        compared = json.loads(asked.settings("infer", model=model))["infer"]
        assert set(compared) == every - beside
