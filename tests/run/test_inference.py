"""What a worker does with blocks: one reads, one computes, one writes; tiles over several."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.run.jobs import fresh, job_of, limited, plan_of, result_of
from tests.stages.test_infer import MODEL, noise
from unet_core.errors import CheckpointError
from unet_core.io.arrays import open_level
from unet_core.net import engine
from unet_core.net.checkpoint import read_checkpoint, write_checkpoint
from unet_core.net.engine import Engine, engine_of
from unet_core.net.network import Network
from unet_core.run import inference
from unet_core.run.inference import infer_blocks

__all__ = ["fresh"]


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
    forward = Network.forward
    monkeypatch.setattr(Network, "forward", lambda network, x: forward(network, x) * torch.nan)
    with pytest.raises(CheckpointError, match="not finite"):
        infer_blocks(plan_of(job)[:1], job=job)
    assert not [path for path in job.out.rglob("*") if path.is_file() and "/c/" in str(path)]
