"""`unet-core infer` killed, hung and asked to end: nothing done is lost, no byte differs."""

import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable

import pytest

from tests.stages.faults import Job, files_of, finished, send, state_of, until
from tests.stages.scenes import BLOCKS, Scene, resumed_of


def test_a_killed_worker_costs_its_blocks_only(scene: Scene) -> None:
    with scene.start(threads=2) as job:
        until(lambda: finished(job.store) >= 2, job)
        send(job.workers()[0], signal.SIGKILL)
        assert job.wait() == 0, job.text()
        assert resumed_of(job.text()) == (0, BLOCKS)
    scene.check()


@pytest.mark.slow
def test_workers_killed_while_they_start_several_at_once_and_all_cost_no_more(
    scene: Scene,
) -> None:
    with scene.start(threads=4) as job:
        until(lambda: bool(job.workers()), job)
        send(job.workers()[0], signal.SIGKILL)
        for killed in (2, 4):
            reached = finished(job.store) + 2
            until(lambda: finished(job.store) >= reached, job)  # noqa: B023
            for pid in job.workers()[:killed]:
                send(pid, signal.SIGKILL)
        assert job.wait() == 0, job.text()
        assert resumed_of(job.text()) == (0, BLOCKS)
    scene.check()


def test_a_killed_driver_leaves_no_worker_and_a_rerun_completes(scene: Scene) -> None:
    with scene.start(threads=2) as job:
        until(lambda: finished(job.store) >= 3, job)
        send(job.process.pid, signal.SIGKILL)
        until(lambda: job.all() == [])  # nobody ends them but they themselves
        left = files_of(job.store)
        kept = finished(job.store)
        time.sleep(1)
        assert files_of(job.store) == left
    assert "zarr.json" not in left
    scene.finish(threads=1, kept=kept)
    scene.check()


KILLS = int(os.environ.get("UNET_TEST_KILLS", "8"))


@pytest.mark.slow
def test_random_kills_of_workers_and_drivers_change_no_byte(scene: Scene) -> None:
    """One kill after the other, in as many runs as it takes; a run that is whole is begun anew."""
    rng, seen = random.Random(KILLS), Counter[str]()
    while True:
        kept = finished(scene.out)
        with scene.start(threads=rng.randint(2, 4)) as job:
            while seen.total() < KILLS and (killed := kill_one(job, rng)):
                seen[killed] += 1
            code = job.wait()
            until(lambda: job.all() == [])
            assert code in (0, -signal.SIGKILL), job.text()
        if code == 0:
            assert resumed_of(job.text()) == (kept, BLOCKS - kept)
            scene.check()
            if seen.total() == KILLS:
                break
            shutil.rmtree(scene.out.parent)
    print(f"killed {dict(seen)}")


def kill_one(job: Job, rng: random.Random) -> str | None:
    """Kill a worker or the whole job, after some blocks or some time; None where it has ended."""
    by_time, wanted = rng.random() < 0.5, finished(job.store) + rng.randrange(5)
    moment = time.monotonic() + rng.uniform(0, 1.5 if by_time else 30)
    while time.monotonic() < moment and (by_time or finished(job.store) < wanted):
        if job.process.poll() is not None:
            return None
        time.sleep(0.005)
    workers = job.workers()
    if not workers or rng.random() < 0.15:
        if job.process.poll() is not None:
            return None
        os.killpg(job.process.pid, signal.SIGKILL)
        job.wait()
        return "job"
    send(rng.choice(workers), signal.SIGKILL)
    return "worker"


@pytest.mark.slow
def test_a_hung_worker_loses_its_block_to_another_and_is_gone(scene: Scene) -> None:
    with scene.start("--lease-s", "20", threads=2) as job:
        until(lambda: finished(job.store) >= 4, job)
        (hung, *_) = job.workers()
        assert send(hung, signal.SIGSTOP)
        assert job.wait() == 0, job.text()
        assert "counts as hung" in job.text()
        assert state_of(hung) in ("", "Z")
    scene.check()


MOMENTS: dict[str, Callable[[Job], bool]] = {
    "before any": lambda job: "infer: resumed" in job.text(),
    "at the first": lambda job: bool(job.workers()),
    "at the last": lambda job: len(job.workers()) == 3,
}


@pytest.mark.slow
def test_asked_to_end_while_workers_start_it_ends_and_can_go_on(scene: Scene) -> None:
    for moment, come in MOMENTS.items():
        kept = finished(scene.out)
        with scene.start(threads=3) as job:
            until(lambda: come(job), job)  # noqa: B023
            os.killpg(job.process.pid, signal.SIGTERM)
            assert job.wait() == 143, f"{moment}: {job.text()}"
            assert "goes on from there" in job.text()
            assert resumed_of(job.text()) == (kept, BLOCKS - kept)
            assert not (job.store / "zarr.json").exists()
    scene.finish(threads=1)
    scene.check()
