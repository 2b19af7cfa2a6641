"""A throw-away Slurm cluster on this machine, and what tests do with it."""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NOT_HERE = 77
"""Exit status of `up` where the machine lacks what it needs."""

SHAPE = {"SLURM_SANDBOX_MEM": "64000"}
"""Memory of a node (MB): that of two jobs as the rules ask for it, and of a second attempt."""

PATIENCE_S = 900
"""How long to wait for anything: that it comes is tested, and machines may be slow and shared."""

BUSY = frozenset(("PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "COMPLETING"))
"""States of jobs that have not ended."""


@dataclass(frozen=True)
class Queued:
    """A line of squeue."""

    job: int
    state: str
    partition: str
    comment: str
    """Rule and wildcards, where Snakemake submitted it."""


@dataclass(frozen=True)
class Sandbox:
    folder: Path
    environment: dict[str, str]
    """Of processes that speak to this cluster; jobs compute on the CPU."""

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command of Slurm, or any other; returns what it prints."""
        run = subprocess.run(
            command,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        assert run.returncode == 0 or not check, f"{command}: {run.stdout}{run.stderr}"
        return run.stdout

    def submit(self, command: str, *options: str) -> int:
        """Submit a shell command as a job, say with `"-p", "gpu", "--gres=gpu:1"`."""
        told = ("--parsable", "--output", str(self.folder / "log/%j.job"), *options)
        return int(self.run("sbatch", *told, "--wrap", command).split(";")[0])

    def output_of(self, job: int) -> str:
        """What a job that `submit` started has printed."""
        return (self.folder / f"log/{job}.job").read_text()

    def details(self, job: int) -> dict[str, str]:
        """What `scontrol show job` says, up to an hour after the job's end."""
        told = self.run("scontrol", "show", "job", "--oneliner", str(job))
        return dict(re.findall(r"(?:^|\s)([A-Za-z/:]+)=(.*?)(?=\s+[A-Za-z/:]+=|\s*$)", told))

    def state(self, job: int) -> str:
        """PENDING, RUNNING, COMPLETED, ..."""
        return self.details(job)["JobState"]

    def wait(self, job: int, *states: str) -> str:
        """Wait until a job is in one of `states`, by default until it has ended."""

        def there() -> bool:
            now = self.state(job)
            return now in states if states else now not in BUSY

        self.until(there, f"job {job}: {' or '.join(states) or 'the end'}")
        return self.state(job)

    def until(self, happened: Callable[[], object], what: str) -> None:
        """Wait until something has happened; fail with the queue where it has not in time."""
        end = time.monotonic() + PATIENCE_S
        while not happened():
            if time.monotonic() > end:
                told = self.run("squeue", "-o", "%i %T %P %r %k") + self.run("sinfo", "-N")
                raise AssertionError(f"waited {PATIENCE_S} s in vain for {what}\n{told}")
            time.sleep(0.3)

    def squeue(self) -> list[Queued]:
        """All jobs that wait or run."""
        lines = self.run("squeue", "--noheader", "--format", "%A|%T|%P|%k").splitlines()
        table = [line.split("|", 3) for line in lines]
        return [Queued(int(job), *others) for job, *others in table]

    def accounted(self, folder: Path) -> list[dict[str, str]]:
        """What sacct says of all ended jobs that were submitted from a folder, by its fields."""
        fields = "JobIDRaw,State,Partition,Account,ReqCPUS,ReqMem,ReqTRES,TimelimitRaw,Start,End"
        fields += ",Comment"

        def rows() -> list[dict[str, str]]:
            told = self.run("sacct", "-X", "-n", "-P", "-o", f"{fields},WorkDir").splitlines()
            table = [dict(zip([*fields.split(","), "in"], line.split("|"), strict=True))
                     for line in told]  # fmt: skip
            return [row for row in table if row["in"] == str(folder)]

        # Just after a job's end sacct may not know it yet.
        self.until(lambda: all(row["State"] not in BUSY for row in rows()), "sacct")
        return rows()

    def scancel(self, *jobs: int) -> None:
        """End these jobs, by default all, and wait until they are gone."""
        named = set(jobs) or {each.job for each in self.squeue()}
        if named:
            self.run("scancel", *map(str, sorted(named)))
        self.until(lambda: not named & {each.job for each in self.squeue()}, "scancel")

    def crash(self, *nodes: str, cut_off: bool = False) -> None:
        """End nodes as a power cut would; `cut_off`: their jobs run on, unseen."""
        self.run("crash-node", *(["-d"] if cut_off else []), *nodes)

    def repair(self) -> None:
        """Start what has ended: nodes, the controller."""
        self.run(str(HERE / "up"))


_ENDING = 'cat; "$0" "$1" 2> "$2"; code=$?; kill -0 $PPID 2>&- || rm -f "$2"; exit $code'
"""What `down` says is for this process, if it is still there."""


@contextmanager
def sandbox(**settings: str) -> Iterator[Sandbox]:
    """A cluster that ends with this block, or with this process, however that ends.

    `settings`: of `up`. Skips the test where the machine lacks what is needed.
    """
    if sys.platform != "linux":
        pytest.skip("Slurm needs Linux")
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    cleared = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SBATCH", "SRUN"))}
    environment = cleared | SHAPE | settings | {"SLURM_SANDBOX": str(folder), "UNET_DEVICE": "cpu"}
    log = folder.with_suffix(".down")
    # Ends the cluster when its input does: by `communicate` below, or because this process is gone.
    ending = subprocess.Popen(
        ["sh", "-c", _ENDING, str(HERE / "down"), str(folder), str(log)],
        env=environment,
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        up = subprocess.run(
            [str(HERE / "up")], env=environment, stdin=subprocess.DEVNULL, capture_output=True
        )
        if up.returncode == NOT_HERE:
            folder.rmdir()
            pytest.skip(up.stderr.decode().strip())
        assert up.returncode == 0, up.stderr.decode()
        python = Path(sys.executable).parent
        path = os.pathsep.join([str(folder / "bin"), str(python), environment["PATH"]])
        conf = str(folder / "etc/slurm.conf")
        yield Sandbox(folder, environment | {"SLURM_CONF": conf, "PATH": path})
    finally:
        ending.communicate(timeout=PATIENCE_S)
        told = log.read_text()
        log.unlink()
    assert ending.returncode == 0, told
    assert "left behind" not in told, told
