"""`unet-core infer` under faults, with real processes: nothing done is lost, no byte differs."""

import json
import os
import random
import re
import resource
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.stages.faults import (
    Job,
    files_of,
    fill,
    finished,
    ledger_of,
    send,
    small_disk,
    started,
    state_of,
    until,
)
from tests.stages.test_infer import checkpoint_file, noise, raw_store, statistics_of
from unet_core.config import InferConfig, Resources
from unet_core.io.probabilities import open_probabilities
from unet_core.net.checkpoint import read_checkpoint, write_checkpoint
from unet_core.stages.infer import infer_probabilities

CONFIG = {"tile_px": 16, "precision": "float32"}
SHAPE, SHARD = (1, 40, 64, 64), (1, 64, 64)
BLOCKS = 40
"""Of about a tenth of a second each."""


@dataclass
class Scene:
    """A volume, a network, and the files of a run that nobody disturbed."""

    folder: Path
    raw: Path
    checkpoint: Path
    expected: dict[str, bytes] = field(default_factory=dict)

    @property
    def out(self) -> Path:
        return self.folder / "out" / "probabilities.ome.zarr"

    def start(
        self, *options: str, threads: int = 2, out: Path | None = None, **settings: Any
    ) -> AbstractContextManager[Job]:
        """The real command, in a session of its own."""
        store = out or self.out
        store.parent.mkdir(exist_ok=True)
        return started(
            [
                *("infer", "--config", json.dumps({"infer": CONFIG | settings})),
                *("--raw", str(self.raw / "zarr.json"), "--checkpoint", str(self.checkpoint)),
                *("--out", str(store / "zarr.json"), "--threads", str(threads), *options),
            ],
            store=store,
            log=self.folder / "log",
        )

    def finish(self, *options: str, kept: int | None = None, **how: Any) -> str:
        """Run to the end: `kept` blocks (default: all of the ledger) are not computed again."""
        kept = finished(how.get("out") or self.out) if kept is None else kept
        with self.start(*options, **how) as job:
            assert job.wait() == 0, job.text()
            assert resumed_of(job.text()) == (kept, BLOCKS - kept)
            return job.text()

    def check(self, out: Path | None = None) -> None:
        """The store is whole and the same to the byte; nothing else was left."""
        out = out or self.out
        assert files_of(out) == self.expected
        assert {path.name for path in out.parent.iterdir()} == {out.name, ledger_of(out).name}


def resumed_of(log: str) -> tuple[int, int]:
    """Blocks taken over, blocks computed."""
    ((resumed, computed),) = re.findall(r"infer: resumed (\d+), computed (\d+)", log)
    return int(resumed), int(computed)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    folder = tmp_path_factory.mktemp("faults")
    raw = raw_store(folder / "raw.ome.zarr", noise(SHAPE), SHARD)
    checkpoint, out = checkpoint_file(folder / "best.pt"), folder / "out.ome.zarr"
    config, threads = InferConfig(**CONFIG), torch.get_num_threads()
    infer_probabilities(
        config, raw=raw, checkpoint=checkpoint, out=out, resources=Resources(threads=1)
    )
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
    return Scene(folder, raw, checkpoint, files_of(out))


@pytest.fixture
def scene(made: Scene, tmp_path: Path) -> Scene:
    return Scene(tmp_path, made.raw, made.checkpoint, made.expected)


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


