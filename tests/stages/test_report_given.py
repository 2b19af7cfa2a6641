"""What jobs were given beside what they used: from logs, and from Slurm's accounting."""

import os
from pathlib import Path

import pytest

from unet_core.stages.report_given import Given, Seen, accounted, given_in, read_accounting

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
