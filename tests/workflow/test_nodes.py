"""Several nodes in a profile: what the rules ask a cluster for, and what they tell the command."""

import json
from collections.abc import Callable

import pytest

from tests.workflow.conftest import CONFIG, Project
from tests.workflow.test_resources import headers_of

WARNS = "--signal=USR1@120"


@pytest.mark.parametrize(
    ("rule", "survives"), [("infer", True), ("stitch", True), ("train", False)]
)
def test_a_rule_with_several_nodes_is_one_job_that_starts_its_steps_itself(
    fresh: Callable[[], Project], rule: str, survives: bool
) -> None:
    project = fresh()
    if rule == "infer":
        project.write("overlay.yaml", json.dumps({**CONFIG, "infer": {"spread": "nodes"}}))
    gpus = 0 if rule == "stitch" else 4
    given = [f"{rule}:nodes=2", *([f"{rule}:gpu=4"] if gpus else []), f"{rule}:interface=ib0"]
    given += ["--default-resources", f"slurm_extra={WARNS}"]
    run = project.snakemake("--dry-run", "--printshellcmds", "--set-resources", *given)
    assert run.returncode == 0, run.stdout
    jobs = [job for job in run.stdout.split("\n\n") if f"\nrule {rule}:" in f"\n{job}"]
    assert jobs
    for job in jobs:
        assert "--nodes 2 --launcher srun --interface ib0" in job
        extra = [WARNS, *(["--gpus-per-node=2"] if gpus else []), *(["--no-kill"] * survives)]
        told = " ".join(extra)
        for resource in ("mpi=srun", "tasks=2", "nodes=2", f"slurm_extra={told}"):
            assert resource in job
    others = [job for job in run.stdout.split("\n\n") if f"\nrule {rule}:" not in f"\n{job}"]
    assert "--launcher" not in "".join(others)
    assert "mpi=" not in "".join(others)


def test_nodes_are_no_reason_to_run_anything_again(project: Project) -> None:
    run = project.snakemake("--dry-run", "--set-resources", "weights:nodes=2", "stitch:nodes=3")
    assert "Nothing to be done" in run.stdout, run.stdout


def test_what_a_profile_asks_of_slurm_for_a_rule_is_kept(fresh: Callable[[], Project]) -> None:
    given = ["stitch:nodes=2", "stitch:slurm_extra='--exclusive'"]
    run = fresh().snakemake("--dry-run", "--set-resources", *given)
    assert "slurm_extra=--exclusive --no-kill" in run.stdout


def test_a_driver_of_worker_jobs_has_little_itself_and_tells_them_theirs(
    fresh: Callable[[], Project],
) -> None:
    project = fresh()
    project.write("overlay.yaml", json.dumps({**CONFIG, "infer": {"spread": "nodes"}}))
    given = ["infer:worker_jobs=2", "infer:gpu=4", "infer:mem_mb=32000*attempt"]
    headers_of(project, **{name: [40, 700, 700] for name in "abcdef"})
    run = project.snakemake("--dry-run", "--printshellcmds", "--set-resources", *given)
    assert run.returncode == 0, run.stdout
    jobs = [job for job in run.stdout.split("\n\n") if "\nrule infer:" in f"\n{job}"]
    assert jobs
    for job in jobs:
        assert "gpu=4" not in job
        assert "mpi=" not in job
        assert " mem_mb=1000," in job, "the driver computes no block"
        assert "--nodes 2 --launcher jobqueue --gpus 4 --memory-mb 32000" in job


@pytest.mark.parametrize(
    ("spread", "given", "told"),
    [
        ("nodes", [], "infer.spread is nodes, and the profile gives infer one"),
        ("job", ["infer:nodes=2"], "infer.spread: nodes alone, not with job"),
        ("slabs", ["infer:worker_jobs=2"], "infer.spread: nodes alone, not with slabs"),
        ("job", ["train:worker_jobs=2"], "train worker_jobs, which it cannot use"),
        ("job", ["stitch:worker_jobs=2", "stitch:nodes=2"], "which exclude nodes"),
    ],
)
def test_nodes_that_would_be_of_no_use_are_refused(
    fresh: Callable[[], Project], spread: str, given: list[str], told: str
) -> None:
    project = fresh()
    project.write("overlay.yaml", json.dumps({**CONFIG, "infer": {"spread": spread}}))
    more = ["--set-resources", *given] if given else []
    run = project.snakemake("--dry-run", *more)
    assert run.returncode
    assert told in " ".join(run.stdout.split())
