"""One writer at a time, whoever is killed or stopped, and wherever."""

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

import pytest

from tests.stages.faults import send, state_of, until
from unet_core.errors import Interrupted, StoreError
from unet_core.io.lock import Owner, holding

LEASE_S = "1"
SEEDS = 2


@contextmanager
def started(code: str, folder: Path, *arguments: object, **environ: str) -> Iterator[int]:
    """A process with code of its own; its output is the file `log`."""
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(folder), *map(str, arguments)],
            env={**os.environ, "UNET_LOCK_LEASE_S": LEASE_S, **environ},
            stderr=log,
            cwd=Path(__file__).parents[2],
        )
        try:
            yield process.pid
        finally:
            process.kill()
            process.wait()


HOLDER = """
import sys, time
from pathlib import Path
from unet_core.io.lock import holding
with holding(Path(sys.argv[1]) / "x") as lock:
    (Path(sys.argv[1]) / "held").touch()
    time.sleep(1000)
"""


def test_a_lock_says_who_holds_it_and_leaves_nothing(tmp_path: Path) -> None:
    with holding(tmp_path / "x") as lock:
        told = json.loads((tmp_path / "x.lock").read_text())
        assert told["pid"] == os.getpid()
        assert {"host", "birth", "user", "since", "slurm_job", "lease_s"} < told.keys()
        lock.check()
    assert list(tmp_path.iterdir()) == []


def test_who_waits_is_told_for_whom_and_can_be_ended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with started(HOLDER, tmp_path, SLURM_JOB_ID="77") as pid:
        until((tmp_path / "held").exists)
        with pytest.raises(Interrupted), holding(tmp_path / "x", ending=lambda: True):
            pass
        asked = iter([False, True])
        with pytest.raises(Interrupted), holding(tmp_path / "x", ending=lambda: next(asked)):
            pass
        (line,) = [record.getMessage() for record in caplog.records]
        assert f"x is written by {Owner().user} on {Owner().host}, process {pid}" in line
        assert "Slurm job 77" in line
        assert "scancel 77" in line


def test_a_dead_process_of_this_machine_holds_nothing(tmp_path: Path) -> None:
    with started(HOLDER, tmp_path, UNET_LOCK_LEASE_S="10000") as pid:
        until((tmp_path / "held").exists)
        send(pid, signal.SIGKILL)
        with holding(tmp_path / "x") as lock:
            lock.check()
    assert not (tmp_path / "x.lock").exists()


HIDING = """
test "$1" = shown || mount -t tmpfs tmpfs /proc/$2 || exit 77
shift 2
exec setpriv --bounding-set=-kill "$@"
"""
"""Shell, in mounts of its own: a user who may not signal a process, and may not see it either."""

