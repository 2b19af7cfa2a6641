"""When a block counts as hung, without processes."""

import errno
import os

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


def hung_after(
    monkeypatch: pytest.MonkeyPatch,
    workers: FakeWorkers,
    *,
    lease_s: float | None = None,
    longest: float = 0,
) -> int:
    """Seconds after which the worker with one block is killed."""
    made = Dispatch(
        workers,  # type: ignore[arg-type]
        print,
        [[Named()]],
        ahead=0,
        lease_s=lease_s,
        ending=lambda: False,
        keep=print,
        tell=print,
    )
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
