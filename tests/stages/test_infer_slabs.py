"""A volume in slabs: the bytes of one job, whatever is killed, changed or left to another way."""

import json
import os
import random
import signal
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from math import prod
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.stages.faults import Job, files_of, finished, ledger_of, until
from tests.stages.scenes import CONFIG, Scene, resumed_of
from unet_core.config import InferConfig, Resources
from unet_core.config.extent import Extent
from unet_core.config.slabs import LEAST_VOXELS
from unet_core.config.spread import listed, slab_for, slabs_for
from unet_core.errors import ConfigError, PlanError, StoreError
from unet_core.stages.infer_slabs import infer_slab, prepare_slabs
from unet_core.stages.infer_volumes import Files, infer_volumes

SLAB = [10, 64, 64]
SLABS = ["0-0-0", "10-0-0", "20-0-0", "30-0-0"]

sizes = st.tuples(*[st.integers(1, 60)] * 3)


@settings(deadline=None, max_examples=50)
@given(shape=sizes, slab=sizes, by=st.tuples(*[st.integers(1, 3)] * 3), data=st.data())
def test_every_voxel_of_the_region_is_in_one_slab(
    shape: tuple[int, int, int],
    slab: tuple[int, int, int],
    by: tuple[int, int, int],
    data: st.DataObject,
) -> None:
    starts = [data.draw(st.integers(0, n - 1)) for n in shape]
    region = tuple(
        (a, data.draw(st.integers(a + 1, n))) for a, n in zip(starts, shape, strict=True)
    )
    config = InferConfig(slab=slab, downsample=by, region=region)
    raw = Extent(shape=shape, chunk=(8, 8, 8), shard=(16, 16, 16))
    found = np.zeros([-(-n // f) for n, f in zip(shape, by, strict=True)], int)
    for name in slabs_for(config, raw):
        at = [int(part) for part in name.split("-")]
        found[tuple(slice(a, a + n) for a, n in zip(at, slab, strict=True))] += 1
    assert found.max() == 1
    inside = tuple(slice(a // f, -(-b // f)) for (a, b), f in zip(region, by, strict=True))
    assert (found[inside] == 1).all()


@settings(deadline=None, max_examples=30)
@given(
    shape=st.tuples(*[st.integers(1, 10**6)] * 3),
    shard=st.sampled_from([(32, 512, 512), (1, 1024, 1024), (128, 128, 128)]),
    most=st.integers(1, 4000),
)
def test_slabs_are_large_whole_shards_and_few(
    shape: tuple[int, int, int], shard: tuple[int, int, int], most: int
) -> None:
    raw = Extent(shape=shape, chunk=(1, 64, 64), shard=shard)
    slab = slab_for(InferConfig(), raw, most=most)
    assert all(n % s == 0 for n, s in zip(slab, raw.fitted[1], strict=True))
    assert prod(-(-n // s) for n, s in zip(shape, slab, strict=True)) <= most
    whole = all(s >= n for n, s in zip(shape, slab, strict=True))
    assert whole or 8 * prod(slab) >= LEAST_VOXELS  # each edge ends with the volume


def start(scene: Scene, *part: str, out: Path | None = None) -> AbstractContextManager[Job]:
    """A job of the volume in slabs."""
    return scene.start(*part, threads=1, out=out, slab=SLAB)


def one(scene: Scene, *part: str) -> str:
    """Run a job to its end; its log."""
    with start(scene, *part) as job:
        assert job.wait() == 0, job.text()
        return job.text()


def make(scene: Scene, part: str, slab: Sequence[int] = SLAB) -> None:
    """The same in this process, which is faster."""
    infer_volumes(
        InferConfig(**CONFIG, slab=tuple(slab)),
        volumes=[Files(raw=scene.raw, out=scene.out)],
        checkpoint=scene.checkpoint,
        resources=Resources(),
        part=part,
    )


def beside(scene: Scene, name: str) -> Scene:
    """For a job at the same time, with a log of its own."""
    (scene.folder / name).mkdir()
    return Scene(scene.folder / name, scene.raw, scene.checkpoint)


def folder_of(scene: Scene) -> Path:
    return listed(scene.out).parent


def lines_of(ledger: Path) -> int:
    """Lines of a ledger, its first one too; 0 where there is none yet."""
    return len(ledger.read_text().splitlines()) if ledger.exists() else 0


def test_slabs_in_any_order_are_the_bytes_of_one_job(scene: Scene) -> None:
    make(scene, "prepare")
    assert json.loads(listed(scene.out).read_text()) == {"slabs": SLABS}
    for slab in random.Random(1).sample(SLABS, len(SLABS)):
        make(scene, slab)
        assert (folder_of(scene) / f"{slab}.done").exists()
    assert not (scene.out / "zarr.json").exists()
    assert finished(scene.out) == 0  # each in a ledger of its own
    make(scene, "publish")
    assert files_of(scene.out) == scene.expected
    left = {path.name for path in folder_of(scene).iterdir()}
    assert left == {"slabs.json", "prepared", *(f"{slab}.done" for slab in SLABS)}


def test_one_job_goes_on_from_what_slabs_have_done(scene: Scene) -> None:
    make(scene, "prepare")
    make(scene, SLABS[1])
    make(scene, SLABS[3])
    assert resumed_of(one(scene)) == (20, 20)
    scene.check()


@pytest.mark.slow
def test_a_slab_goes_on_from_what_one_job_has_done(scene: Scene) -> None:
    with scene.start(threads=1) as job:
        until(lambda: finished(scene.out) >= 3, job)
        os.killpg(job.process.pid, signal.SIGKILL)
        job.wait()
    kept = finished(scene.out)
    make(scene, "prepare")
    log = one(scene, "--slab", SLABS[0])
    assert resumed_of(log) == (kept, 10 - kept)


@pytest.mark.slow
def test_killed_slabs_lose_nothing(scene: Scene) -> None:
    make(scene, "prepare")
    ledger = folder_of(scene) / f"{SLABS[2]}.ledger.jsonl"
    with start(scene, "--slab", SLABS[2]) as job:
        until(lambda: lines_of(ledger) > 4, job)
        os.killpg(job.process.pid, signal.SIGKILL)
        job.wait()
    kept = lines_of(ledger) - 1
    with ExitStack() as running:
        jobs = [
            running.enter_context(start(beside(scene, n), "--slab", n, out=scene.out))
            for n in SLABS
        ]
        assert [job.wait() for job in jobs] == [0, 0, 0, 0]
        assert resumed_of(jobs[2].text())[0] >= kept - 1
    make(scene, "publish")
    assert files_of(scene.out) == scene.expected


@pytest.mark.slow
def test_the_whole_waits_for_slabs_at_work(scene: Scene) -> None:
    make(scene, "prepare")
    ledger = folder_of(scene) / f"{SLABS[0]}.ledger.jsonl"
    with start(scene, "--slab", SLABS[0]) as slab:
        until(lambda: lines_of(ledger) > 2, slab)
        os.killpg(slab.process.pid, signal.SIGSTOP)
        with start(beside(scene, "whole"), "--publish", out=scene.out) as whole:
            until(lambda: "waiting: 0-0-0 is written by" in whole.text(), whole)
            os.killpg(slab.process.pid, signal.SIGCONT)
            assert slab.wait() == 0, slab.text()
            assert whole.wait() == 0, whole.text()
            assert resumed_of(whole.text()) == (10, 30)
    assert files_of(scene.out) == scene.expected


def test_other_settings_make_every_slab_stale(scene: Scene) -> None:
    make(scene, "prepare")
    make(scene, SLABS[0])
    changed = InferConfig(**CONFIG, slab=tuple(SLAB), averaging="symmetries")
    given = {"raw": scene.raw, "checkpoint": scene.checkpoint, "out": scene.out}
    with pytest.raises(StoreError, match=r"not begun with these settings.*--prepare first"):
        infer_slab(changed, SLABS[1], **given, resources=Resources())
    prepare_slabs(changed, **given, resources=Resources())
    assert {path.name for path in folder_of(scene).iterdir()} == {"slabs.json", "prepared"}
    assert finished(scene.out) == 0


def test_a_late_prepare_leaves_a_finished_store_to_its_readers(scene: Scene) -> None:
    for part in ("prepare", *SLABS, "publish"):
        make(scene, part)
    marker = scene.out / "zarr.json"
    before = marker.stat()
    make(scene, "prepare")
    make(scene, SLABS[0])
    assert files_of(scene.out) == scene.expected
    assert (marker.stat().st_ino, marker.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert not scene.out.with_name(f"{scene.out.name}.scratch").exists()
    make(scene, "publish")
    assert files_of(scene.out) == scene.expected


def test_a_prepare_after_blocks_failed_takes_the_store_back(scene: Scene) -> None:
    """Else slabs would write into a store that says what they were."""
    for part in ("prepare", *SLABS, "publish"):
        make(scene, part)
    ledger = ledger_of(scene.out)
    lines = ledger.read_text().splitlines(keepends=True)
    ledger.write_text("".join(line for line in lines if '"0-0-0"' not in line))
    make(scene, "prepare")
    assert not (scene.out / "zarr.json").exists()
    for part in (SLABS[0], "publish"):
        make(scene, part)
    assert files_of(scene.out) == scene.expected


def test_another_size_of_slabs_loses_nothing(scene: Scene) -> None:
    make(scene, "prepare")
    make(scene, SLABS[0])
    make(scene, "prepare", slab=[20, 64, 64])
    assert json.loads(listed(scene.out).read_text()) == {"slabs": ["0-0-0", "20-0-0"]}
    assert finished(scene.out) == 10  # taken over


def test_a_slab_that_is_none_or_of_several_volumes_is_refused(scene: Scene) -> None:
    make(scene, "prepare")
    with pytest.raises(PlanError, match="no slab of 10 x 64 x 64 voxels starts at 5-0-0"):
        make(scene, "5-0-0")
    with pytest.raises(ConfigError, match="for one volume, 2 are named"):
        infer_volumes(
            InferConfig(),
            volumes=[Files(raw=scene.raw, out=scene.out)] * 2,
            checkpoint=scene.checkpoint,
            resources=Resources(),
            part="prepare",
        )
