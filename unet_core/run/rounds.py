"""A step in two rounds: groups of blocks, then each block of those groups that failed, alone."""

import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unet_core.run.cluster import Workers
from unet_core.run.dispatch import Dispatch, Failure, Named

log = logging.getLogger(__name__)

_NAMED = 20
"""Failed blocks that a message names."""


@dataclass(frozen=True)
class Outcome:
    """What became of the blocks that are not done."""

    failed: Mapping[str, Failure]
    """By name, in the order in which they failed."""

    untried: int
    """Blocks that were not begun, or failed in a group and were not tried alone."""

    hopeless: bool
    """Most failed, and no further one was begun."""

    full: BaseException | None
    """Set where the disk took no more."""

    def told(self, step: str) -> str:
        """What a user is told where blocks failed."""
        first, failure = next(iter(self.failed.items()))
        more = ["..."] if len(self.failed) > _NAMED else []
        named = ", ".join([*itertools.islice(self.failed, _NAMED), *more])
        untried = f", {self.untried} not tried" if self.untried else ""
        return (
            f"{step}: {len(self.failed)} block(s) failed{untried}: {named} (first voxel z-y-x); "
            f"block {first}: {failure.cause}; finished blocks are kept: mend the cause and run "
            "the same command again"
        )


@dataclass(frozen=True)
class Rounds:
    """How the blocks of a step get to `workers`."""

    step: str
    workers: Workers
    task: Callable[[Any], Mapping[str, Any]]
    """Gets a group, returns what is to be kept of each of its blocks, by name."""

    keep: Callable[[Any, Any], None]
    """Gets each block and what the task returned for it."""

    tell: Callable[[], None]
    """Called now and then."""

    ending: Callable[[], bool]
    ahead: int
    lease_s: float | None

    def run(self, groups: Sequence[Sequence[Named]], *, done: int, skips: bool) -> Outcome:
        """Compute every group, and once more, each alone, the blocks of those that failed.

        `done`: blocks of the step that were done before. `skips`: some may fail again that failed
        before. A rerun has those alone to do and would give up early if nothing else counted.
        """
        first = self._dispatched(groups, done=done if skips else 0)
        failed = _by_name(first, groups)
        alone = _one_by_one(first, groups)
        if not alone:
            return Outcome(failed, first.untried, first.hopeless, first.full)
        for (block,) in alone:
            del failed[block.name]
        untried = first.untried
        if self.ending():
            return Outcome(failed, untried + len(alone), hopeless=False, full=None)
        log.warning("%s: %d blocks failed together, and are tried alone", self.step, len(alone))
        # Most of these may fail where but few of all do.
        second = self._dispatched(alone, done=done + first.made)
        failed |= _by_name(second, alone)
        return Outcome(failed, untried + second.untried, second.hopeless, second.full)

    def _dispatched(self, groups: Sequence[Sequence[Named]], *, done: int) -> Dispatch:
        def keep(number: int, made: Mapping[str, Any]) -> None:
            for block in groups[number]:
                self.keep(block, made[block.name])

        dispatch = Dispatch(
            self.workers,
            self.task,
            groups,
            ahead=self.ahead,
            lease_s=self.lease_s,
            ending=self.ending,
            keep=keep,
            tell=self.tell,
            done=done,
        )
        dispatch.run()
        return dispatch


def _by_name(dispatch: Dispatch, groups: Sequence[Sequence[Named]]) -> dict[str, Failure]:
    return {block.name: why for n, why in dispatch.failed.items() for block in groups[n]}


def _one_by_one(dispatch: Dispatch, groups: Sequence[Sequence[Named]]) -> list[tuple[Named]]:
    """Blocks of groups whose work failed, as that may be for one of them alone.

    Not of those that took their workers with them: each of their blocks could do that again.
    """
    if dispatch.full is not None or dispatch.hopeless:
        return []
    worked = [n for n, failure in dispatch.failed.items() if failure.error is not None]
    return [(block,) for n in worked if len(groups[n]) > 1 for block in groups[n]]