TRIER = """
import sys
from pathlib import Path
from unet_core.errors import Interrupted
from unet_core.io.lock import holding
try:
    with holding(Path(sys.argv[1]) / "x", ending=lambda: True):
        print("taken")
except Interrupted:
    print("held")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
@pytest.mark.parametrize("process", ["shown", "hidden"])
def test_a_process_of_another_user_holds_its_lock_even_where_it_cannot_be_seen(
    tmp_path: Path, process: str
) -> None:
    def tried(pid: int) -> str:
        shell = ["unshare", "--mount", "sh", "-c", HIDING, "sh", process, str(pid)]
        command = [*shell, sys.executable, "-c", TRIER, str(tmp_path)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode and "mount" in run.stderr:
            pytest.skip(f"nothing can be hidden here: {run.stderr}")
        assert run.returncode == 0, run.stderr
        return run.stdout.strip()

    with subprocess.Popen(["sleep", "1000"], user=54322) as other:
        try:
            birth = Path(f"/proc/{other.pid}/stat").read_text().rpartition(")")[2].split()[19]
            owner = Owner(pid=other.pid, birth=birth, lease_s=10000)
            (tmp_path / "x.lock").write_text(json.dumps(owner.__dict__))
            assert tried(other.pid) == "held"
        finally:
            other.kill()
    with holding(tmp_path / "x"):  # at once, with that lease
        pass


def test_a_process_is_gone_if_its_number_is_anothers_or_nobodys() -> None:
    with subprocess.Popen(["sleep", "1000"]) as other:
        assert not Owner(pid=other.pid, birth="").is_gone()  # that it had could not be seen
        assert Owner(pid=other.pid, birth="1").is_gone()
        other.kill()
    assert Owner(pid=other.pid, birth="").is_gone()


def test_an_owner_on_another_machine_is_gone_when_its_file_stands_still(tmp_path: Path) -> None:
    far = Owner(host="far", machine="another", lease_s=0.3)
    (tmp_path / "x.lock").write_text(json.dumps(far.__dict__))
    os.utime(tmp_path / "x.lock", (2e9, 2e9))  # by a clock that is ahead
    began = time.monotonic()
    with holding(tmp_path / "x") as lock:
        assert time.monotonic() - began >= 0.3
        lock.check()


def test_an_owner_that_was_stopped_for_its_lease_writes_no_more(tmp_path: Path) -> None:
    code = HOLDER.replace("time.sleep(1000)", "time.sleep(3); lock.check()")
    with started(code, tmp_path) as pid:
        until((tmp_path / "held").exists)
        send(pid, signal.SIGSTOP)
        with holding(tmp_path / "x") as lock:
            send(pid, signal.SIGCONT)
            until(lambda: state_of(pid) in ("Z", ""))
            lock.check()
    assert "StoreError: x: " in (tmp_path / "log").read_text()


def test_a_lock_that_was_removed_by_hand_ends_its_owner(tmp_path: Path) -> None:
    with holding(tmp_path / "x") as lock:
        (tmp_path / "x.lock").unlink()
        with pytest.raises(StoreError, match="lock is gone"):
            lock.check()


WAITER = HOLDER.replace(
    'holding(Path(sys.argv[1]) / "x")', "holding(Path(sys.argv[1]) / 'results' / 'x')"
)


def test_who_waits_goes_on_in_a_folder_of_its_own_when_it_is_removed(tmp_path: Path) -> None:
    results = tmp_path / "results"
    with holding(results / "x") as lock, started(WAITER, tmp_path):
        until(lambda: "waiting: x is written by" in (tmp_path / "log").read_text())
        shutil.rmtree(results)
        until((tmp_path / "held").exists)
        with pytest.raises(StoreError, match=r"x: .* writes it now"):
            lock.check()


@pytest.mark.parametrize("vanishing", ["write_text", "link"])
def test_who_waits_can_be_ended_whatever_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vanishing: str
) -> None:
    """Again and again, as by who clears the folder."""

    def removed(*arguments: object, **options: object) -> None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    monkeypatch.setenv("UNET_LOCK_LEASE_S", "1")
    monkeypatch.setattr(Path if vanishing == "write_text" else os, vanishing, removed)
    asked, began = iter([False, False, True]), time.monotonic()
    with pytest.raises(Interrupted), holding(tmp_path / "x", ending=lambda: next(asked)):
        pass
    assert time.monotonic() - began >= 0.1  # it sleeps between
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_was_cut_short_is_one_until_its_lease_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNET_LOCK_LEASE_S", "0.3")
    (tmp_path / "x.lock").write_text('{"token": ')
    began = time.monotonic()
    with holding(tmp_path / "x"):
        assert time.monotonic() - began >= 0.3


def test_without_hard_links_there_is_one_owner_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(source: Path, target: Path) -> None:
        raise PermissionError(1, "no links here")

    monkeypatch.setattr(os, "link", refused)
    with (
        holding(tmp_path / "x"),
        pytest.raises(Interrupted),
        holding(tmp_path / "x", ending=lambda: True),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


WRITER = '''
import os, random, signal, sys, time
from pathlib import Path
from unet_core.errors import StoreError
from unet_core.io import lock as module

folder, seed, sections = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
chance = random.Random(seed)

def fault(stops):
    """Die, or stand still, at any line of the lock's own code, or of what it guards."""
    if chance.random() < 0.002:
        os.kill(os.getpid(), signal.SIGKILL)
    if stops and chance.random() < 0.005:
        os.kill(os.getpid(), signal.SIGSTOP)

def trace(frame, event, argument):
    if frame.f_code.co_filename == module.__file__:
        # Between a look at the lock and what follows of it, a stop beyond the lease is one that
        # no lock can help against; see decision 14.
        fault(stops=frame.f_code.co_name in ("_take", "is_gone", "_make"))
        return trace

sys.settrace(trace)
journal = os.open(folder / "journal", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
for _ in range(sections):
    try:
        with module.holding(folder / "x") as lock:
            for _ in range(5):
                lock.check()
                os.write(journal, f"{lock.owner.token}\\n".encode())
                fault(stops=True)
                time.sleep(chance.random() * 0.01)
    except StoreError:
        continue
'''


def _finished(folder: Path) -> int:
    journal = folder / "journal"
    return len(set(journal.read_text().split())) if journal.exists() else 0


@pytest.mark.parametrize("seed", range(SEEDS))
def test_there_are_never_two_writers_whoever_dies_or_stands_still(
    tmp_path: Path, seed: int
) -> None:
    chance, wanted = random.Random(seed), 40
    running: list[subprocess.Popen[bytes]] = []
    stopped: dict[int, float] = {}
    faults = {"killed": 0, "stopped": 0}
    environ = {**os.environ, "UNET_LOCK_LEASE_S": LEASE_S}

    def keep_going() -> bool:
        faults["killed"] += sum(each.poll() == -signal.SIGKILL for each in running)
        running[:] = [each for each in running if each.poll() is None]
        while len(running) < 4:
            command = [sys.executable, "-c", WRITER, str(tmp_path), str(chance.random())[2:], "50"]
            running.append(subprocess.Popen(command, env=environ, cwd=Path(__file__).parents[2]))
        for pid in [each.pid for each in running if state_of(each.pid) == "T"]:
            until_s = stopped.setdefault(pid, time.monotonic() + chance.choice([0.1, 2.5]))
            if time.monotonic() > until_s:
                del stopped[pid]
                faults["stopped"] += 1
                send(pid, signal.SIGCONT)
        return _finished(tmp_path) >= wanted and min(faults.values()) >= 3

    try:
        until(keep_going)
    finally:
        for each in running:
            each.kill()
            each.wait()
    order = [token for token, _ in groupby((tmp_path / "journal").read_text().split())]
    assert len(order) == len(set(order)), "one wrote after another had begun"
    with holding(tmp_path / "x"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["journal"]
