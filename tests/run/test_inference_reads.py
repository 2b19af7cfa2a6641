"""How much of a volume is decoded twice, counted over all of it in the order of the plan."""

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from tests.run.jobs import MODEL, fresh, job_of, noise, plan_of
from tests.stages.test_infer import raw_store
from unet_core.config import NetworkConfig, Resources
from unet_core.geometry import Block, Box, Zyx, hull
from unet_core.io.arrays import open_level
from unet_core.io.cache import Cache
from unet_core.run.inference import Job
from unet_core.run.inference_plan import Raw, fit

__all__ = ["fresh"]

DEEP = replace(MODEL, dimensions=3, depth=1, convolutions=1)
CASES = [
    # model, volume, chunk, shard, tile: a shard is four tiles, a tile is four shards, and 3-D
    (MODEL, (1, 768, 768), (1, 16, 16), (1, 128, 128), 64),
    (MODEL, (2, 768, 768), (1, 16, 16), (1, 64, 64), 128),
    (DEEP, (192, 192, 192), (8, 8, 8), (16, 32, 32), 32),
]


@pytest.mark.parametrize(("model", "shape", "chunk", "shard", "tile_px"), CASES)
def test_at_most_a_fifth_is_decoded_again_whatever_the_workers(
    tmp_path: Path, model: NetworkConfig, shape: Zyx, chunk: Zyx, shard: Zyx, tile_px: int
) -> None:
    job = job_of(tmp_path / "job", noise((1, 1, 8, 8)), shard=(1, 8, 8), tile_px=8, model=model)
    store = raw_store(tmp_path / "raw.ome.zarr", noise((1, *shape)), shard, chunk=chunk)
    within = Box((0, 0, 0), shape)
    job = replace(job, raw=store, raw_shape=shape, within=within, shape=shape, shard=shard)
    job, raw = job.with_tile(tile_px), Raw(shape, chunk, 1, "|u1")
    for workers in (1, 2, 4):
        fitted = fit(job, plan_of(job), raw, Resources(threads=workers))
        units = fitted.job.together(fitted.plan)
        assert sorted(block for unit in units for block in unit) == sorted(plan_of(job))
        assert decoded(fitted.job, units, workers) <= 1.2
        assert fitted.job.cache_mb < within.size / 1e6 / 2


def decoded(job: Job, units: list[list[Block]], workers: int) -> float:
    """Bytes decoded for one of the volume, as workers read that are dealt equal parts."""
    cuts = [len(units) * number // workers for number in range(workers + 1)]
    total = 0
    for first, last in itertools.pairwise(cuts):
        cache = Cache(open_level(job.raw), most_bytes=round(job.cache_mb * 1e6))
        for unit in units[first:last]:
            parts = job.parts(job.raw_of(job.unit_of(unit[0])), job.tile_px)
            cache.read_mirrored(hull([part.read for part in parts]))
        total += cache.decoded_bytes
    return total / open_level(job.raw).nbytes
