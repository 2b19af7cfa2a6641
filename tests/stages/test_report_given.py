"""What jobs were given beside what they used: from logs, and from Slurm's accounting."""

import argparse
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from unet_core.arguments import telling
from unet_core.stages.report_given import (
    Given,
    Seen,
    Took,
    accounted,
    given_in,
    read_accounting,
    took_in,
)

LOG = """2026-11-21 11:00:00,000 INFO given: threads=8 gpus=1 memory_mb=1400 slurm_job=12
2026-11-21 11:00:01,000 INFO something
2026-11-21 11:30:00,000 INFO given: threads=4 gpus=0 memory_mb=2800 slurm_job=None
"""


def test_the_last_attempt_counts(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    assert given_in(log) is None
    log.write_text(LOG)
    assert given_in(log) == Given(4, 0, 2800, None)
    log.write_text("".join(LOG.splitlines(keepends=True)[:2]))
    assert given_in(log) == Given(8, 1, 1400, "12")


def burn(options: argparse.Namespace) -> None:
    """A job that takes 0.2 s of CPU, and a process besides, and fails."""
    with telling(options):
        end = time.process_time() + 0.2
        while time.process_time() < end:
            pass
        subprocess.run([sys.executable, "-c", "sum(range(10**7))"], check=True)
        raise ValueError("also where it fails")


def test_what_a_job_took_is_told_in_its_log_with_the_time_of_its_workers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = tmp_path / "a.log"
    assert took_in(log) == Took()
    caplog.set_level(logging.INFO)
    before = sum(os.times()[:4])
    with pytest.raises(ValueError, match="also where it fails"):
        burn(argparse.Namespace(threads=2, gpus=0, nodes=1, memory_mb=900))
    after = sum(os.times()[:4])
    log.write_text("\n".join(["took: cpu_s=3.00 memory_mb=7", *caplog.messages]))
    assert after - before > 0.25
    assert took_in(log).cpu_s == pytest.approx(after, abs=0.2)
    assert took_in(log).memory_mb > 30 or sys.platform != "linux"
    assert given_in(log) == Given(2, 0, 900, os.environ.get("SLURM_JOB_ID"))


def test_the_largest_step_of_a_job_counts() -> None:
    text = "12||30\n12.batch|204800K|\n12.0|1.5G|\n13||UNLIMITED\nnonsense\n"
    seen = read_accounting(text)
    assert seen["12"].minutes == 30
    assert seen["12"].memory_mb == pytest.approx(1.5 * 1024**3 / 1e6)
    assert seen["13"] == Seen(None, None)


def test_without_accounting_nothing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert accounted(["12"]) == {}
    sacct = tmp_path / "sacct"
    sacct.write_text("#!/bin/sh\necho slurmdbd: connection refused >&2\nexit 1\n")
    sacct.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path), "/usr/bin", "/bin"]))
    assert accounted(["12"]) == {}
    sacct.write_text("#!/bin/sh\necho '12|100M|10'\n")
    assert accounted(["12"])["12"].minutes == 10
