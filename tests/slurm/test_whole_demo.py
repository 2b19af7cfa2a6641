"""`make demo` on a real Slurm: the phantom of its size, config/demo.yaml as it is."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.slurm.project import Project, new_project
from tests.slurm.sandbox import Sandbox

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

SHAPE = (40, 512, 512)
VOLUMES = ("train", "validation", "test")
SITE = ("--configfile", "config/demo.yaml")
PATIENCE_S = 2400


@dataclass(frozen=True)
class Run:
    project: Project
    said: str
    jobs: dict[str, dict[str, str]]
    """Of Slurm, by the comment."""

    @property
    def results(self) -> Path:
        return self.project.folder / "results/demo"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, slurm_session: Sandbox) -> Run:
    folder = tmp_path_factory.mktemp("whole") / "project"
    project = new_project(folder, slurm_session)
    phantom = [sys.executable, "-m", "unet_core.cli", "phantom", "--shape", *map(str, SHAPE)]
    subprocess.run([*phantom, "--out", str(folder / "resources/demo")], check=True)
    done = project.snakemake(*SITE, patience_s=PATIENCE_S)
    assert done.returncode == 0, done.stdout
    jobs = {row["Comment"]: row for row in slurm_session.accounted(folder)}
    return Run(project, done.stdout, jobs)


def test_the_whole_demo_comes_to_its_page_with_nothing_left_to_do(run: Run, slurm: Sandbox) -> None:
    assert (run.results / "report/index.html").is_file()
    for volume in VOLUMES:
        assert (run.results / f"volumes/{volume}/tiny/labels.ome.zarr/zarr.json").is_file()
    assert {row["State"] for row in run.jobs.values()} == {"COMPLETED"}
    assert slurm.squeue() == []
    assert "Nothing to be done" in run.project.snakemake(*SITE).stdout


def test_its_gpu_jobs_are_one_training_and_an_inference_for_each_volume(run: Run) -> None:
    on_gpus = {name: row for name, row in run.jobs.items() if row["Partition"] == "gpu"}
    assert sorted(on_gpus) == sorted(
        ["rule_train_wildcards_tiny", *(f"rule_infer_wildcards_{name}_tiny" for name in VOLUMES)]
    )
    assert all("gres/gpu=1" in row["ReqTRES"] for row in on_gpus.values())
    others = [row for row in run.jobs.values() if row["Partition"] == "cpu"]
    assert len(others) + len(on_gpus) == len(run.jobs)
    assert not any("gpu" in row["ReqTRES"] for row in others)


def test_its_volumes_are_inferred_at_a_time(run: Run) -> None:
    """Two of them: each asks for all CPUs of one of the two nodes with GPUs."""
    jobs = [row for name, row in run.jobs.items() if name.startswith("rule_infer")]
    assert sorted(row["Start"] for row in jobs)[1] < min(row["End"] for row in jobs)
