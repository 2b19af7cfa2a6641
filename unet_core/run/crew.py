"""One function over the blocks that are not done yet: the way every blockwise stage runs."""

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, TypeVar

from distributed import Client, Future, KilledWorker, wait

from unet_core.config import Resources
from unet_core.errors import BlockError, Interrupted, PlanError
from unet_core.io.ledger import Build
from unet_core.run.cluster import open_client
from unet_core.run.steps import asked_to_end, progress

log = logging.getLogger(__name__)


class Named(Protocol):
    """A unit of work; its name is the same whatever else is in the plan."""

    @property
    def name(self) -> str:
        """Unique within a step."""
        ...


Unit = TypeVar("Unit", bound=Named)


@dataclass(frozen=True)
class Done:
    """What a worker hands back once its block is on disk."""

    digest: str | None
    """Of what was written to the store; None where only scratch was."""

    note: Any = None
    """Small JSON: counts, sums."""


@dataclass
class Crew:
    """The workers of one job; started when the first block needs them.

    Use as a context manager. SIGTERM and SIGINT end it politely: blocks under way are finished
    and recorded, then `Interrupted` is raised.
    """

    resources: Resources
    _open: ExitStack = field(default_factory=ExitStack, repr=False)
    _workers: ExitStack = field(default_factory=ExitStack, repr=False)
    _client: Client | None = field(default=None, repr=False)
    _size: int = 0
    """Workers of the client that is open."""
    _ending: Callable[[], bool] = field(default=lambda: False, repr=False)

    def __enter__(self) -> "Crew":
        self._ending = self._open.enter_context(asked_to_end())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._open:
            self._workers.close()

    def run(
        self,
        build: Build,
        step: str,
        work: Callable[[Unit], Done],
        blocks: Sequence[Unit],
        *,
        need_mb: float = 0,
    ) -> list[Any]:
        """Run `work` on every block of `step` that the ledger has no line of.

        Parameters
        ----------
        build
            The store being made; its ledger gets one line per finished block.
        work
            Module-level function (or partial of one); runs in a worker, returns when its block
            is on disk.
        need_mb
            Memory of one worker with one block, MB; fewer workers are started where the job's
            memory would not hold them all.

        Returns
        -------
        list
            Notes of all blocks, in the order of `blocks`.

        Raises
        ------
        PlanError
            If not even one block fits the memory.
        BlockError
            If blocks failed; the others are finished and kept.
        Interrupted
            If the job was asked to end.
        """
        done = build.done(step)
        todo = [block for block in blocks if block.name not in done]
        log.info("%s: resumed %d, computed %d", step, len(blocks) - len(todo), len(todo))
        if todo:
            client = self._client_of(self._most_workers(need_mb), len(todo))
            self._work_off(client, build, step, work, todo)
        lines = build.done(step)
        return [lines[block.name]["note"] for block in blocks]

    def _work_off(
        self,
        client: Client,
        build: Build,
        step: str,
        work: Callable[[Unit], Done],
        todo: Sequence[Unit],
    ) -> None:
        workers = self._size
        waiting = iter(todo)
        running: dict[Future, str] = {}
        failures: dict[str, BaseException] = {}
        stop = False
        with progress(step, total=len(todo), unit="block") as advance:
            while True:
                stop = stop or self._ending() or len(failures) > _TOLERATED_FAILURES
                while not stop and len(running) < 2 * workers:
                    if (block := next(waiting, None)) is None:
                        break
                    running[client.submit(work, block, pure=False)] = block.name
                if not running:
                    break
                for future in _finished(running):
                    name = running.pop(future)
                    if (error := future.exception()) is not None:
                        failures[name] = error
                        continue
                    result: Done = future.result()
                    build.tick(step, name, digest=result.digest, note=result.note)
                    advance()
        if failures:
            raise BlockError(_told(step, failures)) from next(iter(failures.values()))
        if self._ending():
            raise Interrupted(
                f"asked to end during {step}: {len(build.done(step))} blocks are finished and "
                "kept; the same command goes on from there"
            )

    def _most_workers(self, need_mb: float) -> int:
        """Workers that the job's memory holds with a block each, and no more than it has cores."""
        wanted = self.resources.gpus or self.resources.threads
        given = self.resources.memory_mb
        if given and need_mb:
            fitting = int(given // need_mb)
            if fitting < 1:
                raise PlanError(
                    f"one block needs about {need_mb:.0f} MB, the job has {given} MB; give it "
                    "more memory (mem_mb), or make convert.shard or infer.tile_px smaller"
                )
            wanted = min(wanted, fitting)
        return max(1, wanted)

    def _client_of(self, most: int, blocks: int) -> Client:
        """A client of a worker per block, at most `most`; the one of the step before, if it fits.

        One of more workers than `most` would not: each has its share of the memory alone.
        """
        workers = min(most, blocks)
        if self._client is None or not workers <= self._size <= most:
            self._workers.close()
            self._client = self._workers.enter_context(open_client(self.resources, workers=workers))
            self._size = workers
        return self._client


_TOLERATED_FAILURES = 3
"""Failed blocks after which no further one is begun."""


def _finished(running: dict[Future, str]) -> list[Future]:
    """Futures that ended; waits at most half a second, so that signals are seen."""
    try:
        return list(wait(list(running), timeout=0.5, return_when="FIRST_COMPLETED").done)
    except TimeoutError:
        return []


def _told(step: str, failures: dict[str, BaseException]) -> str:
    first, error = next(iter(failures.items()))
    cause = f"{type(error).__name__}: {error}"
    if isinstance(error, KilledWorker):
        cause = (
            "its worker was killed each time it was tried, most likely for want of memory; give "
            "the job more (mem_mb), or make convert.shard or infer.tile_px smaller"
        )
    return (
        f"{step}: {len(failures)} block(s) failed: {', '.join(failures)} (first voxel z-y-x); "
        f"block {first}: {cause}; finished blocks are kept: mend the cause and run the same "
        "command again"
    )
