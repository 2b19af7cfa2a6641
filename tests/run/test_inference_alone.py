"""A block whose neighbours cannot be computed with it, as a chunk that they need is damaged."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.run.jobs import MODEL, fresh, job_of, noise, plan_of
from unet_core.errors import DamageError
from unet_core.net.parts import halo_of
from unet_core.run import inference
from unet_core.run.inference import infer_blocks

__all__ = ["fresh"]


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_block_alone_reads_no_more_than_it_needs_and_gets_the_same_bits(
    tmp_path: Path, dimensions: int
) -> None:
    model = replace(MODEL, dimensions=dimensions)
    values = noise((1, 1, 16, 288) if dimensions == 2 else (1, 16, 16, 144))
    job = job_of(tmp_path, values, shard=(16, 16, 16), tile_px=288, model=model)
    (unit,) = job.together(plan_of(job))
    whole = infer_blocks(unit, job=job)
    damaged = job.raw / "0" / "c" / "0" / "0" / "0" / "0"
    damaged.write_bytes(damaged.read_bytes()[:-9])
    inference._cache_of.cache_clear()
    with pytest.raises(DamageError, match="c/0/0/0/0 is cut off"):
        infer_blocks(unit[-2:], job=job)
    seen = []
    for block in unit:
        try:
            assert infer_blocks([block], job=job) == {block.name: whole[block.name]}
        except DamageError:
            seen.append(block.write.start[2])
    reach = halo_of(job.models)[2]
    assert seen == list(range(0, 16 + reach, 16))
