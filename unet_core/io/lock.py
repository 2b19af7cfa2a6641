"""One writer of a result at a time, on whatever node it runs.

Beside the result `X` stands `X.lock` while it is written: who writes it, renewed every few seconds.
Who finds it waits; once its owner is gone, exactly one of those that wait takes over. No two clocks
are compared: an owner is gone if the file's time has not moved for its lease, as measured by who
waits, or if its process is gone, where that can be seen from here.

A lock is taken over by a claim, the file `X.lock.TOKEN`, TOKEN being that of the lock before: there
is one such name for each owner, so that one process alone can make it. The claim then becomes
`X.lock`.
"""

import errno
import getpass
import glob
import json
import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path

from unet_core.errors import Interrupted, StoreError

log = logging.getLogger(__name__)

_TOLD_EVERY_S = 60.0


def _lease_s() -> float:
    """Seconds without a sign of its owner after which a lock is anyone's; UNET_LOCK_LEASE_S."""
    return float(os.environ.get("UNET_LOCK_LEASE_S", 60))


def _slurm_job() -> str:
    return os.environ.get("SLURM_JOB_ID", "")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return str(os.getuid())


def _machine() -> str:
    """Of processes that see each other by their numbers; empty where that cannot be told."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _birth(pid: int) -> str:
    """When a process began, in ticks since the machine did; empty if that cannot be seen."""
    try:
        parts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return _ENDED if parts[0] in "ZX" else parts[19]


_ENDED = "ended"


def _is_there(pid: int) -> bool:
    """Asked of the system: many machines hide the processes of others in /proc."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


