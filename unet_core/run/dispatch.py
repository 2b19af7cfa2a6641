"""Units of work to worker processes, and what becomes of those that do not come back.

The driver deals the units itself (`dealer`), each pinned to one worker, and decides what is tried
again: dask carries them there and the results back. Whatever is dealt again has no other writer:
the process of a worker that is lost or hangs has ended before its units go to another.
"""

import errno
import logging
import os
import queue
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from distributed import Future, KilledWorker

from unet_core.errors import AccessError, BlockError, DamageError, Hung, UNetCoreError
from unet_core.run.cluster import Workers
from unet_core.run.dealer import Dealer

log = logging.getLogger(__name__)

_TRANSIENT = (OSError, RuntimeError, MemoryError)
"""Errors that another try may mend: storage, network, device; libraries in C raise RuntimeError."""

_PAUSES_S = (0.5, 2.0)
"""Before the second and the third try of a unit."""

_LOSSES = 3
"""Workers that one unit may take with it."""

_TOLERATED_FAILURES = 3**3
"""More than so many failed units, and more blocks in them than are done: no further one. So many
fail where one shard of the input is lost: those around it see it too."""

_ABSENCE_S = 120.0
"""Without any worker for so long, none is coming back."""

_UNDYING_S = 120.0
"""A process that outlives SIGKILL so long waits for storage that does not answer."""

_WAKES_EVERY_S = 0.25

_LEASE_S, _LEASE_BLOCKS, _LEASE_BUSY = 600.0, 20, 6
"""See `Resources.lease_s`."""

_IDLE_SHARE = 0.1
"""Of a core; a process that uses less does not compute."""

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


class Named(Protocol):
    """A block; its name is the same whatever else is in the plan."""

    @property
    def name(self) -> str:
        """Unique within a step."""
        ...


@dataclass(frozen=True)
class Failure:
    """Why a unit is not done."""

    cause: str
    error: BaseException | None = None


@dataclass
class _Try:
    unit: int
    worker: str
    future: Future


