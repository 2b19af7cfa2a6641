"""What jobs were given, from their logs, and what Slurm has seen of them, where there is one."""

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_GIVEN = re.compile(
    r"given: threads=(\d+) gpus=(\d+) (?:nodes=(\d+) )?memory_mb=(\d+|None) slurm_job=(\d+|None)"
)
"""As `unet_core.arguments` logs it before a stage begins."""

_TOOK = re.compile(r"took: cpu_s=([\d.]+) memory_mb=(\d+)")
"""As it logs in the end."""

_ANSWERS_S = 20
"""Accounting that takes longer is as good as none."""

_AT_A_TIME = 500
"""Jobs that one question names."""


@dataclass(frozen=True)
class Given:
    """Of one job."""

    threads: int
    gpus: int
    memory_mb: int | None
    slurm_job: str | None
    nodes: int = 1


@dataclass(frozen=True)
class Seen:
    """Of one job, by Slurm's accounting."""

    minutes: float | None
    """Time limit."""

    memory_mb: float | None
    """Largest resident memory of a step, with the page cache where the cluster counts it."""


def given_in(log: Path) -> Given | None:
    """What the last attempt of a job was given; None where the log does not say."""
    try:
        found = _GIVEN.findall(log.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None
    if not found:
        return None
    threads, gpus, nodes, memory, job = found[-1]
    memory_mb = None if memory == "None" else int(memory)
    slurm_job = None if job == "None" else job
    return Given(int(threads), int(gpus), memory_mb, slurm_job, int(nodes or 1))


@dataclass(frozen=True)
class Took:
    """What the last attempt of a job took, as it says itself; 0: it does not."""

    cpu_s: float = 0.0
    """Of all its processes on this node."""

    memory_mb: float = 0.0
    """Most of the process that deals, or does all."""


def took_in(log: Path) -> Took:
    """What a job that ended has logged."""
    try:
        found = _TOOK.findall(log.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return Took()
    return Took(*map(float, found[-1])) if found else Took()


def accounted(jobs: Sequence[str]) -> Mapping[str, Seen]:
    """What `sacct` knows of jobs, by their numbers; nothing where there is no accounting."""
    if not jobs or shutil.which("sacct") is None:
        return {}
    seen: dict[str, Seen] = {}
    for first in range(0, len(jobs), _AT_A_TIME):
        seen |= _asked(jobs[first : first + _AT_A_TIME])
    return seen


def _asked(jobs: Sequence[str]) -> dict[str, Seen]:
    command = ["sacct", "--noheader", "--parsable2", "--duplicates", "--jobs", ",".join(jobs)]
    command += ["--format=JobIDRaw,MaxRSS,TimelimitRaw"]
    try:
        run = subprocess.run(command, text=True, capture_output=True, timeout=_ANSWERS_S)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return read_accounting(run.stdout) if run.returncode == 0 else {}


def read_accounting(text: str) -> dict[str, Seen]:
    """Lines ``JobIDRaw|MaxRSS|TimelimitRaw`` of jobs and their steps, by job."""
    limits: dict[str, float] = {}
    memory: dict[str, float] = {}
    names = []
    for line in text.splitlines():
        cells = line.split("|")
        if len(cells) != 3:
            continue
        job = cells[0].partition(".")[0]
        names.append(job)
        if cells[2].isdigit():
            limits[job] = float(cells[2])
        if (used := _mb(cells[1])) is not None:
            memory[job] = max(memory.get(job, 0), used)
    return {job: Seen(limits.get(job), memory.get(job)) for job in dict.fromkeys(names)}


def _mb(text: str) -> float | None:
    """Slurm's ``1234K``, in units of 1024 bytes."""
    if not (found := re.fullmatch(r"([\d.]+)([KMGT]?)", text)):
        return None
    return float(found[1]) * 1024.0 ** " KMGT".index(found[2] or " ") / 1e6
