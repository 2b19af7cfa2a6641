"""What a worker does with blocks: one reads, one computes, one writes; tiles over several."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.stages.test_infer import CONFIG, MODEL, checkpoint_file, noise, raw_store, statistics_of
from unet_core.config import Resources, UNetConfig
from unet_core.errors import CheckpointError, PlanError
from unet_core.geometry import Block, Box, Zyx, blocks
from unet_core.io.arrays import chunk_of, create_array, open_level, shard_of
from unet_core.net import engine, predict
from unet_core.net.checkpoint import read_checkpoint, write_checkpoint
from unet_core.net.engine import Engine, Member, engine_of
from unet_core.net.unet import UNet
from unet_core.ops.intensity import normaliser
from unet_core.run import inference
from unet_core.run.inference import Job, infer_blocks
from unet_core.run.inference_plan import Raw, fit, need_mb


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Engines remember what did not fit; torch is left as it was."""
    threads = torch.get_num_threads()
    engine_of.cache_clear()
    engine._loaded.cache_clear()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def job_of(
    folder: Path,
    values: np.ndarray,
    *,
    shard: Zyx,
    tile_px: int,
    model: UNetConfig = MODEL,
    **changes: Any,
) -> Job:
    """A job with its stores, as the stage makes it."""
    folder.mkdir(exist_ok=True)
    raw = raw_store(folder / "raw.ome.zarr", values, shard)
    level, out = open_level(raw), folder / "out.ome.zarr"
    z, y, x = values.shape[1:]
    shape = (z, y, x)
    cut = {"chunk": chunk_of(level), "shard": shard_of(level)}
    create_array(out, "0", shape=(model.classes - 1, *shape), dtype="uint8", **cut)
    path = checkpoint_file(folder / "best.pt", model)
    by = normaliser(statistics_of(values), "mean_std", values.dtype)
    job = Job(
        raw=raw,
        content="",
        mask=None,
        out=out,
        members=(Member(path, read_checkpoint(path).content, model, by),),
        config=CONFIG,
        tile_px=tile_px,
        raw_shape=shape,
        within=Box((0, 0, 0), shape),
        shape=shape,
        shard=shard_of(level),
        unit=shard_of(level),
    )
    return replace(job.with_tile(tile_px), content=str(folder), **changes)


def plan_of(job: Job) -> list[Block]:
    return blocks(job.shape, block=job.shard)


def result_of(job: Job) -> np.ndarray:
    for unit in job.together(plan_of(job)):
        done = infer_blocks(unit, job=job)
        assert done.keys() == {block.name for block in unit}
    return np.asarray(open_level(job.out)[:])


def test_tiles_larger_than_a_block_are_laid_over_several_and_give_the_same(
    tmp_path: Path,
) -> None:
    values = noise((1, 3, 70, 90))
    expected = result_of(job_of(tmp_path / "a", values, shard=(3, 72, 96), tile_px=96))
    job = job_of(tmp_path / "b", values, shard=(1, 16, 24), tile_px=40)
    assert job.unit == (1, 48, 48)
    assert len(job.together(plan_of(job))) == 3 * 2 * 2
    found = result_of(job)
    assert abs(found.astype(int) - expected).max() <= 1

    deep = replace(MODEL, dimensions=3, depth=1, width=3)
    job = job_of(tmp_path / "c", values, shard=(1, 16, 24), tile_px=40, model=deep)
    assert job.unit == (3, 48, 48)


def test_of_blocks_computed_together_only_those_that_are_not_done_are_written(
    tmp_path: Path,
) -> None:
    job = job_of(tmp_path, noise((1, 1, 40, 40)), shard=(1, 16, 16), tile_px=48)
    (unit,) = job.together(plan_of(job))
    done = infer_blocks(unit, job=job)
    whole = np.asarray(open_level(job.out)[:])
    open_level(job.out, mode="r+")[:] = 9
    again = infer_blocks([unit[1], unit[8]], job=job)
    assert again == {block.name: done[block.name] for block in (unit[1], unit[8])}
    now = np.asarray(open_level(job.out)[:])
    for number, block in enumerate(unit):
        inside = (slice(None), *block.write.slices)
        assert np.array_equal(
            now[inside], whole[inside] if number in (1, 8) else whole[inside] * 0 + 9
        )


