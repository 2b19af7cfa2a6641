"""Processes of jobs; those of all nodes of the sandbox run on this machine."""

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

from unet_core.stages.train_ranks import COUNT


def workers_of(job: int) -> set[int]:
    """Worker processes of a job that run."""
    return {process.pid for process in _of(job) if "unet_core.run.worker" in process.cmdline()}


def ranks_of(job: int) -> set[int]:
    """Processes of a job that train together, also those that have only begun."""
    return {
        process.pid
        for process in _of(job)
        if COUNT in process.environ() and process.name() not in ("srun", "slurmstepd")
    }


def _of(job: int) -> Iterable[psutil.Process]:
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.environ().get("SLURM_JOB_ID") == str(job):
                yield process


def stop(pids: Iterable[int]) -> None:
    """As a node that stands still would."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)


def go_on(pids: Iterable[int]) -> None:
    """Undo `stop`; some may be gone."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def has_got(pid: int, number: signal.Signals) -> bool:
    """Does a signal wait for a process that is stopped, or did it go on?"""
    try:
        told = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return True
    lines = dict(line.split(":\t", 1) for line in told.splitlines() if ":\t" in line)
    waiting = int(lines["ShdPnd"], 16) | int(lines["SigPnd"], 16)
    return bool(waiting >> (number - 1) & 1) or not lines["State"].startswith("T")
