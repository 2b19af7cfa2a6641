"""Which worker gets which unit of work, and when: bookkeeping without processes or clocks.

Units are the numbers 0..n-1. Every worker has a contiguous run of them, so that what it read for
one serves the next; it takes from the front, and when its own is empty that of one who is gone,
else the back half of the largest that is left.

A worker gets a unit only where the others, at their pace, would not have finished all that is
left before this one would be done with it. So a slow worker holds nothing that the others would
wait for: with paces that do not change, the end is at most one unit of the slowest worker later
than if the work could be divided without rest.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise


@dataclass
class _Worker:
    last: float = 0.0
    """When it ended a unit last, or got one after it had none."""

    since: float = 0.0
    """When its oldest unit became its oldest."""

    pace: float | None = None
    """Seconds per unit; None until the first is done."""

    running: dict[int, None] = field(default_factory=dict)
    """Units it has, oldest first."""

    alone: bool = False
    """It has one unit, and gets no other before that ends."""

    going: bool = False
    """It gets no more."""

    def _late(self, now: float) -> tuple[float, float]:
        """Seconds since it ended a unit, and seconds per unit from now on.

        One that takes longer than those before it is as slow as that from now on.
        """
        late = now - self.last if self.running else 0.0
        return late, max(self.pace or 0.0, late, 1e-6)

    def done_in(self, more: int, now: float) -> float:
        """Seconds until it would be done with what it has and `more` units."""
        late, pace = self._late(now)
        return max(0.0, (len(self.running) + more) * pace - late)

    def done_before(self, seconds: float, now: float) -> int:
        """Units that it would be done with before so many seconds, besides those it has.

        One whose pace is not known yet is taken to end its first unit now.
        """
        if self.pace is None and not self.running:
            return 0
        late, pace = self._late(now)
        return max(0, math.ceil((seconds + late) / pace - 1e-9) - 1 - len(self.running))


@dataclass(frozen=True)
class _Again:
    unit: int
    at: float
    alone: bool
    not_by: str | None


class Dealer:
    """Deals the units of one step to the workers there are.

    Parameters
    ----------
    total
        Number of units.
    workers
        Names of those who are there at the beginning; each gets an equal part. A name is not
        used again.
    ahead
        Units that a worker may have besides the one it computes.
    """

    def __init__(self, total: int, *, workers: Sequence[str], ahead: int) -> None:
        self._ahead = ahead
        self._workers = {name: _Worker() for name in workers}
        owners = list(workers) or [""]
        cuts = [total * number // len(owners) for number in range(len(owners) + 1)]
        self._runs = {name: range(*cut) for name, cut in zip(owners, pairwise(cuts), strict=True)}
        self._again: list[_Again] = []

    @property
    def workers(self) -> list[str]:
        """Names of those who are there."""
        return list(self._workers)

    @property
    def left(self) -> int:
        """Units that no worker has and that are not done."""
        return self._fresh + len(self._again)

    @property
    def running(self) -> int:
        """Units that workers have."""
        return sum(len(worker.running) for worker in self._workers.values())

    @property
    def _fresh(self) -> int:
        return sum(map(len, self._runs.values()))

    def join(self, name: str) -> None:
        """A worker came."""
        self._workers[name] = _Worker()
        self._runs[name] = range(0)

    def dismiss(self, name: str) -> None:
        """A worker is lost or being ended: from now on nobody counts on it."""
        self._workers[name].going = True

    def leave(self, name: str) -> list[int]:
        """A worker is gone; returns the units it had."""
        return list(self._workers.pop(name).running)

    def oldest(self, name: str) -> tuple[int, float] | None:
        """The unit that a worker has had longest, and since when it has been that."""
        worker = self._workers[name]
        unit = next(iter(worker.running), None)
        return None if unit is None else (unit, worker.since)

    def again(
        self, unit: int, *, at: float, alone: bool = False, not_by: str | None = None
    ) -> None:
        """Deal a unit once more.

        Parameters
        ----------
        at
            Not before this time.
        alone
            To a worker that has no other meanwhile.
        not_by
            To another worker than this one, if there is one.
        """
        self._again.append(_Again(unit, at, alone, not_by))

    def deal(self, name: str, now: float) -> int | None:
        """The next unit for a worker; None where it has enough for now."""
        worker = self._workers[name]
        has = len(worker.running)
        waits = worker.alone or has > self._ahead or (has and worker.pace is None)
        if waits or worker.going:
            return None
        unit = self._repeated(name, now)
        waited_for = any(again.alone for again in self._again)  # somebody has to become free
        if unit is None and not (has and waited_for) and self._serves(name, now):
            unit = self._next(name)
        if unit is not None:
            if not has:
                worker.last = worker.since = now
            worker.running[unit] = None
        return unit

    def end(self, name: str, unit: int, now: float, *, paced: bool = True) -> float:
        """A unit ended; returns the seconds it took while it was the oldest.

        `paced`: that says how fast the worker is; not so where the unit failed, or one that fails
        at once would be given all the others.
        """
        worker = self._workers[name]
        oldest = next(iter(worker.running)) == unit
        del worker.running[unit]
        worker.alone = False
        took, worker.last = now - worker.last, now
        if paced:
            worker.pace = took if worker.pace is None else (worker.pace + took) / 2
        if not oldest:
            return 0.0
        took, worker.since = now - worker.since, now
        return took

    def _serves(self, name: str, now: float) -> bool:
        """Would one more unit for this worker end the step sooner, or at least no later?"""
        worker, left = self._workers[name], self._fresh
        if worker.pace is None:
            return True
        seconds = worker.done_in(1, now)
        for other, its in self._workers.items():
            if left > 0 and other != name and not its.going:
                left -= its.done_before(seconds, now)
        return left > 0

    def _repeated(self, name: str, now: float) -> int | None:
        worker = self._workers[name]
        others = sum(not each.going for each in self._workers.values()) > 1
        for number, again in enumerate(self._again):
            barred = again.not_by == name and others
            if again.at <= now and not barred and not (again.alone and worker.running):
                worker.alone = again.alone
                return self._again.pop(number).unit
        return None

    def _next(self, name: str) -> int | None:
        if not self._runs[name]:
            self._runs[name] = self._half_of_largest()
        run = self._runs[name]
        self._runs[name] = run[1:]
        return run[0] if run else None

    def _half_of_largest(self) -> range:
        left = [name for name, run in self._runs.items() if run]
        gone = [name for name in left if name not in self._workers]
        owner = max(gone or left, key=lambda name: len(self._runs[name]), default="")
        run = self._runs.get(owner, range(0))
        kept = 0 if gone else len(run) // 2
        self._runs[owner] = run[:kept]
        return run[kept:]
