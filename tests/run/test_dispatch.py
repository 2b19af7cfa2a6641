"""When a block counts as hung, without processes."""

import errno
import os
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from unet_core.errors import Hung
from unet_core.run import dispatch
from unet_core.run.dispatch import Dispatch, is_full


class FakeWorkers:
    """One worker, whose use of the CPU is told."""

    def __init__(self, *, here: bool = False, share: float = 0) -> None:
        self.here, self.share, self.killed, self.now = here, share, 0, 0.0

    def present(self) -> dict[str, str]:
        return {"w": "address"}

    def cpu_s(self, name: str) -> float:
        return self.share * self.now

    def kill(self, name: str) -> None:
        self.killed += 1


class Named:
    name = "0-0-0"


def dispatch_of(
    workers: FakeWorkers,
    *,
    lease_s: float | None = None,
    keep: Callable[..., None] = print,
    tell: Callable[[], None] = print,
) -> Dispatch:
    """Of one unit of one block."""
    return Dispatch(
        workers,  # type: ignore[arg-type]
        print,
        [[Named()]],
        ahead=0,
        lease_s=lease_s,
        ending=lambda: False,
        keep=keep,
        tell=tell,
    )


def hung_after(
    monkeypatch: pytest.MonkeyPatch,
    workers: FakeWorkers,
    *,
    lease_s: float | None = None,
    longest: float = 0,
) -> int:
    """Seconds after which the worker with one block is killed."""
    made = dispatch_of(workers, lease_s=lease_s)
    monkeypatch.setattr(dispatch.time, "monotonic", lambda: workers.now)
    made._longest = longest
    made._dealer.deal("w", 0.0)
    while not workers.killed:
        workers.now += 10
        made._watch()
    return int(workers.now)


def test_a_block_hangs_after_ten_minutes_or_twenty_times_the_longest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert hung_after(monkeypatch, FakeWorkers()) == 600
    assert hung_after(monkeypatch, FakeWorkers(), longest=100) == 2000


def test_a_process_that_still_computes_has_six_times_as_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert hung_after(monkeypatch, FakeWorkers(share=0.9)) == 3610
    assert hung_after(monkeypatch, FakeWorkers(share=0.9), lease_s=50) == 50


def test_the_only_process_cannot_be_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Hung, match="block 0-0-0: it was not done after 50 s"):
        hung_after(monkeypatch, FakeWorkers(here=True), lease_s=50)


def test_a_full_disk_is_known_by_number_and_by_words() -> None:
    assert is_full(OSError(errno.EDQUOT, "x"))
    assert is_full(RuntimeError(f"write failed: {os.strerror(errno.ENOSPC)} (os error 28)"))
    assert not is_full(OSError(errno.EIO, os.strerror(errno.EIO)))


class FakeFuture:
    """Of a try whose worker does not answer when it is asked for the result."""

    def __init__(self) -> None:
        self.status, self.asked = "pending", 0
        self.told: list[Callable[[object], None]] = []

    def add_done_callback(self, tell: Callable[[object], None]) -> None:
        """As dask: once, as soon as it has ended."""
        if self.status == "pending":
            self.told.append(tell)
        else:
            tell(self)

    def end(self) -> None:
        self.status, told, self.told = "finished", self.told, []
        for tell in told:
            tell(self)

    def result(self, timeout: float) -> str:
        self.asked += 1
        if self.asked == 1:
            self.status = "pending"
            raise TimeoutError
        return "done"


def test_a_result_that_is_asked_for_twice_is_not_lost() -> None:
    workers, future, kept = FakeWorkers(), FakeFuture(), []
    workers.client = SimpleNamespace(submit=lambda *_, **__: future)  # type: ignore[attr-defined]
    turns: list[str] = []

    def turn() -> None:
        """Of the loop: the result is there after the first, and after the third once more."""
        turns.append(future.status)
        assert len(turns) < 9, "it was told, and nobody listened"
        if len(turns) in (1, 3):
            future.end()

    dispatch_of(workers, keep=lambda number, result: kept.append((number, result)), tell=turn).run()
    assert (kept, future.asked) == ([(0, "done")], 2)
