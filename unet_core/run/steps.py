"""A long loop in one process: ended politely when asked to, and telling how far it is."""

import logging
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from tqdm import tqdm

log = logging.getLogger(__name__)

_TOLD_EVERY_S = 10.0


@contextmanager
def asked_to_end() -> Iterator[Callable[[], bool]]:
    """Within, SIGTERM and SIGINT do nothing but make the function given answer true."""
    asked = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        log.warning("%s: ending after what is under way", signal.Signals(number).name)

    before = {s: signal.signal(s, handle) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def progress(
    name: str, *, total: int, done: int = 0, unit: str = "step"
) -> Iterator[Callable[[], None]]:
    """A bar on a terminal, else a line of the log every ten seconds; call it after each unit."""
    if sys.stderr.isatty():
        with tqdm(total=total, initial=done, desc=name, unit=unit) as bar:
            yield lambda: bar.update() and None
        return
    began = told = time.monotonic()
    first = done

    def advance() -> None:
        nonlocal done, told
        done += 1
        if (now := time.monotonic()) - told > _TOLD_EVERY_S:
            told = now
            speed = (done - first) / (now - began)
            left = (total - done) / speed
            log.info(
                "%s: %s %d of %d, %.2f per second, %.0f s left",
                *(name, unit, done, total, speed, left),
            )

    yield advance