@dataclass(frozen=True)
class Owner:
    """Who writes a result; all of it stands in the lock."""

    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    birth: str = field(default_factory=lambda: _birth(os.getpid()))
    machine: str = field(default_factory=_machine)
    slurm_job: str = field(default_factory=_slurm_job)
    user: str = field(default_factory=_user)
    since: str = field(default_factory=lambda: f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC")
    lease_s: float = field(default_factory=_lease_s)

    def is_gone(self) -> bool:
        """Has its process ended? False where that cannot be seen."""
        if not self.machine or self.machine != _machine():
            return False
        if not _is_there(self.pid):
            return True
        born = _birth(self.pid)
        return "" not in (born, self.birth) and born != self.birth

    def __str__(self) -> str:
        job = f", Slurm job {self.slurm_job}" if self.slurm_job else ""
        return f"{self.user} on {self.host}, process {self.pid}{job}, since {self.since}"

    @property
    def ended_by(self) -> str:
        """What ends it."""
        if self.slurm_job:
            return f"scancel {self.slurm_job}"
        return f"`kill {self.pid}` on {self.host}"


@dataclass(frozen=True)
class _Held:
    """A lock as it was seen."""

    file: Path
    """`X.lock`, or the claim of an owner that did not come to its end."""
    owner: Owner
    time_ns: int


class Lock:
    """Of this process, renewed by a thread."""

    def __init__(self, path: Path, owner: Owner) -> None:
        self.path, self.owner = path, owner
        self._ended = threading.Event()
        self._file = os.open(path, os.O_RDONLY)
        self._thread = threading.Thread(target=self._renew, name=path.name, daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Go on only as the owner.

        Raises
        ------
        StoreError
            If another has taken over, as this process was stopped, or cut off, for the lease.
        """
        held = _held(self.path)
        if held is not None and held.owner.token == self.owner.token:
            return
        result = self.path.name.removesuffix(".lock")
        now = "its lock is gone" if held is None else f"{held.owner} writes it now"
        raise StoreError(
            f"{result}: {now}; this process gave no sign of itself for {self.owner.lease_s:g} s "
            "and ends, what it had finished is kept; run the same command again if the result "
            "does not appear"
        )

    def release(self) -> None:
        """Let the next one in, if it is not in already."""
        self._ended.set()
        self._thread.join()
        os.close(self._file)
        held = _held(self.path)
        if held is None or held.owner.token != self.owner.token:
            return
        # What was left by who was killed while it waited; one that lives tries again.
        name = glob.escape(self.path.name)
        for pattern in (f"{name}.*", f".{name}.*"):
            for left in self.path.parent.glob(pattern):
                left.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def _renew(self) -> None:
        # A signal that this thread took would not wake the main one.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        every = min(5.0, self.owner.lease_s / 10)
        while not self._ended.wait(every):
            # Of the file that is open: one that has taken its place has an owner of its own.
            with suppress(OSError):  # the server does not answer; `check` says what follows
                os.utime(self._file)


@contextmanager
def holding(result: Path, *, ending: Callable[[], bool] = lambda: False) -> Iterator[Lock]:
    """Be the one that writes `result`; waits, and says for whom, until the one before is done.

    Parameters
    ----------
    result
        A file or folder that need not be there.
    ending
        True where this process is asked to end meanwhile.

    Raises
    ------
    Interrupted
        If it was asked to end while it waited.
    """
    path = result.with_name(f"{result.name}.lock")
    owner = Owner()
    _take(path, owner, ending)
    lock = Lock(path, owner)
    try:
        yield lock
    finally:
        lock.release()


def _take(path: Path, owner: Owner, ending: Callable[[], bool]) -> None:
    watch, told = _Watch(), -_TOLD_EVERY_S
    while True:
        now = time.monotonic()
        held = _held(path)
        if held is None:
            path.parent.mkdir(parents=True, exist_ok=True)  # also one removed meanwhile
            if _make(path, owner):
                return
        elif watch.is_gone(held, now) and _take_over(path, held, owner):
            log.warning("%s: taken over, its writer is gone: %s", path.name, held.owner)
            return
        if ending():
            writer = held.owner if held else f"{path.name}, which others take too"
            raise Interrupted(f"asked to end while waiting for {writer}; nothing was begun")
        if held is not None and now - told >= _TOLD_EVERY_S:
            told = now
            log.warning(
                "waiting: %s is written by %s; it goes on here when that is done or has given no "
                "sign for %g s; to end that one: %s",
                *(path.name.removesuffix(".lock"), held.owner, held.owner.lease_s),
                held.owner.ended_by,
            )
        time.sleep(min(1.0, (held.owner if held else owner).lease_s / 20))


@dataclass
class _Watch:
    """For how long a lock has not been renewed, by this process's clock alone."""

    seen: tuple[str, int] = ("", 0)
    since: float = 0

    def is_gone(self, held: _Held, before: float) -> bool:
        """`before`: when the clock was read, before the lock was: then no stop of this process
        between the two passes for a silence of the owner."""
        if (now := (held.owner.token, held.time_ns)) != self.seen:
            self.seen, self.since = now, before
        return held.owner.is_gone() or before - self.since > held.owner.lease_s


def _take_over(path: Path, held: _Held, owner: Owner) -> bool:
    """Exactly one of several gets true for the same `held`."""
    claim = _claim(path, held.owner)
    if not _make(claim, owner):
        return False
    # Made for an owner that was followed or is back meanwhile, it is worth nothing.
    if not _is_ours(path, owner) or _seen(held.file) != held:
        claim.unlink(missing_ok=True)
        return False
    if held.file != path:
        held.file.unlink(missing_ok=True)  # its owner, if it lives, then finds that it is late
    try:
        claim.rename(path)
    except FileNotFoundError:
        return False
    return _is_ours(path, owner)


def _claim(path: Path, owner: Owner) -> Path:
    return path.with_name(f"{path.name}.{owner.token}")


def _is_ours(path: Path, owner: Owner) -> bool:
    held = _held(path)
    return held is not None and held.owner.token == owner.token


def _held(path: Path) -> _Held | None:
    """The lock as it is now: the last of the claims that follow it, if there are any."""
    held = _seen(path)
    while held is not None and (claimed := _seen(_claim(path, held.owner))) is not None:
        held = claimed
    return held


def _seen(file: Path) -> _Held | None:
    """Opened, not asked for: a network file system answers questions from memory."""
    try:
        with file.open("rb") as opened:
            text, stat = opened.read(), os.fstat(opened.fileno())
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ESTALE:
            return None
        raise
    try:
        told = json.loads(text)
        owner = Owner(**{each.name: told[each.name] for each in fields(Owner)})
    except (ValueError, KeyError, TypeError):  # cut short, where files cannot be linked
        owner = Owner(
            f"unreadable-{stat.st_ino}", host="unknown", pid=0, machine="", user="unknown"
        )
    return _Held(file, owner, stat.st_mtime_ns)


def _make(path: Path, owner: Owner) -> bool:
    """Make a file whole that is not there; false if it is, or if its folder was removed."""
    text = json.dumps(asdict(owner)) + "\n"
    own = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        own.write_text(text, encoding="utf-8")
        os.link(own, path)
    except (FileExistsError, FileNotFoundError):
        # Or this process did make it, and the server's first answer was lost.
        made = _seen(path)
        return made is not None and made.owner.token == owner.token
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        with suppress(FileExistsError, FileNotFoundError), path.open("x", encoding="utf-8") as file:
            file.write(text)
            return True
        return False
    finally:
        own.unlink(missing_ok=True)
    return True


_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
"""Of file systems that have no second name for a file."""
