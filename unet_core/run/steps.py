"""A long loop in one process: ended politely when asked to, and telling how far it is."""

import logging
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

from tqdm import tqdm

log = logging.getLogger(__name__)

_TOLD_EVERY_S = 10.0

ENDS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
"""Ask a job to end: a scheduler, Ctrl-C, Slurm ahead of a time limit (`--signal=USR1@120`)."""


@contextmanager
def asked_to_end() -> Iterator[Callable[[], bool]]:
    """Within, a signal of `ENDS` does nothing but make the function given answer true."""
    asked = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        log.warning("%s: ending after what is under way", signal.Signals(number).name)

    before = {number: signal.signal(number, handle) for number in ENDS}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Advance(Protocol):
    """Call it after each unit, or after none where a line may be due."""

    def __call__(self, count: int = 1, amount: float = 0, /) -> None:
        """`amount`: of what the units are made of, such as voxels."""
        ...


@contextmanager
def progress(
    name: str, *, total: int, done: int = 0, unit: str = "step", amounts: str = ""
) -> Iterator[Advance]:
    """A bar on a terminal, else a line of the log every ten seconds; call it after each unit."""
    began = told = time.monotonic()
    first, amount = done, 0.0

    def speed(seconds: float) -> str:
        return f", {amount / seconds / 1e6:.3g} million {amounts}/s" if amount else ""

    if sys.stderr.isatty():
        with tqdm(total=total, initial=done, desc=name, unit=unit) as bar:

            def draw(count: int = 1, more: float = 0, /) -> None:
                nonlocal amount
                amount += more
                bar.set_postfix_str(speed(time.monotonic() - began).lstrip(", "), refresh=False)
                bar.update(count)

            yield draw
        return

    def write(count: int = 1, more: float = 0, /) -> None:
        nonlocal done, told, amount
        done, amount = done + count, amount + more
        now = time.monotonic()
        if now - told > _TOLD_EVERY_S and done > first:
            told, each = now, (now - began) / (done - first)
            log.info(
                "%s: %s %d of %d, %.2f per second%s, %.0f s left",
                *(name, unit, done, total, 1 / each, speed(now - began), (total - done) * each),
            )

    yield write
