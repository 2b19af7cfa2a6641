"""One function over the blocks that are not done yet: the way every blockwise stage runs."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, TypeVar, overload

from unet_core.config import Resources
from unet_core.errors import BlockError, Hung, Interrupted, PlanError
from unet_core.io.ledger import Build
from unet_core.run.cluster import Workers, open_workers
from unet_core.run.dispatch import Named, told_full
from unet_core.run.jobqueue import open_jobs
from unet_core.run.nodes import open_steps
from unet_core.run.rounds import Outcome, Rounds
from unet_core.run.steps import asked_to_end, progress

log = logging.getLogger(__name__)


Unit = TypeVar("Unit", bound=Named)

OnError = Literal["stop", "skip-and-report"]


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

    Use as a context manager. SIGTERM, SIGINT and SIGUSR1 end it politely: blocks under way are
    finished and recorded, then `Interrupted` is raised.
    """

    resources: Resources
    failures: dict[str, str] = field(default_factory=dict)
    """Blocks that failed in the last `run`, by name, with their causes."""
    _open: ExitStack = field(default_factory=ExitStack, repr=False)
    _opened: ExitStack = field(default_factory=ExitStack, repr=False)
    _workers: Workers | None = field(default=None, repr=False)
    _size: int = 0
    """Workers that are open."""
    _watched: bool = False
    """They have a dashboard."""
    _ending: Callable[[], bool] = field(default=lambda: False, repr=False)

    @property
    def ending(self) -> Callable[[], bool]:
        """True once the job was asked to end."""
        return self._ending

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
            if not isinstance(error, Hung):  # else to close them would be to wait for the block
                self._opened.close()
                self._workers, self._size = None, 0

    @overload
    def run(
        self,
        build: Build,
        step: str,
        work: Callable[[Unit], Done],
        blocks: Sequence[Unit],
        *,
        need_mb: float = 0,
        most_workers: int | None = None,
        ahead: int = 0,
        apart: bool = False,
        amount: Callable[[Unit], float] | None = None,
        on_error: OnError = "stop",
    ) -> list[Any]: ...

    @overload
    def run(
        self,
        build: Build,
        step: str,
        work: Callable[[Sequence[Unit]], Mapping[str, Done]],
        blocks: Sequence[Unit],
        *,
        together: Callable[[Sequence[Unit]], Sequence[Sequence[Unit]]],
        need_mb: float = 0,
        most_workers: int | None = None,
        ahead: int = 0,
        apart: bool = False,
        amount: Callable[[Unit], float] | None = None,
        on_error: OnError = "stop",
    ) -> list[Any]: ...

    def run(
        self,
        build: Build,
        step: str,
        work: Callable[..., Any],
        blocks: Sequence[Unit],
        *,
        together: Callable[[Sequence[Unit]], Sequence[Sequence[Unit]]] | None = None,
        need_mb: float = 0,
        most_workers: int | None = None,
        ahead: int = 0,
        apart: bool = False,
        amount: Callable[[Unit], float] | None = None,
        on_error: OnError = "stop",
    ) -> list[Any]:
        """Run `work` on every block of `step` that the ledger has no line of.

        Parameters
        ----------
        build
            The store being made; its ledger gets one line per finished block.
        work
            Module-level function (or partial of one); runs in a worker, returns when its block
            is on disk. An OSError, RuntimeError, MemoryError or DamageError of it is tried
            again, any other error is not.
        blocks
            In the order in which their data lie: each worker gets a contiguous part.
        together
            Cuts the blocks that are not done into groups of blocks that are computed together;
            `work` then gets a group and returns a `Done` for each of its names. A group is done
            or fails as one; the blocks of one that failed are tried once more, each alone. It is
            recorded block by block: after a restart `together` gets what is left, and may cut it
            otherwise.
        need_mb
            Memory of one worker, MB; fewer workers are started where the job's memory would not
            hold them all.
        most_workers
            Workers to start at most on each node, where each keeps several cores busy.
        ahead
            0 to 2: calls of `work` that may begin in a worker, each in a thread of its own, while
            another is under way: one reads or writes while the other computes. `work` must see
            to it that they compute one at a time, and `need_mb` hold them all.
        apart
            Open all workers there is room for, also for fewer blocks: what is done is done where
            the next step's blocks will be.
        amount
            Voxels of a block, for the speed in the log.
        on_error
            skip-and-report: blocks that failed are in `failures` and do not end the job, unless
            they are more than those that are done. A rerun does them alone.

        Returns
        -------
        list
            Notes of all blocks, in the order of `blocks`; None for those in `failures`.

        Raises
        ------
        PlanError
            If not even one block fits the memory.
        BlockError
            If blocks failed; the others are finished and kept. At once if most do, the disk is
            full or no worker is left; how many were not tried is told then.
        Hung
            If a block hangs in this process, as the only worker is here.
        Interrupted
            If the job was asked to end; also where blocks failed, if others were not tried.
        """
        done = build.done(step)
        todo = [block for block in blocks if block.name not in done]
        log.info("%s: resumed %d, computed %d", step, len(blocks) - len(todo), len(todo))
        self.failures = {}
        if todo:
            groups = together(todo) if together else [(block,) for block in todo]
            self._work_off(
                build,
                step,
                _Task(work, together is not None),
                groups,
                self._workers_for(
                    len(groups), self._most_workers(need_mb, most_workers), apart=apart
                ),
                ahead=ahead,
                amount=amount,
                on_error=on_error,
            )
        lines = build.done(step)
        return [lines[b.name]["note"] if b.name in lines else None for b in blocks]

    def _work_off(
        self,
        build: Build,
        step: str,
        task: "_Task",
        groups: Sequence[Sequence[Unit]],
        workers: Workers,
        *,
        ahead: int,
        amount: Callable[[Unit], float] | None,
        on_error: OnError,
    ) -> None:
        """Compute the groups and record their blocks; raises as `run` does."""
        total = sum(map(len, groups))
        with progress(step, total=total, unit="block", amounts="voxels") as advance:

            def keep(block: Unit, done: Done) -> None:
                build.tick(step, block.name, digest=done.digest, note=done.note)
                advance(1, amount(block) if amount else 0)

            outcome = Rounds(
                step,
                workers,
                task,
                keep=keep,
                tell=lambda: advance(0),
                ending=self._ending,
                ahead=ahead,
                lease_s=self.resources.lease_s,
            ).run(groups, done=len(build.done(step)), skips=on_error == "skip-and-report")
        self._judge(build, step, outcome, on_error)

    def _judge(self, build: Build, step: str, outcome: Outcome, on_error: OnError) -> None:
        """Raise what `run` does where not every block is done."""
        if outcome.full is not None:
            raise BlockError(f"{step}: {told_full(outcome.full, build.store)}") from outcome.full
        done, failed = len(build.done(step)), outcome.failed
        self.failures = {name: failure.cause for name, failure in failed.items()}
        ending = self._ending()
        # Those not tried are done by the next run, which then tells what failed.
        final = outcome.hopeless or not (ending and outcome.untried)
        if failed and final and (outcome.hopeless or on_error == "stop" or len(failed) > done):
            raise BlockError(outcome.told(step)) from next(iter(failed.values())).error
        fate = "tried again by the next run" if ending else "left out"
        for name, cause in self.failures.items():
            log.warning("%s: block %s failed and is %s: %s", step, name, fate, cause)
        if ending:
            raise Interrupted(
                f"asked to end during {step}: {done} blocks are finished and kept; the same "
                "command goes on from there"
            )

    def _most_workers(self, need_mb: float, most: int | None) -> int:
        """Workers that the job's memory holds with a block each, and no more than it has cores."""
        wanted = min(self.resources.slots, most or self.resources.slots)
        ways = range(max(1, wanted), 0, -1)
        fitting = next((n for n in ways if self.resources.holds(n, need_mb)), None)
        if fitting is None:
            raise PlanError(
                f"one block needs about {need_mb:.0f} MB, the job has "
                f"{self.resources.share_mb(1):.0f} MB; give it more memory (mem_mb), or make "
                "convert.shard or infer.tile_px smaller"
            )
        return fitting * self.resources.nodes

    def _workers_for(self, units: int, most: int, *, apart: bool = False) -> Workers:
        """A worker per unit, at most `most`; those of the step before, if they fit.

        More of them than `most` would not: each has its share of the memory alone. Nor would those
        of a short step that have no dashboard.
        """
        workers = most if apart else min(most, units)
        watched = apart or units > _UNWATCHED
        fitting = workers <= self._size <= most and self._watched >= watched
        if self._workers is None or not fitting:
            self._opened.close()
            # Where there is one unit, to start a process would take longer than to compute it.
            openers = {"here": open_workers, "srun": open_steps, "jobqueue": open_jobs}
            # Memory and GPUs of jobs of their own are not here.
            queued = self.resources.launcher == "jobqueue"
            opener = openers[self.resources.launcher if workers > 1 or queued else "here"]
            opened = opener(self.resources, workers=workers, dashboard=watched)
            self._workers = self._opened.enter_context(opened)
            self._size, self._watched = workers, watched
        return self._workers


@dataclass(frozen=True)
class _Task:
    """What runs in a worker: the blocks of one unit, by name."""

    work: Callable[..., Any]
    takes_groups: bool

    def __call__(self, blocks: Sequence[Named]) -> dict[str, Done]:
        if self.takes_groups:
            return dict(self.work(blocks))
        (block,) = blocks
        return {block.name: self.work(block)}


_UNWATCHED = 4
"""Units up to which a dashboard would be gone before anyone looks; its start takes 0.4 s."""