def test_one_block_is_read_one_computed_and_one_written_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(tmp_path, noise((1, 8, 16, 16)), shard=(1, 16, 16), tile_px=16)
    now: dict[str, int] = {"read": 0, "computed": 0, "written": 0}
    most: dict[str, int] = dict.fromkeys(now, 0)
    together = 0

    def watched(name: str, function: Any) -> Any:
        def run(*args: Any, **keys: Any) -> Any:
            nonlocal together
            now[name] += 1
            most[name] = max(most[name], now[name])
            together = max(together, sum(now.values()))
            time.sleep(0.05)
            result = function(*args, **keys)
            now[name] -= 1
            return result

        return run

    monkeypatch.setattr(inference, "_read", watched("read", inference._read))
    monkeypatch.setattr(Engine, "fill", watched("computed", Engine.fill))
    monkeypatch.setattr(inference, "write_block", watched("written", inference.write_block))
    threads = [
        threading.Thread(target=infer_blocks, args=([block],), kwargs={"job": job})
        for block in plan_of(job)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == {"read": 1, "computed": 1, "written": 1}
    assert together == 3


def limited(monkeypatch: pytest.MonkeyPatch, most: int) -> list[int]:
    """A device whose memory holds inputs of so many voxels; returns those it was given."""
    given: list[int] = []
    forward = UNet.forward

    def checked(network: UNet, x: torch.Tensor) -> torch.Tensor:
        given.append(x.numel())
        if x.numel() > most:
            raise torch.OutOfMemoryError("as a GPU would")
        return forward(network, x)

    monkeypatch.setattr(UNet, "forward", checked)
    return given


def test_a_block_is_read_while_another_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(tmp_path, noise((1, 2, 16, 16)), shard=(1, 16, 16), tile_px=16)
    reads: list[str] = []
    second = threading.Event()
    read, fill = inference._read, inference._fill

    def reading(some: Any, *more: Any) -> Any:
        reads.append(some[0].name)
        if len(reads) == 2:
            second.set()
        return read(some, *more)

    def filling(*given: Any) -> bool:
        assert second.wait(60), "the other block is not read before this one is computed"
        return fill(*given)

    monkeypatch.setattr(inference, "_read", reading)
    monkeypatch.setattr(inference, "_fill", filling)
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(infer_blocks, [block], job=job) for block in plan_of(job)]:
            assert done.result()


def test_a_network_is_read_once_per_process_and_again_when_its_weights_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Path] = []

    def reading(path: Path) -> Any:
        reads.append(path)
        return read_checkpoint(path)

    monkeypatch.setattr(engine, "read_checkpoint", reading)
    job = job_of(tmp_path, noise((1, 2, 16, 16)), shard=(1, 16, 16), tile_px=16)
    result_of(job)
    assert len(reads) == 1
    (member,) = job.members
    checkpoint = read_checkpoint(member.checkpoint)
    state = {name: value + 1 for name, value in checkpoint.state.items()}
    write_checkpoint(member.checkpoint, replace(checkpoint, state=state))
    other = replace(member, content=read_checkpoint(member.checkpoint).content)
    result_of(replace(job, members=(other,)))
    assert len(reads) == 2
    engine_of.cache_clear()
    engine._loaded.cache_clear()
    with pytest.raises(CheckpointError, match="changed while it was in use"):
        result_of(job)


def test_tiles_too_large_for_the_gpu_are_halved_remembered_and_give_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    values = noise((1, 2, 16, 500))
    expected = result_of(job_of(tmp_path / "a", values, shard=(1, 16, 504), tile_px=512))
    engine_of.cache_clear()
    given = limited(monkeypatch, 300 * 300)
    job = job_of(tmp_path / "b", values, shard=(1, 16, 504), tile_px=512)
    assert np.array_equal(result_of(job), expected)
    assert sum(voxels > 300 * 300 for voxels in given) == 1
    assert any("does not hold tiles of 512 px; going on with 256" in m for m in caplog.messages)


