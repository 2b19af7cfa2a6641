"""One function over blocks: kept, refused, ended; faults are in `test_faults`."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tests.run.faulty import check_same, kept, make, start, until
from unet_core.config import Resources
from unet_core.errors import BlockError, PlanError
from unet_core.geometry import Block, Box
from unet_core.io.arrays import open_level
from unet_core.io.ledger import building
from unet_core.io.ngff import content_of
from unet_core.run import crew
from unet_core.run.crew import Crew, Done


def test_one_and_two_workers_make_the_same_store(tmp_path: Path) -> None:
    assert len(make(tmp_path / "one", Resources(threads=1), ahead=2)) == 18
    assert len(make(tmp_path / "two", Resources(threads=2), ahead=2)) == 18
    assert content_of(tmp_path / "one") == content_of(tmp_path / "two")
    assert np.array_equal(open_level(tmp_path / "one")[:], open_level(tmp_path / "two")[:])


def test_a_failed_block_is_named_and_the_others_are_kept(tmp_path: Path) -> None:
    with pytest.raises(BlockError, match=r"4-4-0.*planted"):
        make(tmp_path / "x", Resources(threads=1), faults={"4-4-0": ("wrong", 1)})
    assert len(kept(tmp_path / "x")) == 17
    assert len(make(tmp_path / "x", Resources(threads=1))) == 18


def test_a_block_that_does_not_fit_the_memory_is_refused_with_the_number(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="about 900 MB, the job has 800 MB"):
        make(tmp_path / "x", Resources(threads=2, memory_mb=800), need_mb=900)
    resources = Resources(threads=2, memory_mb=1000)
    assert len(make(tmp_path / "x", resources, need_mb=900)) == 18


def test_a_step_that_needs_more_memory_gets_fewer_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    opened, watched = [], []

    @contextmanager
    def open_workers(resources: Resources, *, workers: int, dashboard: bool) -> Iterator[object]:
        opened.append(workers)
        watched.append(dashboard)
        yield object()

    monkeypatch.setattr(crew, "open_workers", open_workers)
    steps = [(100, 20), (100, 1), (400, 20), (400, 1), (100, 20)]
    with Crew(Resources(threads=8, memory_mb=1400)) as made:
        for need_mb, blocks_to_do in steps:
            made._workers_for(blocks_to_do, made._most_workers(need_mb, None))
    assert opened == [8, 2, 8], "workers stay where they fit, and only there"
    opened.clear()
    watched.clear()
    with Crew(Resources(threads=1)) as made:
        for blocks_to_do in (1, 1, 20, 1):
            made._workers_for(blocks_to_do, 1)
    assert watched == [False, True], "a long step is watched, also after a short one"


def process(block: Block) -> Done:
    return Done(None, note=os.getpid())


def test_a_step_that_stands_apart_runs_its_only_block_where_the_others_will_be(
    tmp_path: Path,
) -> None:
    blocks = [Block(Box((0, 0, n), (1, 1, n + 1)), (0, 0, 0)) for n in range(2)]
    with (
        building(tmp_path / "x", stage="infer", settings={}, inputs={}) as build,
        Crew(Resources(threads=2)) as made,
    ):
        assert made.run(build, "here", process, blocks[:1]) == [os.getpid()]
        (one,) = made.run(build, "apart", process, blocks[:1], apart=True)
        workers = made._workers
        assert one != os.getpid()
        assert os.getpid() not in made.run(build, "all", process, blocks)
        assert made._workers is workers


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_job_that_is_ended_goes_on_where_it_was(
    tmp_path: Path, number: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    store = tmp_path / "x"
    job = start(store, resources={"threads": 2}, pause=0.3)
    until(job, lambda: len(kept(store)) >= 2)
    os.killpg(job.pid, number)  # the whole group, as schedulers do
    _, errors = job.communicate(timeout=60)
    assert job.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 143), errors
    assert not (store / "zarr.json").exists()
    done = len(kept(store))
    make(store, Resources())
    assert f"resumed {done}, computed {18 - done}" in caplog.text
    make(tmp_path / "undisturbed", Resources())
    check_same(store, tmp_path / "undisturbed")
