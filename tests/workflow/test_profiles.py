"""The profiles: all plan the workflow; those of queues run jobs on stand-ins of their commands."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.workflow.conftest import REPOSITORY, Project

PROFILES = REPOSITORY / "profiles"
STANDINS = Path(__file__).parent / "queue"
QUEUES = ("kubernetes", "lsf", "pbs", "sge")

SNAKEFILE = """
rule all:
    input: "trained"

rule convert:
    output: "converted"
    threads: 2
    resources: mem_mb=lambda wildcards, attempt: 1000 * attempt, runtime=10
    # The first attempt is killed with all of its job, as for too much memory.
    shell: "test {resources.mem_mb} -gt 1000 || kill -KILL 0; echo {resources.mem_mb} > {output}"

rule train:
    input: "converted"
    output: "trained"
    threads: 2
    resources: gpu=0, mem_mb=3000, runtime=10
    shell: "cat {input} > {output}; echo {resources.gpu} >> {output}"
"""

REQUESTS = {
    "lsf": (
        *("-n 2", "rusage[mem=1000MB]", "rusage[mem=2000MB]", "rusage[mem=3000MB]"),
        *("-W 10", "-q short", "-gpu num=1"),
    ),
    "sge": ("-pe smp 2", "mem_free=500M", "mem_free=1500M", "h_rt=600,s_rt=480", "-l gpu=1"),
    "pbs": ("ncpus=2:mem=1000mb ", "mem=3000mb:ngpus=1 ", "walltime=600", "-q short"),
}
"""What the commands were asked for: two CPUs, the memory of each attempt, minutes, one GPU."""


def site(profile: str) -> dict[str, Any]:
    """The profile with its lines for the site filled in, and short waits."""
    text = (PROFILES / profile / "config.yaml").read_text()
    settings: dict[str, Any] = yaml.safe_load(text.replace("CHANGE", "short"))
    quick = {"latency-wait": 2, "seconds-between-status-checks": 1}
    status = str(settings.get("cluster-generic-status-cmd"))
    return {**settings, **quick, "cluster-generic-status-cmd": re.sub(" 60$", " 1", status)}


@pytest.fixture
def queue(tmp_path: Path) -> dict[str, str]:
    """Environment of a working directory with the profiles, in which the stand-ins are found."""
    shutil.copytree(PROFILES, tmp_path / "profiles")
    for profile in QUEUES:
        (tmp_path / "profiles" / profile / "config.yaml").write_text(yaml.safe_dump(site(profile)))
    path = [str(STANDINS), str(Path(sys.executable).parent), os.environ["PATH"]]
    return {
        **os.environ,
        "PATH": os.pathsep.join(path),
        "PWD": str(tmp_path),
        "UNET_QUEUE": str(tmp_path / "queue"),
    }


@pytest.mark.parametrize("profile", QUEUES)
def test_jobs_run_in_the_queue_and_what_was_killed_is_submitted_again_with_more(
    profile: str, queue: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    run = subprocess.run(
        [sys.executable, "-m", "snakemake", "--profile", f"profiles/{profile}"],
        cwd=tmp_path,
        env=queue,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert run.returncode == 0, run.stdout
    # On the second attempt, and with the GPU that the profile gives to training.
    assert (tmp_path / "trained").read_text().split() == ["2000", "1"]
    asked = "\n".join(path.read_text() for path in sorted(tmp_path.glob("queue/*.args")))
    for request in REQUESTS.get(profile, ()):
        assert request in asked
    assert asked.count("gpu") == (profile in REQUESTS)
    if profile == "kubernetes":
        pods = [yaml.safe_load(path.read_text()) for path in sorted(tmp_path.glob("queue/*.yaml"))]
        limits = [pod["containers"][0]["resources"]["limits"] for pod in pods]
        assert [limit["memory"] for limit in limits] == ["1000M", "2000M", "3000M"]
        assert [limit["nvidia.com/gpu"] for limit in limits] == ["0", "0", "1"]
        assert {limit["cpu"] for limit in limits} == {"2"}
        assert {pod["activeDeadlineSeconds"] for pod in pods} == {600}


@pytest.mark.parametrize("profile", ["kubernetes", "pbs"])
def test_an_interrupted_run_takes_its_jobs_out_of_the_queue(
    profile: str, queue: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "Snakefile").write_text(
        'rule slow:\n    output: "never"\n    threads: 1\n    resources: mem_mb=1000, runtime=10\n'
        '    shell: "echo $$ > started; sleep 300; touch {output}"\n'
    )
    run = subprocess.Popen(
        [sys.executable, "-m", "snakemake", "--profile", f"profiles/{profile}"],
        cwd=tmp_path,
        env=queue,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # Where the tests run in the background of a script, Ctrl-C is ignored, here as there.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        job = int(wait_for(lambda: (tmp_path / "started").read_text()))
    finally:
        run.send_signal(signal.SIGINT)
        run.wait(timeout=60)
    assert wait_for(lambda: not Path(f"/proc/{job}").exists())


def wait_for(what: Callable[[], Any]) -> Any:
    """The first answer that is not empty; a file need not be there yet."""
    for _ in range(600):
        with contextlib.suppress(FileNotFoundError):
            if found := what():
                return found
        time.sleep(0.1)
    raise TimeoutError


@pytest.mark.parametrize(
    ("profile", "answer", "found"),
    [
        ("lsf", "RUN", "running"),
        ("lsf", "PEND", "running"),
        ("lsf", "UNKWN", "running"),
        ("lsf", "USUSP", "running"),
        ("lsf", "Failed in an LSF library call: LIM is down; try later", "running"),
        ("lsf", "EXIT", "failed"),
        ("lsf", "Job <7> is not found", "failed"),
        ("sge", "job_number: 7", "running"),
        ("sge", "error: unable to send message to qmaster", "running"),
        ("sge", "job_number: 7\nerror reason 1: can't chdir", "failed"),
        ("sge", "Following jobs do not exist: 7", "failed"),
        ("pbs", "Job Id: 7\n    job_state = R", "running"),
        ("pbs", "Job Id: 7\n    job_state = H", "running"),
        ("pbs", "Connection refused\nqstat: cannot connect to server", "running"),
        ("pbs", "Job Id: 7\n    job_state = F\n    Exit_status = 271", "failed"),
        ("pbs", "qstat: 7 Job has finished, use -x or -H", "failed"),
        ("pbs", "qstat: Unknown Job Id 7", "failed"),
    ],
)
def test_only_a_job_that_the_scheduler_does_not_know_has_failed(
    profile: str, answer: str, found: str, tmp_path: Path
) -> None:
    script = f"#!/bin/sh\ncat <<'END'\n{answer}\nEND\nexit 1\n"
    for name in ("bjobs", "qstat"):
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    assert status(profile, tmp_path) == "running"  # its file may still be on the way
    assert status(profile, tmp_path) == found


@pytest.mark.parametrize(("code", "found"), [("0", "success"), ("1", "failed"), ("137", "failed")])
def test_the_exit_status_of_a_job_says_how_it_ended(code: str, found: str, tmp_path: Path) -> None:
    (tmp_path / ".snakemake/queue").mkdir(parents=True)
    (tmp_path / ".snakemake/queue/7").write_text(code + "\n")
    assert status("sge", tmp_path) == found


def status(profile: str, folder: Path) -> str:
    """What the profile takes job 7 for, which it does not wait for."""
    run = subprocess.run(
        ["sh", str(PROFILES / "queue/status"), profile, "0", "7"],
        cwd=folder,
        env={**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"},
        text=True,
        capture_output=True,
        check=True,
    )
    return run.stdout.strip()


@pytest.mark.parametrize("profile", ["local", "slurm", *QUEUES])
def test_every_profile_plans_the_workflow_and_gives_gpus_to_training_and_inference_alone(
    profile: str, fresh: Callable[[], Project]
) -> None:
    project = fresh()
    run = project.snakemake("-n", "--profile", str(PROFILES / profile))
    assert run.returncode == 0, run.stdout
    jobs = re.findall(
        r"^(?:rule|checkpoint) (\w+):$.*?^    resources: (.*?)$",
        run.stdout,
        re.MULTILINE | re.DOTALL,
    )
    resources = {name: dict(part.split("=", 1) for part in told.split(", ")) for name, told in jobs}
    assert {"convert", "train", "infer", "stitch", "report"} <= set(resources)
    with_gpu = {name for name, told in resources.items() if told.get("gpu", "0") != "0"}
    assert with_gpu == (set() if profile == "local" else {"train", "infer"})
    submit = yaml.safe_load((PROFILES / profile / "config.yaml").read_text())
    named = set(re.findall(r"\{resources\.(\w+)\}", submit.get("cluster-generic-submit-cmd", "")))
    del resources["all"]  # not submitted
    assert {name: named - set(told) for name, told in resources.items() if named - set(told)} == {}


def of_a_site() -> str:
    """The profile of a site that docs/hpc.md has for an example."""
    guide = (REPOSITORY / "docs/hpc.md").read_text()
    (example,) = re.findall(r"```yaml\n(# ~/.config/snakemake/site.*?)```", guide, re.DOTALL)
    return str(example)


def test_the_example_of_a_site_has_all_that_its_keys_replace() -> None:
    example = yaml.safe_load(of_a_site())
    shipped = yaml.safe_load((PROFILES / "slurm/config.yaml").read_text())
    for key in ("default-resources", "set-resources"):
        assert set(shipped[key]) == set(example[key])
    assert (
        example["default-resources"]["slurm_extra"] == shipped["default-resources"]["slurm_extra"]
    )
    for rule, resources in shipped["set-resources"].items():
        assert set(resources) <= set(example["set-resources"][rule])


def test_a_profile_of_the_site_that_is_named_last_wins(tmp_path: Path) -> None:
    site = tmp_path / "home/.config/snakemake/site/config.yaml"
    site.parent.mkdir(parents=True)
    site.write_text(of_a_site())
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    profiles = ["--profile", str(PROFILES / "slurm"), "--profile", "site"]
    run = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n", *profiles],
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path / "home"), "XDG_CONFIG_HOME": ""},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert run.returncode == 0, run.stdout
    assert "slurm_account=lab, slurm_partition=cpu, slurm_extra=--signal=USR1@120" in run.stdout
    assert "slurm_account=lab, slurm_partition=gpu, slurm_extra=--signal=USR1@120" in run.stdout
    assert "CHANGE" not in run.stdout


@pytest.mark.parametrize("profile", ["slurm", *QUEUES])
def test_a_result_stays_where_a_job_fails_that_was_cut_off(profile: str) -> None:
    settings = yaml.safe_load((PROFILES / profile / "config.yaml").read_text())
    assert settings["keep-incomplete"]
    assert settings["rerun-incomplete"]


def test_profiles_of_queues_say_the_same_but_for_what_is_the_queues() -> None:
    profiles = [site(name) for name in ("lsf", "sge", "pbs")]
    for settings in profiles:
        settings["default-resources"].pop("account" if settings is profiles[2] else "project")
        for key in [key for key in settings if key.startswith("cluster-generic")]:
            del settings[key]
    assert profiles[0] == profiles[1] == profiles[2]