@pytest.mark.parametrize("where", ["_intensities", "_softmax", "quantised"])
def test_a_gpu_may_run_out_of_memory_anywhere(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    values = noise((1, 1, 16, 500))
    expected = result_of(job_of(tmp_path / "a", values, shard=(1, 16, 504), tile_px=512))
    engine_of.cache_clear()
    owner: Any = engine if where == "quantised" else predict.Predictor
    function = getattr(owner, where)

    def checked(*given: Any) -> Any:
        if max(x.shape[-1] for x in given if isinstance(x, torch.Tensor)) > 400:
            raise torch.OutOfMemoryError("as a GPU would")
        return function(*given)

    monkeypatch.setattr(owner, where, checked)
    job = job_of(tmp_path / "b", values, shard=(1, 16, 504), tile_px=512)
    assert np.array_equal(result_of(job), expected)
    assert any("going on with 256" in message for message in caplog.messages)


def test_where_a_network_sees_its_tiles_mean_no_smaller_one_stands_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(monkeypatch, 300 * 300)
    model = replace(MODEL, norm="instance")
    job = job_of(tmp_path, noise((1, 1, 16, 500)), shard=(1, 16, 504), tile_px=512, model=model)
    with pytest.raises(PlanError, match="tile_px"):
        infer_blocks(plan_of(job), job=job)


def test_where_no_tile_fits_the_gpu_the_numbers_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict, "free_mb", lambda device: None)
    limited(monkeypatch, 1000)
    job = job_of(tmp_path, noise((1, 1, 16, 40)), shard=(1, 16, 40), tile_px=512)
    with pytest.raises(PlanError, match=r"seen with \d+ x \d+ voxels, needs about \d+ MB.*tile_px"):
        infer_blocks(plan_of(job), job=job)


def test_a_tile_of_one_value_is_computed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.full((1, 6, 32, 32), 5, np.uint8)
    values[0, 2:4] = 9
    values[0, 5, 3, 4] = 1
    plain = result_of(job_of(tmp_path / "a", values, shard=(6, 32, 32), tile_px=32))
    engine_of.cache_clear()
    given = limited(monkeypatch, 10**9)
    job = job_of(tmp_path / "b", values, shard=(1, 32, 32), tile_px=32)
    assert np.array_equal(result_of(job), plain)
    assert len(given) == 3


def test_nothing_of_a_block_that_is_not_finite_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(tmp_path, noise((1, 1, 16, 32)), shard=(1, 16, 16), tile_px=16)
    forward = UNet.forward
    monkeypatch.setattr(UNet, "forward", lambda network, x: forward(network, x) * torch.nan)
    with pytest.raises(CheckpointError, match="not finite"):
        infer_blocks(plan_of(job)[:1], job=job)
    assert not [path for path in job.out.rglob("*") if path.is_file() and "/c/" in str(path)]


def large_job(folder: Path, shape: Zyx, *, tile_px: int, model: UNetConfig = MODEL) -> Job:
    """A job of a volume that nobody makes."""
    job = job_of(folder, noise((1, 1, 8, 8)), shard=(1, 8, 8), tile_px=8, model=model)
    within, shard = Box((0, 0, 0), shape), (1, 512, 512)
    job = replace(job, raw_shape=shape, within=within, shape=shape, shard=shard)
    return job.with_tile(tile_px)


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
    for given, expected in [
        (2 * fast + 8, (True, 2)),
        (2 * needs[2] + 2, (False, 2)),
        (2 * needs[0] + 0.1, (False, 0)),
        (needs[0] + 1, (False, 0)),
    ]:
        *found, need = planned(job, threads=2, memory_mb=int(given) + 1)
        assert tuple(found) == expected
        assert need <= given + 1


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


RUN = """
import sys
from pathlib import Path
from unet_core.config import InferConfig, Resources
from unet_core.stages.infer import infer_probabilities

folder, given = Path(sys.argv[1]), int(sys.argv[2])
infer_probabilities(
    InferConfig(tile_px=128, precision="float32"),
    raw=folder / "raw.ome.zarr",
    checkpoint=folder / "best.pt",
    out=folder / "out.ome.zarr",
    resources=Resources(memory_mb=given),
)
with open("/proc/self/status") as lines:
    print(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_volume_and_stays_below_what_was_given(
    tmp_path: Path,
) -> None:
    given, peaks = 900, []
    for sections in (32, 512):  # of 16 blocks and of 256; as float32 the larger is 134 MB
        folder = tmp_path / str(sections)
        folder.mkdir()
        values = np.tile(noise((1, 8, 256, 256)), (1, sections // 8, 1, 1))
        known = statistics_of(values[:, :8])
        raw_store(folder / "raw.ome.zarr", values, (8, 128, 128), known, chunk=(4, 64, 64))
        checkpoint_file(folder / "best.pt")
        run = subprocess.run(
            [sys.executable, "-c", RUN, folder, str(given)],
            check=True,
            text=True,
            stdout=subprocess.PIPE,
        )
        peaks.append(int(run.stdout) * 1024 / 1e6)
    assert peaks[1] < peaks[0] + 20
    assert max(peaks) < given
