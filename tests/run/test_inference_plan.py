"""Plans that a job's memory holds, by arithmetic alone."""

from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.run.jobs import fresh, large_job, plan_of
from tests.stages.test_infer import MODEL
from unet_core.config import Resources
from unet_core.config.resources import DEALER_MB
from unet_core.errors import PlanError
from unet_core.run.inference import Job
from unet_core.run.inference_plan import Raw, fit, largest_unit, need_mb, spread

__all__ = ["fresh"]


def planned(job: Job, **resources: Any) -> tuple[bool, int, float]:
    raw = Raw(job.raw_shape, (1, 128, 128), 1, "|u1")
    fitted = fit(job, plan_of(job), raw, Resources(**resources))
    assert sorted(fitted.plan) == plan_of(job)
    return fitted.job.keeps_memory, fitted.ahead, fitted.need_mb


def test_memory_goes_to_workers_then_to_reading_ahead_then_to_speed(tmp_path: Path) -> None:
    job = large_job(tmp_path, (4, 1024, 1024), tile_px=512)
    raw = Raw(job.raw_shape, (1, 128, 128), 1, "|u1")
    needs = [need_mb(job, raw, ahead) for ahead in range(3)]
    fast = need_mb(replace(job, keeps_memory=True), raw, 2)
    assert needs == sorted(needs)
    assert planned(job)[:2] == (True, 2)
    for memory_mb, expected in [
        (DEALER_MB + 2 * fast + 8, (True, 2)),
        (DEALER_MB + 2 * needs[2] + 2, (False, 2)),
        (DEALER_MB + 2 * needs[0] + 0.1, (False, 0)),
        (needs[0], (False, 0)),
    ]:
        *found, need = planned(job, threads=2, memory_mb=int(memory_mb) + 1)
        assert tuple(found) == expected
        assert need <= memory_mb + 1


def test_memory_of_reading_counts_whole_chunks() -> None:
    raw = Raw((64, 2048, 2048), (16, 256, 256), 1, "|u1")
    assert raw.decoded((64, 1216, 1216)) == 64 * 1536**2  # of 5 to 6 chunks, the volume's 64
    assert raw.decoded((1, 1, 257)) == 16 * 256 * 512


def test_what_does_not_fit_is_refused_with_what_would(tmp_path: Path) -> None:
    model = replace(MODEL, width=32)
    job = large_job(tmp_path, (1, 2048, 2048), tile_px=1024, model=model)
    with pytest.raises(
        PlanError, match=r"one block needs about (\d+) MB, .*at least \1 \(mem_mb\)"
    ):
        planned(job, memory_mb=850)
    with pytest.raises(PlanError, match=r"set infer.tile_px to (\d+) or less") as told:
        planned(job, memory_mb=850)
    fits = int(str(told.value).split("infer.tile_px to ")[1].split()[0])
    raw = Raw(job.raw_shape, (1, 128, 128), 1, "|u1")
    assert need_mb(job.with_tile(fits), raw, 0) <= 850 < need_mb(job.with_tile(fits + 64), raw, 0)
    with pytest.raises(PlanError, match=r"no infer.tile_px is small enough"):
        planned(job, memory_mb=100)


def test_every_core_has_a_pass_where_units_are_fewer_than_cores(tmp_path: Path) -> None:
    job = large_job(tmp_path, (1, 512, 1536), tile_px=128)  # 3 units of 16 tiles
    raw = Raw(job.raw_shape, (1, 128, 128), 1, "|u1")
    assert len(plan_of(job)) == 3
    for threads, expected in ((1, (1, 1)), (3, (3, 1)), (8, (3, 2)), (12, (3, 4)), (99, (3, 16))):
        for memory_mb in (None, 10**6):
            resources = Resources(threads=threads, memory_mb=memory_mb)
            assert spread(job, raw, resources, 3) == expected
            fitted = fit(job, plan_of(job), raw, resources)
            assert fitted.job.passes == expected[1]
            assert fitted.most_workers is None
    gpus = replace(job, gpus=2)
    assert spread(gpus, raw, Resources(threads=8, gpus=2), 3) == (2, 1)


def test_units_are_shared_by_nodes_before_their_cores_share_them(tmp_path: Path) -> None:
    job = large_job(tmp_path, (8, 512, 512), tile_px=128)  # 8 units of 16 tiles
    raw = Raw(job.raw_shape, (1, 128, 128), 1, "|u1")
    for nodes, passes in ((1, 1), (2, 2), (4, 4), (8, 8)):
        resources = Resources(threads=8, nodes=nodes, launcher="srun", memory_mb=10**6)
        assert fit(job, plan_of(job), raw, resources).job.passes == passes


@pytest.fixture(scope="module")
def heavy(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Units of 4 tiles, a pass over which takes a fifth of the memory of a process."""
    model = replace(MODEL, width=32)
    job = large_job(tmp_path_factory.mktemp("heavy"), (64, 512, 512), tile_px=256, model=model)
    assert len(largest_unit(job)[0]) == 4
    return job


@given(threads=st.integers(1, 40), units=st.integers(1, 60), memory_mb=st.integers(800, 40_000))
@settings(deadline=None, max_examples=50)
def test_no_other_way_that_the_memory_holds_keeps_more_cores_busy(
    heavy: Job, threads: int, units: int, memory_mb: int
) -> None:
    raw = Raw(heavy.raw_shape, (1, 128, 128), 1, "|u1")
    needs = [need_mb(replace(heavy, passes=passes), raw, 0) for passes in range(1, 5)]
    ways = [
        (workers, passes)
        for workers in range(1, min(threads, units) + 1)
        for passes in range(1, min(max(1, threads // workers), 4) + 1)
        if needs[passes - 1] * workers + (DEALER_MB if workers > 1 else 0) <= memory_mb
    ]
    resources = Resources(threads=threads, memory_mb=memory_mb)
    if not ways:
        with pytest.raises(PlanError, match="one block needs"):
            spread(heavy, raw, resources, units)
        return
    found = spread(heavy, raw, resources, units)
    assert found in ways
    assert found[0] * found[1] <= threads
    if found[0] < min(threads, units):  # the memory is short
        assert prod(found) == max(map(prod, ways))
        assert not [way for way in ways if way[0] > found[0] and prod(way) == prod(found)]


def test_where_memory_is_short_cores_work_in_fewer_workers(tmp_path: Path) -> None:
    model = replace(MODEL, width=32)
    job = large_job(tmp_path, (8, 512, 512), tile_px=128, model=model)  # 8 units of 16 tiles
    raw = Raw(job.raw_shape, (1, 128, 128), 1, "|u1")
    needs = [int(need_mb(replace(job, passes=n), raw, 0)) + 1 for n in (1, 2, 3, 8)]
    assert 4 * needs[1] < 8 * needs[0]
    for memory_mb, expected in (
        (DEALER_MB + 8 * needs[0], (8, 1)),
        (DEALER_MB + 8 * needs[0] - 10, (4, 2)),
        (needs[3], (1, 8)),
        (needs[2], (1, 3)),
        (needs[0], (1, 1)),
    ):
        resources = Resources(threads=8, memory_mb=memory_mb)
        assert spread(job, raw, resources, 8) == expected
        fitted = fit(job, plan_of(job), raw, resources)
        assert fitted.job.passes == expected[1]
        assert fitted.most_workers == (None if expected[0] == 8 else expected[0])
        assert fitted.need_mb * expected[0] <= memory_mb
