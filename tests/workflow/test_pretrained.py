"""Models that begin with weights of a file, or are used as they are: what runs, and what reruns."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from tests.workflow.conftest import Project, rows
from tests.workflow.edits import stages
from unet_core.config import NetworkConfig
from unet_core.net.initial import initialise
from unet_core.net.network import Network

TUNED = "model: {depth: 2, width: 8}\ntrain: {steps: 10}\npretrained: {file: w.pth}\n"
READY = "model: {depth: 2, width: 8}\ntrain: {steps: 0}\npretrained: {file: w.pth}\n"


@pytest.fixture
def tuned(fresh: Callable[[], Project]) -> Project:
    """A finished project of one model that is fine-tuned and one that is taken as it is."""
    project = fresh()
    project.write("one.yaml", TUNED)
    project.write("two.yaml", READY)
    project.write("w.pth", "weights")
    run = project.snakemake()
    assert run.returncode == 0, run.stdout
    return project


def test_weights_of_a_file_are_imported_once_for_each_model(tuned: Project) -> None:
    assert tuned.plan() == set()
    models = tuned.folder / "results/models"
    assert (models / "one/initial.pt").exists()
    assert (models / "one/history.csv").exists()
    assert {path.name for path in (models / "two").iterdir()} >= {"best.pt", "model.json"}
    assert not (models / "two/initial.pt").exists()


def test_other_weights_retrain_their_model_and_nothing_else(tuned: Project) -> None:
    tuned.write("w.pth", "other weights")
    jobs = tuned.plan()
    assert {"import_initial model=one", "train model=one", "import_weights model=two"} <= jobs
    assert "train model=two" not in jobs
    assert not any(job.startswith(("convert", "weights", "augment")) for job in jobs)


def test_weights_that_are_moved_touched_or_read_otherwise(tuned: Project) -> None:
    shutil.move(tuned.folder / "w.pth", tuned.folder / "moved.pth")
    for name, text in (("one", TUNED), ("two", READY)):
        tuned.write(f"{name}.yaml", text.replace("w.pth", "moved.pth"))
    assert tuned.plan() == set()
    tuned.write("one.yaml", TUNED.replace("w.pth", "moved.pth, normalise: none"))
    assert {"import_initial model=one", "train model=one"} <= tuned.plan()
    assert not any("model=two" in job for job in tuned.plan())


def test_weights_are_for_intensities_as_patches_have_them_unless_it_is_said(tuned: Project) -> None:
    jobs = tuned.plan(augment={"normalise": "imagenet"})
    assert {"import_initial model=one", "import_weights model=two", "augment fold=train"} <= jobs
    assert "infer volume=e model=two" in jobs


def test_a_model_that_is_ready_needs_no_truth(fresh: Callable[[], Project]) -> None:
    project = fresh()
    project.write("w.pth", "weights")
    project.write("one.yaml", READY)
    project.sheet([row for row in rows() if row[0] == "e"])
    jobs = project.plan(models=["one.yaml"])
    assert stages(jobs) == {
        *("convert raw", "import_weights", "infer", "stitch", "montage", "report", "all"),
    }


def test_no_steps_and_no_weights_are_refused(fresh: Callable[[], Project]) -> None:
    project = fresh()
    project.write("one.yaml", "train: {steps: 0}\n")
    told = project.snakemake("-n").stdout
    assert "train.steps is 0 and pretrained.file is not set" in told


@pytest.mark.slow
def test_a_run_without_truth_ends_with_a_report(fresh: Callable[[], Project]) -> None:
    project = fresh()
    network = initialise(Network.of(NetworkConfig(depth=1, width=8)), seed=0)
    torch.save({"state_dict": network.state_dict()}, project.folder / "w.pth")
    project.write("one.yaml", READY.replace("depth: 2", "depth: 1"))
    image = np.random.default_rng(0).integers(0, 255, (2, 48, 48), np.uint8)
    tifffile.imwrite(project.folder / "e.tif", image, photometric="minisblack")
    project.sheet([["e", "e.tif", "-", "predict", "50,4,4", ""]])
    project.write("overlay.yaml", '{"models": ["one.yaml"], "augment": {"patch": [1, 20, 20]}}')
    run = project.snakemake(real=True)
    assert run.returncode == 0, run.stdout
    assert (project.folder / "results/report/index.html").exists()
    assert Path(project.folder / "results/volumes/e/one/labels.ome.zarr/zarr.json").exists()
