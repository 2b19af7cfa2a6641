"""All rules on a real Slurm, for three small volumes, by the command lines of users."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.slurm.project import REPOSITORY, Project, new_project
from tests.slurm.sandbox import Sandbox

pytestmark = pytest.mark.slow

CUT = {"chunk": [2, 32, 32], "shard": [4, 96, 96]}
VOLUMES = {
    "learn": ("train", "0:4", "both"),
    "choose": ("validation", "4:6"),
    "wide": ("predict", "0:8", "both"),
}
"""With `CUT` the first two are small, of one block."""


@dataclass(frozen=True)
class Run:
    project: Project
    code: int
    said: str
    jobs: dict[str, dict[str, str]]
    """Of Slurm, by the comment: rule and wildcards, or group and rules."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, slurm_session: Sandbox) -> Run:
    folder = tmp_path_factory.mktemp("demo") / "project"
    project = new_project(folder, slurm_session, volumes=VOLUMES, convert=CUT)
    done = project.snakemake()
    jobs = {row["Comment"]: row for row in slurm_session.accounted(folder)}
    return Run(project, done.returncode, done.stdout, jobs)


def asked(said: str) -> dict[str, tuple[str, str, str]]:
    """Threads, memory and run time of each job that is no group, by the name Slurm has for it."""
    found = {}
    for block in re.split(r"\n(?=\[|rule |checkpoint |group job )", said):
        if not (rule := re.match(r"(?:rule|checkpoint) (\w+):", block)):
            continue
        given = dict(re.findall(r"^ {4}(\w+): (.*)$", block, re.MULTILINE))
        resources = dict(each.split("=", 1) for each in given["resources"].split(", "))
        wildcards = [each.split("=")[1] for each in given.get("wildcards", "").split(", ") if each]
        name = "_wildcards_".join(
            [f"rule_{rule[1]}", *(["_".join(wildcards)] if wildcards else [])]
        )
        found[name] = given.get("threads", "1"), resources["mem_mb"], resources["runtime"]
    return found


def test_small_volumes_come_through_all_rules_to_the_page_and_leave_the_queue_empty(
    run: Run, slurm: Sandbox
) -> None:
    assert run.code == 0, run.said
    assert (run.project.results / "report/index.html").is_file()
    assert {row["State"] for row in run.jobs.values()} == {"COMPLETED"}
    assert slurm.squeue() == []
    assert "Nothing to be done" in run.project.snakemake().stdout


def test_training_and_inference_get_a_gpu_and_all_others_none(run: Run) -> None:
    for name, job in run.jobs.items():
        wanted = bool(re.match("rule_(train|infer)", name))
        assert job["Partition"] == ("gpu" if wanted else "cpu"), name
        assert re.findall(r"gres/gpu=(\d+)", job["ReqTRES"]) == (["1"] if wanted else []), name
        assert job["Account"] == "lab"
    assert sum(job["Partition"] == "gpu" for job in run.jobs.values()) == 3


def test_slurm_is_asked_for_what_the_rules_ask_for(run: Run) -> None:
    told = {name: wanted for name, wanted in asked(run.said).items() if name in run.jobs}
    assert len(told) == len(run.jobs) - 2, "all but the two groups"
    for name, (threads, memory_mb, minutes) in told.items():
        job = run.jobs[name]
        found = job["ReqCPUS"], job["ReqMem"], job["TimelimitRaw"]
        assert found == (threads, f"{memory_mb}M", minutes), name


def test_jobs_of_small_volumes_share_jobs_that_ask_for_no_more_than_one_large_volume_does(
    run: Run,
) -> None:
    shared = {
        name: job for name, job in run.jobs.items() if re.match("rule_(prepare|finish)", name)
    }
    assert len(shared) == 2
    assert all(int(job["ReqCPUS"]) <= 8 for job in shared.values())
    assert len(run.jobs) == 12
    done = set(re.findall(r"^Finished jobid: (\d+)", run.said, re.MULTILINE))
    assert len(done) == 23, "jobs of Snakemake, `all` among them"


def test_the_workflow_profile_does_the_same_and_groups_can_be_made_smaller(
    slurm: Sandbox, lab: Callable[..., Project]
) -> None:
    project = lab(volumes=VOLUMES, convert=CUT)
    wanted = [f"results/volumes/{name}/weights.ome.zarr/zarr.json" for name in ("learn", "choose")]
    asked_for = ("--group-components", "prepare=1", "--", *wanted)
    run = project.snakemake(*asked_for, profile=["--workflow-profile", "slurm"])
    assert run.returncode == 0, run.stdout
    jobs = slurm.accounted(project.folder)
    assert [job["Comment"] for job in jobs] == ["rule_prepare_convert_weights"] * 2
    assert {(job["Account"], job["Partition"], job["ReqCPUS"]) for job in jobs} == {
        ("lab", "cpu", "1")
    }
    assert slurm.squeue() == []


def test_the_shipped_profile_asks_the_scheduler_seldom_and_needs_three_lines_of_a_site() -> None:
    text = (REPOSITORY / "profiles/slurm/config.yaml").read_text()
    profile = yaml.safe_load(text)
    assert profile["slurm-status-command"] == "squeue"
    assert profile["slurm-init-seconds-before-status-checks"] >= 40
    assert "slurm-array-jobs" not in profile
    assert sum("# site" in line for line in text.splitlines()) <= 4
    default = yaml.safe_load((REPOSITORY / "profiles/default/config.yaml").read_text())
    assert default["scheduler"] == "greedy"
    assert Path(REPOSITORY / "slurm").resolve() == REPOSITORY / "profiles/slurm"
