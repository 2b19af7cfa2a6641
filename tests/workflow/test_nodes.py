"""Several nodes in a profile: what the rules ask a cluster for, and what they tell the command."""

import json
from collections.abc import Callable

import pytest

from tests.workflow.conftest import CONFIG, Project


@pytest.mark.parametrize(
    ("rule", "survives"), [("infer", True), ("stitch", True), ("train", False)]
)
def test_a_rule_with_several_nodes_is_one_job_that_starts_its_steps_itself(
    fresh: Callable[[], Project], rule: str, survives: bool
) -> None:
    project = fresh()
    project.write("overlay.yaml", json.dumps({**CONFIG, "infer": {"spread": "nodes"}}))
    gpus = 0 if rule == "stitch" else 4
    given = [f"{rule}:nodes=2", *([f"{rule}:gpu=4"] if gpus else []), f"{rule}:interface=ib0"]
    run = project.snakemake("--dry-run", "--printshellcmds", "--set-resources", *given)
    assert run.returncode == 0, run.stdout
    jobs = [job for job in run.stdout.split("\n\n") if f"\nrule {rule}:" in f"\n{job}"]
    assert jobs
    for job in jobs:
        assert "--nodes 2 --launcher srun --interface ib0" in job
        told = "--no-kill" if survives else ""
        told = f"--gpus-per-node=2 {told}".strip() if gpus else told
        for resource in ("mpi=srun", "tasks=2", "nodes=2", f"slurm_extra={told}"):
            assert resource in job
    others = [job for job in run.stdout.split("\n\n") if f"\nrule {rule}:" not in f"\n{job}"]
    assert "--launcher" not in "".join(others)
    assert "mpi=" not in "".join(others)


def test_nodes_are_no_reason_to_run_anything_again(project: Project) -> None:
    run = project.snakemake("--dry-run", "--set-resources", "weights:nodes=2", "stitch:nodes=3")
    assert "Nothing to be done" in run.stdout, run.stdout