@pytest.mark.parametrize("threads", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_on_a_full_disk_it_ends_at_once_and_goes_on_when_there_is_room(
    scene: Scene, threads: int
) -> None:
    with small_disk(scene.out.parent, mb=4) as disk:
        ballast = fill(disk, but=80_000)
        with scene.start(threads=threads) as job:
            assert job.wait() == 1, job.text()
            assert "No space left on device" in job.text()
            assert "Traceback (most" not in job.text()
            assert not (job.store / "zarr.json").exists()
            kept = finished(job.store)
            assert 0 < kept < BLOCKS // 2
            failed = job.text().rpartition("block(s) failed")[2].partition("block ")[0]
            assert len(re.findall(r"\d+-\d+-\d+", failed)) <= BLOCKS // 4
        ballast.unlink()
        scene.finish(threads=threads, kept=kept)
        scene.check()


@pytest.mark.slow
def test_where_the_ledger_takes_no_more_lines_it_ends_and_goes_on_later(scene: Scene) -> None:
    with scene.start(threads=2) as job:
        until(lambda: finished(job.store) >= 3, job)
        full = ledger_of(job.store).stat().st_size + 150  # in the middle of a line
        resource.prlimit(job.process.pid, resource.RLIMIT_FSIZE, (full, resource.RLIM_INFINITY))
        assert job.wait() == 1, job.text()
        assert "no room for" in job.text()
        assert "File too large" in job.text()
        assert "Traceback (most" not in job.text()
    lines = ledger_of(scene.out).read_text().splitlines()
    assert all(json.loads(line) for line in lines)
    assert len(lines) - 1 == finished(scene.out) >= 3
    scene.finish(threads=1)
    scene.check()


@pytest.mark.slow
def test_where_only_the_marker_finds_no_room_nothing_is_computed_again(scene: Scene) -> None:
    with small_disk(scene.folder / "disk", mb=4) as disk:
        (disk / scene.out.name).mkdir()
        scene.out.parent.mkdir()
        scene.out.symlink_to(disk / scene.out.name)
        scene.finish(threads=1)
        (scene.out / "zarr.json").unlink()
        ballast = fill(disk, but=0)
        with scene.start(threads=1) as job:
            assert job.wait() == 1, job.text()
            assert "no room for" in job.text()
            assert "Traceback (most" not in job.text()
        ballast.unlink()
        scene.finish(threads=1, kept=BLOCKS)
        scene.check()


def shard_file(raw: Path, section: int) -> Path:
    """The only file of the raw voxels of a block."""
    return raw / "0" / "c" / "0" / str(section) / "0" / "0"


def cut_off(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 4] ^= 4
    file.write_bytes(data)


def shut(file: Path) -> None:
    """Not to be opened by anyone, whoever runs this."""
    file.unlink()
    file.symlink_to(file)


DAMAGES = {4: cut_off, 14: flip, 24: Path.unlink, 34: shut}
"""By section."""
DAMAGED = {f"{section}-0-0" for section in DAMAGES}


def copied(scene: Scene) -> Path:
    """A raw store of its own, to be damaged; returns the one that it is a copy of."""
    whole, scene.raw = scene.raw, scene.folder / "raw.ome.zarr"
    shutil.copytree(whole, scene.raw)
    return whole


def mend(scene: Scene, whole: Path) -> None:
    for section in range(SHAPE[1]):
        file = shard_file(scene.raw, section)
        file.unlink(missing_ok=True)
        shutil.copy(shard_file(whole, section), file)


def test_blocks_of_damaged_chunks_fail_with_their_places_and_the_others_finish(
    scene: Scene,
) -> None:
    whole = copied(scene)
    for section, damage in DAMAGES.items():
        damage(shard_file(scene.raw, section))
    with scene.start(threads=1) as job:
        assert job.wait() == 1, job.text()
        assert "4 block(s) failed" in job.text()
        assert all(name in job.text().splitlines()[-1] for name in DAMAGED)
        assert "Traceback (most" not in job.text()
        assert finished(job.store) == BLOCKS - len(DAMAGES)
        assert not (job.store / "zarr.json").exists()
    mend(scene, whole)
    scene.finish(threads=1)
    scene.check()


@pytest.mark.slow
def test_where_asked_to_skip_it_ends_well_and_says_what_is_missing(scene: Scene) -> None:
    whole = copied(scene)
    for section, damage in DAMAGES.items():
        damage(shard_file(scene.raw, section))
    with scene.start(threads=2, on_error="skip-and-report") as job:
        assert job.wait() == 0, job.text()
        for name in DAMAGED:
            assert f"block {name} failed and is left out" in job.text()
    probabilities = open_probabilities(scene.out)
    assert sorted(box.start[0] for box in probabilities.failed) == sorted(DAMAGES)
    mend(scene, whole)
    scene.finish(threads=1, on_error="skip-and-report", kept=BLOCKS - len(DAMAGES))
    scene.check()


@pytest.mark.slow
def test_where_most_blocks_fail_it_stops_at_once_even_if_asked_to_skip(scene: Scene) -> None:
    copied(scene)
    for section in range(3, SHAPE[1]):
        flip(shard_file(scene.raw, section))
    with scene.start(threads=1, on_error="skip-and-report") as job:
        assert job.wait() == 1, job.text()
        (failed,) = re.findall(r"(\d+) block\(s\) failed", job.text())
        assert int(failed) < BLOCKS // 2
        assert finished(job.store) == 3
        assert not (job.store / "zarr.json").exists()


@pytest.mark.slow
def test_a_chunk_that_can_be_read_a_moment_later_fails_nothing(scene: Scene) -> None:
    whole = copied(scene)
    shut(shard_file(scene.raw, 14))
    with scene.start(threads=1) as job:
        until(lambda: "tried again" in job.text(), job)
        mend(scene, whole)
        assert job.wait() == 0, job.text()
    scene.check()


def test_what_is_not_finite_is_refused_with_its_place_and_not_written(scene: Scene) -> None:
    values = noise(SHAPE).astype("float32")
    statistics = statistics_of(values / 1000)
    values[:, 20] *= 1e36  # finite, but no longer once it is normalised
    scene.raw = raw_store(scene.folder / "raw.ome.zarr", values, SHARD, statistics)
    with scene.start(threads=1) as job:
        assert job.wait() == 1, job.text()
        last = job.text().splitlines()[-1]
        assert "1 block(s) failed: 20-0-0 " in last
        assert "not finite" in last
        assert finished(job.store) == BLOCKS - 1
    files = {path for path in files_of(scene.out) if "/c/" in path}
    assert len(files) == BLOCKS - 1
    assert not any(re.search(r"/c/\d+/20/", path) for path in files)


@pytest.mark.slow
def test_weights_that_are_not_finite_stop_it_at_once_with_nothing_written(scene: Scene) -> None:
    trained = read_checkpoint(scene.checkpoint)
    weights = {name: value.clone() for name, value in trained.state.items()}
    next(iter(weights.values())).view(-1)[0] = torch.nan
    scene.checkpoint = scene.folder / "nan.pt"
    write_checkpoint(scene.checkpoint, replace(trained, state=weights))
    with scene.start(threads=2) as job:
        assert job.wait() == 1, job.text()
        assert "not finite" in job.text().splitlines()[-1]
        assert finished(job.store) == 0
        assert [path for path in files_of(job.store) if "/c/" in path] == []


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
