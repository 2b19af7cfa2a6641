"""Jobs of inference, as the stage makes them, and devices that hold little."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.stages.test_infer import CONFIG, MODEL, checkpoint_file, noise, raw_store, statistics_of
from unet_core.config import NetworkConfig
from unet_core.geometry import Block, Box, Zyx, blocks
from unet_core.io.arrays import chunk_of, create_array, open_level, shard_of
from unet_core.net import engine
from unet_core.net.checkpoint import read_checkpoint
from unet_core.net.engine import Member, engine_of
from unet_core.net.memory import held_of
from unet_core.net.network import Network
from unet_core.ops.intensity import normaliser
from unet_core.run.inference import Job, infer_blocks


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Engines remember what did not fit; torch is left as it was."""
    threads = torch.get_num_threads()
    engine_of.cache_clear()
    engine._loaded.cache_clear()
    held_of.cache_clear()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def job_of(
    folder: Path,
    values: np.ndarray,
    *,
    shard: Zyx,
    tile_px: int,
    model: NetworkConfig = MODEL,
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


def limited(monkeypatch: pytest.MonkeyPatch, most: int) -> list[int]:
    """A device whose memory holds inputs of so many voxels; returns those it was given."""
    given: list[int] = []
    forward = Network.forward

    def checked(network: Network, x: torch.Tensor) -> torch.Tensor:
        given.append(x.numel())
        if x.numel() > most:
            raise torch.OutOfMemoryError("as a GPU would")
        return forward(network, x)

    monkeypatch.setattr(Network, "forward", checked)
    return given


def large_job(folder: Path, shape: Zyx, *, tile_px: int, model: NetworkConfig = MODEL) -> Job:
    """A job of a volume that nobody makes."""
    job = job_of(folder, noise((1, 1, 8, 8)), shard=(1, 8, 8), tile_px=8, model=model)
    within, shard = Box((0, 0, 0), shape), (1, 512, 512)
    job = replace(job, raw_shape=shape, within=within, shape=shape, shard=shard)
    return job.with_tile(tile_px)
