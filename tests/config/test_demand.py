"""What jobs are asked for: laws of the arithmetic, and what the stages themselves reckon with."""

from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_core.config import StitchConfig, work, work_net
from unet_core.config.data import ConvertConfig
from unet_core.config.demand import (
    LEAST_MB,
    LEAST_MINUTES,
    MOST_MB,
    memory_mb,
    minutes,
    seconds,
    used_mb,
    workers_of,
)
from unet_core.config.extent import Extent, described, itemsize, stored
from unet_core.config.presets import read_model
from unet_core.config.resources import Resources
from unet_core.config.work import Work
from unet_core.config.workflow import SECTIONS
from unet_core.errors import ConfigError
from unet_core.geometry import blocks
from unet_core.io.arrays import create_array, shard_of
from unet_core.io.ngff import write_group

PRESETS = Path(__file__).parents[2] / "config/models"
DEFAULTS: dict[str, Any] = {name: schema() for name, schema in SECTIONS.items()}

sizes = st.tuples(*[st.integers(1, 70)] * 3)
cuts = st.tuples(*[st.integers(1, 9)] * 3)


@settings(deadline=None, max_examples=25)
@given(shape=sizes, chunk=cuts, times=st.tuples(*[st.integers(1, 4)] * 3))
def test_an_extent_is_cut_as_its_store_will_be(shape: Any, chunk: Any, times: Any) -> None:
    shard = tuple(c * n for c, n in zip(chunk, times, strict=True))
    extent = Extent(shape=shape, chunk=chunk, shard=shard)
    plan = blocks(shape, block=extent.fitted[1])
    assert extent.blocks == len(plan)
    assert prod(extent.block) == max(block.write.size for block in plan)


def test_what_is_stored_is_known_from_its_metadata(tmp_path: Path) -> None:
    store = tmp_path / "raw.ome.zarr"
    assert stored(store) is None
    cut: dict[str, Any] = {"chunk": (16, 128, 128), "shard": (32, 512, 512), "dtype": "uint16"}
    array = create_array(store, "0", shape=(2, 40, 300, 700), **cut)
    assert stored(store) is None  # not finished
    write_group(store, {})
    found = stored(store)
    assert found is not None
    assert (found.shape, found.channels, found.dtype) == ((40, 300, 700), 2, "uint16")
    assert found.fitted[1] == shard_of(array)
    told = described(ConvertConfig(), (40, 300, 700), channels=2, dtype="uint16")
    assert told.fitted == found.fitted


@pytest.mark.parametrize(("name", "size"), [("uint8", 1), ("float32", 4), ("<u2", 2), ("bool", 1)])
def test_the_size_of_a_value_follows_from_its_name(name: str, size: int) -> None:
    assert itemsize(name) == size


def test_a_name_that_is_no_number_type_is_refused() -> None:
    with pytest.raises(ConfigError, match="'colour' is no number type"):
        itemsize("colour")


works = st.builds(
    Work,
    units=st.integers(1, 1000),
    need_mb=st.floats(200, 5000),
    seconds=st.floats(0, 1e5),
    flops=st.floats(0, 1e16),
)


@settings(deadline=None, max_examples=50)
@given(work=works, threads=st.integers(1, 64))
def test_a_job_asks_for_what_one_worker_needs_and_at_most_for_all(work: Work, threads: int) -> None:
    asked = memory_mb(work, threads=threads)
    assert asked >= max(LEAST_MB, work.need_mb)
    all_workers = min(threads, work.units) * work.need_mb
    assert asked <= max(LEAST_MB, all_workers + 500, used_mb(work, threads=threads) + 400)
    assert minutes(work, "infer", threads=threads) >= LEAST_MINUTES


@settings(deadline=None, max_examples=50)
@given(work=works, threads=st.integers(1, 32))
def test_more_threads_ask_for_more_memory_and_less_time(work: Work, threads: int) -> None:
    one, two = (memory_mb(work, threads=n) for n in (threads, 2 * threads))
    assert one <= two
    fast, slow = (minutes(work, "infer", threads=n) for n in (2 * threads, threads))
    assert fast <= slow + 1


@settings(deadline=None, max_examples=50)
@given(work=works, threads=st.integers(1, 64), gpus=st.integers(0, 8))
def test_time_is_that_of_the_workers_that_the_memory_asked_for_holds(
    work: Work, threads: int, gpus: int
) -> None:
    workers = workers_of(work, threads, gpus)
    asked = memory_mb(work, threads=threads, gpus=gpus)
    assert Resources(memory_mb=asked).holds(workers, work.need_mb)
    took = seconds(replace(work, flops=0), "stitch", threads=threads, gpus=gpus)
    assert took >= work.seconds / workers
    if gpus:
        assert workers == min(gpus, work.units)
    elif workers < min(threads, work.units):
        assert asked <= max(MOST_MB, work.need_mb + 500) + 100


def test_eight_gpus_are_all_fed_where_eight_threads_would_not_be() -> None:
    work = Work(units=100, need_mb=10_000, seconds=8000)
    assert (workers_of(work, 8, 8), memory_mb(work, threads=8, gpus=8)) == (8, 80_400)
    assert (workers_of(work, 8, 0), memory_mb(work, threads=8)) == (6, 60_400)
    assert seconds(work, "stitch", threads=8) > 8000 / 6
    two = seconds(work, "stitch", threads=8, nodes=2)
    assert 8000 / 12 < two < 8000 / 12 + 10


def test_training_asks_for_a_process_for_each_gpu_which_share_the_batch() -> None:
    model = read_model(PRESETS / "small.yaml", {})
    one, four = (work_net.train(DEFAULTS, model, gpus=n) for n in (1, 4))
    memory = [memory_mb(work, threads=8, gpus=work.units) for work in (one, four)]
    assert memory[1] >= 4 * one.need_mb
    assert memory[1] > 3.5 * memory[0]
    assert four.gpu_mb < one.gpu_mb
    times = [seconds(work, "train", threads=8, gpus=work.units) for work in (one, four)]
    assert times[0] / 4 < times[1] < times[0] / 3


def test_tables_of_objects_are_of_pieces_of_which_wide_smoothing_leaves_few() -> None:
    extent = described(ConvertConfig(), (1000, 2000, 3000))
    tables = {
        (method, px): work.stitch(
            DEFAULTS | {"stitch": StitchConfig(method=method, smoothing_px=px)},  # type: ignore[arg-type]
            extent,
        ).alone_mb
        - work.DRIVER_MB
        for method, px in (("watershed", 1.0), ("watershed", 3.0), ("threshold", 1.0))
    }
    assert tables["watershed", 1.0] == pytest.approx(6000 * 520 / 60)
    assert tables["watershed", 3.0] == pytest.approx(6000 * 520 / 540)
    assert tables["threshold", 1.0] == pytest.approx(6000 * 120 / 500)


def test_a_larger_volume_asks_for_as_much_memory_and_more_time() -> None:
    net = read_model(PRESETS / "small.yaml", {}).model
    small = described(ConvertConfig(), (64, 2048, 2048))
    large = replace(small, shape=(640, 2048, 2048))
    one, ten = (
        work_net.infer(DEFAULTS, [net], extent, threads=8, gpus=0) for extent in (small, large)
    )
    assert one.need_mb == ten.need_mb
    assert ten.flops == pytest.approx(10 * one.flops)
    labels = [work.stitch(DEFAULTS, extent) for extent in (small, large)]
    assert labels[0].need_mb == labels[1].need_mb
    assert labels[1].alone_mb > labels[0].alone_mb  # the tables that join objects