class Dispatch:
    """Units, each of blocks, numbered as given; `keep` gets the number and result of each done.

    `done`: blocks that were done before, and count where it is asked whether most fail.
    """

    def __init__(
        self,
        workers: Workers,
        work: Callable[[Any], Any],
        units: Sequence[Sequence[Named]],
        *,
        ahead: int,
        lease_s: float | None,
        ending: Callable[[], bool],
        keep: Callable[[int, Any], None],
        tell: Callable[[], None],
        done: int = 0,
    ) -> None:
        self.failed: dict[int, Failure] = {}
        """By unit, in the order in which they failed."""
        self.full: BaseException | None = None
        """Set where the disk took no more."""
        self.made = 0
        """Blocks that were done."""
        self._workers, self._work, self._units = workers, work, units
        self._given_lease, self._ending, self._keep, self._tell = lease_s, ending, keep, tell
        self._addresses = workers.present()
        self._gone: set[str] = set()
        self._dealer = Dealer(len(units), workers=list(self._addresses), ahead=ahead)
        self._tries: dict[int, _Try] = {}
        self._ended: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._number = 0
        self._before = done
        self._longest = 0.0
        self._mended: dict[int, int] = {}
        self._losses: dict[int, int] = {}
        self._leaving: dict[str, tuple[float, str]] = {}
        self._busy: dict[str, tuple[float, float]] = {}
        self._seen_one = time.monotonic()

    @property
    def hopeless(self) -> bool:
        """Did most blocks fail?"""
        return len(self.failed) > _TOLERATED_FAILURES and self._lacking > self._before + self.made

    @property
    def untried(self) -> int:
        """Blocks that neither are done nor failed."""
        return sum(map(len, self._units)) - self.made - self._lacking

    @property
    def _lacking(self) -> int:
        return sum(len(self._units[unit]) for unit in self.failed)

    def run(self) -> None:
        """Return when every unit is done or failed, or none is under way and no more is begun.

        Raises
        ------
        BlockError
            If no worker is left.
        Hung
            If a unit hangs in this process.
        """
        while True:
            self._meet()
            self._watch()
            stop = self._ending() or self.hopeless or self.full is not None
            if not stop:
                self._deal()
            if not self._dealer.running and (stop or not self._dealer.left):
                return
            self._receive()
            self._tell()

    def _meet(self) -> None:
        """Take note of the workers that came, and of those that are gone with what they had."""
        now = time.monotonic()
        present = self._workers.present()
        for name in set(self._dealer.workers) - present.keys() - self._leaving.keys():
            self._end(name, _KILLED)
        for name in present.keys() - set(self._dealer.workers) - self._gone:
            self._dealer.join(name)
        for name, (since, why) in list(self._leaving.items()):
            if self._workers.is_gone(name):
                del self._leaving[name]
                self._gone.add(name)  # the scheduler may not know yet
                for unit in self._dealer.leave(name):
                    self._lost(unit, why)
            elif now - since > _UNDYING_S + self._workers.notice_s:
                raise BlockError(
                    "a worker's process outlives SIGKILL: it most likely waits for storage that "
                    "does not answer, and its block cannot be given to another; finished blocks "
                    "are kept: mend the storage and run the same command again"
                )
        able = set(self._dealer.workers) - self._leaving.keys()
        self._addresses = {name: present[name] for name in present if name in able}
        if able:
            self._seen_one = now
        elif now - self._seen_one > (patience_s := _ABSENCE_S + self._workers.notice_s):
            raise BlockError(
                f"no worker is left and none came back within {patience_s:.0f} s; finished blocks "
                "are kept: look for what ended the processes and run the same command again"
            )

    def _end(self, name: str, why: str) -> None:
        """Make sure that a worker is gone before anything it had is dealt again."""
        self._leaving[name] = (time.monotonic(), why)
        self._dealer.dismiss(name)
        self._workers.kill(name)

    def _lost(self, unit: int, why: str) -> None:
        for number in [n for n, tried in self._tries.items() if tried.unit == unit]:
            self._tries.pop(number).future.cancel()
        self._losses[unit] = self._losses.get(unit, 0) + 1
        if self._losses[unit] < _LOSSES:
            self._dealer.again(unit, at=time.monotonic(), alone=True)
        else:
            self.failed[unit] = Failure(why)

    def _watch(self) -> None:
        """End the workers whose oldest unit has outlived its lease."""
        now = time.monotonic()
        lease = self._given_lease or max(_LEASE_S, _LEASE_BLOCKS * self._longest)
        for name in self._dealer.workers:
            oldest = self._dealer.oldest(name)
            if oldest is None or name in self._leaving or now - oldest[1] < lease / 2:
                self._busy.pop(name, None)
                continue
            began, used = self._busy.setdefault(name, (now, self._workers.cpu_s(name)))
            if now - oldest[1] < lease:
                continue
            computes = self._workers.cpu_s(name) - used > _IDLE_SHARE * (now - began)
            if self._given_lease or not computes or now - oldest[1] > _LEASE_BUSY * lease:
                self._hung(name, oldest[0], now - oldest[1])

    def _hung(self, name: str, unit: int, seconds: float) -> None:
        why = f"it was not done after {seconds:.0f} s (lease) and counts as hung"
        if self._workers.here:
            raise Hung(f"block {self.named(unit)}: {why}; it runs in this process, which ends")
        log.warning("block %s: %s; its worker is killed", self.named(unit), why)
        self._end(name, why + "; its worker was killed each time it was tried")

    def named(self, unit: int) -> str:
        """Names of the blocks of a unit."""
        return ", ".join(block.name for block in self._units[unit])

    def _deal(self) -> None:
        now = time.monotonic()
        for name, address in self._addresses.items():
            while (unit := self._dealer.deal(name, now)) is not None:
                self._submit(unit, name, address)

    def _submit(self, unit: int, name: str, address: str) -> None:
        future = self._workers.client.submit(
            self._work,
            self._units[unit],
            key=f"block-{uuid4()}",
            workers=[address],
            allow_other_workers=False,
            retries=0,
            pure=False,
        )
        self._number += 1
        number = self._number
        self._tries[number] = _Try(unit, name, future)
        self._expect(number)

    def _expect(self, number: int) -> None:
        """Be told once when a try has ended."""
        self._tries[number].future.add_done_callback(lambda _: self._ended.put(number))

    def _receive(self) -> None:
        """Judge what ended; wait for it a little, so that signals and losses are seen."""
        wait_s = _WAKES_EVERY_S
        try:
            for _ in range(max(1, self._dealer.running)):
                number = self._ended.get(timeout=wait_s)
                if number in self._tries:
                    self._judge(number)
                wait_s = 0
        except queue.Empty:
            return

    def _judge(self, number: int) -> None:
        tried = self._tries[number]
        if tried.worker in self._leaving:
            return  # and this with it
        if tried.future.status == "pending":
            # It had ended. Its worker is lost, or did not answer, and dask asks once more.
            self._expect(number)
            return
        error = None
        if tried.future.status == "error":
            error = tried.future.exception()
            if isinstance(error, KilledWorker):
                return  # likewise
        elif tried.future.status != "finished":
            error = RuntimeError(f"dask calls it {tried.future.status}")
        try:
            result = None if error is not None else tried.future.result(timeout=2)
        except OSError:  # of the way back; that of the work is its exception
            self._ended.put(number)
            return
        del self._tries[number]
        took = self._dealer.end(tried.worker, tried.unit, time.monotonic(), paced=error is None)
        if error is not None:
            self._missed(tried, error)
            return
        self._longest = max(self._longest, took)
        self.made += len(self._units[tried.unit])
        try:
            self._keep(tried.unit, result)
        except OSError as refused:
            if not is_full(refused):
                raise
            self.full = refused

    def _missed(self, tried: _Try, error: BaseException) -> None:
        """Try a unit again, elsewhere if possible, or give it up."""
        cause, tries = f"{type(error).__name__}: {error}", self._mended.get(tried.unit, 0)
        if is_full(error):
            self.full = error
        elif _is_transient(error) and tries < len(_PAUSES_S):
            pause = _PAUSES_S[tries]
            self._mended[tried.unit] = tries + 1
            log.warning("block %s: %s; tried again", self.named(tried.unit), cause)
            self._dealer.again(tried.unit, at=time.monotonic() + pause, not_by=tried.worker)
        else:
            self.failed[tried.unit] = Failure(cause, error)


_KILLED = (
    "its worker was killed each time it was tried, most likely for want of memory; give the job "
    "more (mem_mb), or make convert.shard or infer.tile_px smaller"
)


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, UNetCoreError):
        return isinstance(error, AccessError | DamageError)
    return isinstance(error, _TRANSIENT)


def is_full(error: BaseException) -> bool:
    """Does an error say that the disk takes no more?

    Also by its words: what a library in another language says has no number.
    """
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    return any(os.strerror(number) in str(error) for number in _FULL)


def told_full(error: BaseException, folder: Path) -> str:
    """What a user is told who has to make room."""
    free = shutil.disk_usage(folder).free / 1e6
    return (
        f"the disk takes no more ({error}); free where {folder.name} stands: {free:.0f} MB; all "
        "finished blocks are kept: make room (or ask for quota) and run the same command again"
    )
