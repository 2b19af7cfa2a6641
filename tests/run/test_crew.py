import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from unet_core.config import ConvertConfig, Resources
from unet_core.errors import BlockError, PlanError
from unet_core.geometry import Block, blocks
from unet_core.io.arrays import create_array, open_level, shard_of, write_block
from unet_core.io.ledger import building
from unet_core.io.ngff import content_of
from unet_core.run import crew
from unet_core.run.crew import Crew, Done


def count_up(block: Block, *, store: Path, pause: float = 0, bad: str = "") -> Done:
    time.sleep(pause)
    if block.name == bad:
        raise ValueError("planted")
    z, y, x = (range(a, b) for a, b in zip(block.write.start, block.write.stop, strict=True))
    values = np.add.outer(np.add.outer(np.array(z) * 100, np.array(y) * 10), np.array(x))
    return Done(write_block(open_level(store, mode="r+"), block.write, values.astype("uint16")), 1)


def make(store: Path, resources: Resources, *, need_mb: float = 0, **options: object) -> int:
    work = {"convert": ConvertConfig()}
    with building(store, stage="convert", settings=work, inputs={}) as build:
        level = create_array(
            store, "0", shape=(8, 9, 10), dtype="uint16", chunk=(2, 2, 2), shard=(4, 4, 4)
        )
        plan = blocks(level.shape, block=shard_of(level))
        with Crew(resources) as crew:
            run = partial(count_up, store=store, **options)
            notes = crew.run(build, "level 0", run, plan, need_mb=need_mb)
        build.publish(unet={})
    return len(notes)


def test_one_and_two_workers_make_the_same_store(tmp_path: Path) -> None:
    assert make(tmp_path / "one", Resources(threads=1)) == 18
    assert make(tmp_path / "two", Resources(threads=2)) == 18
    assert content_of(tmp_path / "one") == content_of(tmp_path / "two")
    assert np.array_equal(open_level(tmp_path / "one")[:], open_level(tmp_path / "two")[:])


def test_a_failed_block_is_named_and_the_others_are_kept(tmp_path: Path) -> None:
    with pytest.raises(BlockError, match=r"4-4-0.*planted"):
        make(tmp_path / "x", Resources(threads=1), bad="4-4-0")
    ledger = (tmp_path / "x.ledger.jsonl").read_text().splitlines()
    assert len(ledger) == 1 + 17
    assert make(tmp_path / "x", Resources(threads=1)) == 18


def test_a_block_that_does_not_fit_the_memory_is_refused_with_the_number(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="about 900 MB, the job has 800 MB"):
        make(tmp_path / "x", Resources(threads=2, memory_mb=800), need_mb=900)
    assert make(tmp_path / "x", Resources(threads=2, memory_mb=1000), need_mb=900) == 18


def test_a_step_that_needs_more_memory_gets_fewer_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    @contextmanager
    def open_workers(resources: Resources, *, workers: int, dashboard: bool) -> Iterator[object]:
        opened.append(workers)
        yield object()

    monkeypatch.setattr(crew, "open_workers", open_workers)
    steps = [(100, 20), (100, 1), (400, 20), (400, 1), (100, 20)]
    with Crew(Resources(threads=8, memory_mb=1000)) as made:
        for need_mb, blocks_to_do in steps:
            made._workers_for(blocks_to_do, made._most_workers(need_mb))
    assert opened == [8, 2, 8], "workers stay where they fit, and only there"


SCRIPT = """
import logging, sys
from pathlib import Path
from tests.run.test_crew import make
from unet_core.config import Resources
from unet_core.errors import Interrupted
logging.basicConfig(level="INFO")
try:
    make(Path(sys.argv[1]), Resources(threads=2), pause=0.2)
except Interrupted as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


def start(store: Path) -> subprocess.Popen[str]:
    root = Path(__file__).parents[2]
    script = store.with_name("script.py")
    script.write_text("if __name__ == '__main__':\n" + SCRIPT.replace("\n", "\n    "))
    return subprocess.Popen(
        [sys.executable, script, store],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ticks(store: Path, least: int) -> None:
    ledger = store.with_name(store.name + ".ledger.jsonl")
    while not ledger.exists() or len(ledger.read_text().splitlines()) <= least:
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_job_that_is_ended_goes_on_where_it_was(tmp_path: Path, number: signal.Signals) -> None:
    store = tmp_path / "x"
    job = start(store)
    ticks(store, 2)
    os.killpg(job.pid, number)  # the whole group, as schedulers do
    _, errors = job.communicate(timeout=60)
    assert job.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 143), errors
    assert not (store / "zarr.json").exists()
    kept = len(store.with_name("x.ledger.jsonl").read_text().splitlines()) - 1
    assert kept >= 2
    job = start(store)
    _, errors = job.communicate(timeout=60)
    assert f"resumed {kept}, computed {18 - kept}" in errors
    make(tmp_path / "undisturbed", Resources())
    files = sorted(p.relative_to(store) for p in store.rglob("*") if p.is_file())
    for file in files:
        assert (store / file).read_bytes() == (tmp_path / "undisturbed" / file).read_bytes()
