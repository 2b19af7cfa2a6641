"""Two runs on one result: one writes, the other waits, and nothing is done twice."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from tests.stages.faults import Job, finished, until
from tests.stages.scenes import BLOCKS, Scene, resumed_of


@pytest.fixture
def other(scene: Scene) -> Scene:
    """A second run of another working directory, on the results of the first."""
    (scene.folder / "other").mkdir()
    return replace(scene, folder=scene.folder / "other")


def is_waiting(log: str) -> bool:
    return "waiting: probabilities.ome.zarr is written by" in log


def test_two_runs_do_the_work_once(scene: Scene, other: Scene) -> None:
    with scene.start() as first, other.start(out=scene.out) as second:
        assert (first.wait(), second.wait()) == (0, 0), first.text() + second.text()
        done = [resumed_of(job.text()) for job in (first, second)]
        assert sorted(done) == [(0, BLOCKS), (BLOCKS, 0)]
        assert is_waiting(first.text()) != is_waiting(second.text())
    scene.check()


@contextmanager
def standing_still(scene: Scene) -> Iterator[Job]:
    """A run that has finished some blocks and is stopped."""
    with scene.start() as job:
        until(lambda: finished(scene.out) >= 2, job)
        os.killpg(job.process.pid, signal.SIGSTOP)
        yield job


@pytest.mark.slow
def test_a_run_that_waits_goes_on_where_the_killed_one_was(scene: Scene, other: Scene) -> None:
    with standing_still(scene) as first, other.start(out=scene.out) as second:
        until(lambda: is_waiting(second.text()), second)
        os.killpg(first.process.pid, signal.SIGKILL)
        first.wait()
        kept = finished(scene.out)
        assert second.wait() == 0, second.text()
        assert resumed_of(second.text()) == (kept, BLOCKS - kept)
    scene.check()


@pytest.mark.slow
def test_a_run_that_stood_still_ends_when_another_has_taken_over(
    scene: Scene, other: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNET_LOCK_LEASE_S", "5")
    with standing_still(scene) as first, other.start(out=scene.out) as second:
        until(lambda: "taken over" in second.text(), second)
        os.killpg(first.process.pid, signal.SIGCONT)
        assert second.wait() == 0, second.text()
        assert first.wait() == 1, first.text()
        assert "gave no sign of itself for 5 s" in first.text()
        assert "Traceback (most" not in first.text()
    scene.check()


@pytest.mark.slow
def test_a_run_that_waits_ends_when_asked_to(scene: Scene, other: Scene) -> None:
    with standing_still(scene) as first:
        with other.start(out=scene.out) as second:
            until(lambda: is_waiting(second.text()), second)
            os.kill(second.process.pid, signal.SIGTERM)
            assert second.wait() == 143, second.text()
        os.kill(first.process.pid, signal.SIGUSR1)  # as Slurm does ahead of a time limit
        os.killpg(first.process.pid, signal.SIGCONT)
        assert first.wait() == 143, first.text()
        assert "SIGUSR1" in first.text()
    assert finished(scene.out) < BLOCKS
