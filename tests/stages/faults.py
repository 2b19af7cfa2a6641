"""Faults made on purpose: a stage as a process of its own, its workers, its ledger, its files."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

PATIENCE_S = 240.0
"""After which a test gives up; far beyond what anything here takes on a busy machine."""


@dataclass
class Job:
    """A command `unet-core STAGE ...` in a session of its own, so that no process of it is lost."""

    process: subprocess.Popen[bytes]
    writer: subprocess.Popen[bytes]
    """Writes the log, and ends when no process of the job can say anything more."""
    store: Path
    """The store that it makes."""
    log: Path

    def text(self) -> str:
        """What it has said so far."""
        return self.log.read_text()

    def all(self) -> list[int]:
        """Every living process of the job."""
        return [pid for pid in processes() if session_of(pid) == self.process.pid]

    def workers(self) -> list[int]:
        """Processes that compute blocks, or are starting to."""
        return [
            pid
            for pid in self.all()
            if pid != self.process.pid and b"spawn_main" in command_of(pid)
        ]

    def wait(self) -> int:
        """How it ended, when the last of its processes has; its log is whole then."""
        code = self.process.wait(PATIENCE_S)
        self.writer.wait(PATIENCE_S)
        return code

    def end(self) -> None:
        """Leave nothing of it."""
        for pid in self.all():
            send(pid, signal.SIGKILL)
        self.wait()


@contextmanager
def started(command: Sequence[str], *, store: Path, log: Path) -> Iterator[Job]:
    """The job of a command line, begun; whatever is left of it at the end is killed."""
    # Through a pipe: a limit on the size of its files is then none on what it says.
    with (
        log.open("w") as file,
        subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=file) as writer,
    ):
        process = subprocess.Popen(
            [sys.executable, "-m", "unet_core.cli", *command],
            stderr=writer.stdin,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        if writer.stdin is not None:
            writer.stdin.close()
        job = Job(process, writer, store, log)
        try:
            yield job
        finally:
            job.end()


def until(claim: Callable[[], bool], job: Job | None = None) -> None:
    """Wait until `claim` is true; a `job` that ends before is an error."""
    deadline = time.monotonic() + PATIENCE_S
    while not claim():
        if job is not None and job.process.poll() is not None and not claim():
            raise AssertionError(f"it ended with {job.process.returncode}: {job.text()}")
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {PATIENCE_S} s in vain: {job.text() if job else ''}")
        time.sleep(0.005)


@contextmanager
def small_disk(folder: Path, *, mb: int) -> Iterator[Path]:
    """A file system of so many MB at `folder`; skips where this user may not mount one."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={mb}m", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no disk can be mounted here: {getattr(error, 'stderr', error)!r}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path, *, but: int) -> Path:
    """A file that takes all room of a disk but so many bytes."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    os.truncate(ballast, ballast.stat().st_size - but)
    return ballast


def ledger_of(store: Path) -> Path:
    return store.with_name(f"{store.name}.ledger.jsonl")


def finished(store: Path) -> int:
    """Blocks that the ledger has a whole line of."""
    if not (ledger := ledger_of(store)).exists():
        return 0
    lines = ledger.read_bytes().split(b"\n")[1:-1]  # neither the fingerprint nor a torn line
    return sum(b'"step": "published"' not in line for line in lines)


def files_of(store: Path) -> dict[str, bytes]:
    """Every file of a store by name."""
    files = (path for path in store.rglob("*") if path.is_file())
    return {str(path.relative_to(store)): path.read_bytes() for path in files}


def processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def session_of(pid: int) -> int | None:
    """The session of a process that lives; None of one that is gone or waits to be reaped."""
    fields = _stat(pid)
    return None if not fields or fields[0] in "ZX" else int(fields[3])


def state_of(pid: int) -> str:
    """R running, S sleeping, T stopped, Z or empty: gone."""
    fields = _stat(pid)
    return fields[0] if fields else ""


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def send(pid: int, number: signal.Signals) -> bool:
    """Signal a process; false if it is gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
