"""Tiles of `infer.tile_px: auto`: tried once, kept for a resumed run, chosen anew if too large."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.run.jobs import job_of, plan_of
from tests.stages.test_infer import noise
from unet_core.config import Resources
from unet_core.config.resources import DEALER_MB
from unet_core.errors import PlanError
from unet_core.io.ledger import building
from unet_core.run import tile_choice
from unet_core.run.crew import Crew
from unet_core.run.inference import Job
from unet_core.run.inference_plan import Raw, need_mb

RAW = Raw((2, 512, 512), (1, 8, 8), 1, "|u1")


@pytest.fixture(autouse=True)
def torch_as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    job = job_of(tmp_path, noise((1, 2, 512, 512)), shard=(1, 512, 512), tile_px=512)
    return replace(job, config=replace(job.config, tile_px="auto"))


def chosen(folder: Path, job: Job, memory_mb: int | None = None) -> int:
    resources = Resources(memory_mb=memory_mb)
    settings: dict[str, Any] = {}
    with (
        building(folder / "made", stage="infer", settings=settings, inputs={}) as build,
        Crew(resources) as crew,
    ):
        return tile_choice.with_tiles(crew, build, job, RAW, plan_of(job), resources).tile_px


@pytest.mark.parametrize("share", [1.0, 0.0])
def test_what_is_tried_is_kept_and_where_it_is_too_large_another_is_chosen(
    tmp_path: Path, job: Job, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    """`share` 0: nothing is tried, the guess is taken."""
    monkeypatch.setattr("unet_core.net.tile_choice._SHARE_OF_WORK", 1e3 * share)
    monkeypatch.setattr("unet_core.net.tile_choice._GUESSED_PX", 512)
    # as if the largest were the fastest
    monkeypatch.setattr(
        tile_choice.tile_choice, "seconds_per_voxel", lambda engine, parts, raw: 1 / len(parts)
    )
    monkeypatch.setattr(tile_choice, "largest_unit", lambda job: ([None] * job.tile_px, None))
    assert chosen(tmp_path, job) == 512
    monkeypatch.setattr("unet_core.net.tile_choice._GUESSED_PX", 256)
    assert chosen(tmp_path, job) == 512, "as before"
    smaller = need_mb(job.with_tile(256), RAW, 0)
    assert smaller < need_mb(job, RAW, 0)
    given = int(smaller) + 1
    assert chosen(tmp_path, job, given) == 256
    assert chosen(tmp_path, job, given) == 256


def test_tiles_are_tried_with_which_all_cores_have_work(job: Job) -> None:
    def fitting(memory_mb: float, threads: int = 2) -> list[int]:
        resources = Resources(threads=threads, memory_mb=int(memory_mb) + 1)
        return tile_choice._fitting(job, RAW, plan_of(job), resources)

    need = {px: need_mb(job.with_tile(px), RAW, 0) for px in (256, 512)}
    two = need_mb(replace(job.with_tile(256), passes=2), RAW, 0)
    assert two < need[512] < 2 * need[256]
    assert fitting(2 * need[512] + DEALER_MB) == [256, 512]  # two workers
    assert fitting(2 * need[256] + DEALER_MB) == [256]
    assert fitting(need[512]) == [256]  # one worker with two tiles at a time
    assert fitting(need[512], threads=1) == [256, 512]
    assert fitting(need[256]) == [256]
    with pytest.raises(PlanError, match="one block needs"):
        fitting(need[256] - 2)


def test_the_trial_of_a_worker_times_every_size(job: Job) -> None:
    jobs = [job.with_tile(px) for px in (256, 512)]
    note = tile_choice.try_tiles(tile_choice._Trial("256 512"), jobs=jobs, raw="|u1").note
    rates = note["seconds_per_mvoxel"]
    assert rates.keys() == {"256", "512"}
    assert rates[str(note["tile_px"])] == min(rates.values()) > 0
