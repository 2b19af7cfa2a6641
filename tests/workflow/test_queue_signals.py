"""What the profiles of queues start: asked to end, it lets the stage save its work."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.workflow.conftest import REPOSITORY
from tests.workflow.test_profiles import wait_for

PROFILES = REPOSITORY / "profiles"

SNAKEFILE = """
import signal

signal.signal(signal.SIGUSR1, lambda *_: None)
shell.prefix("set -euo pipefail; trap : TERM USR1; ")

rule slow:
    output: "never"
    shell: "{python} stage.py; touch {{output}}"
"""
"""Signals are met as in workflow/Snakefile."""

STAGE = """
import signal, sys, time
from pathlib import Path

def save(number, frame):
    time.sleep(1)
    Path("saved").write_text(signal.Signals(number).name)
    sys.exit(128 + number)

for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
    signal.signal(number, save)
Path("started").touch()
time.sleep(300)
"""


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., "subprocess.Popen[bytes]"]:
    """Starts a command as the leader of a process group, with job 7 of a queue as its own."""
    (tmp_path / "Snakefile").write_text(SNAKEFILE.format(python=sys.executable))
    (tmp_path / "stage.py").write_text(STAGE)

    def run(*command: str) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            env={**os.environ, "LSB_JOBID": "7", "LS_SUBCWD": str(tmp_path)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            wait_for((tmp_path / "started").exists)
        except TimeoutError:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        return process

    return run


def job(folder: Path) -> str:
    """As Snakemake has it for the place of `exec_job`."""
    command = "-m snakemake --cores 1 --workflow-profile none"
    return f"cd {folder} && {sys.executable} {command}"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_job_of_a_queue_saves_its_work_and_writes_its_status(
    shell: str,
    number: signal.Signals,
    start: Callable[..., "subprocess.Popen[bytes]"],
    tmp_path: Path,
) -> None:
    text = (PROFILES / "queue/jobscript").read_text()
    (tmp_path / "script").write_text(text.format(properties="{}", exec_job=job(tmp_path)))
    process = start(shell, "script")
    os.killpg(process.pid, number)
    assert process.wait() == 1
    assert (tmp_path / "saved").read_text() == number.name
    assert (tmp_path / ".snakemake/queue/7").read_text() == "1\n"


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_first_process_of_a_pod_tells_the_stage_and_waits_for_it(
    shell: str, start: Callable[..., "subprocess.Popen[bytes]"], tmp_path: Path
) -> None:
    (tmp_path / "script").write_text(f"#!/bin/sh\n{job(tmp_path)}\n")
    text = (PROFILES / "kubernetes/job.yaml").read_text().replace("@", "")
    pod = yaml.safe_load(text)["spec"]["template"]["spec"]
    first, *rest, script = pod["containers"][0]["command"]
    assert (first, script) == ("sh", "SCRIPT")
    process = start(shell, *rest, str(tmp_path / "script"))
    process.terminate()  # alone, as the kubelet does
    assert process.wait() == 1
    assert (tmp_path / "saved").read_text() == "SIGTERM"
