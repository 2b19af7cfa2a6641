"""A raw volume to class probabilities, block by block, the same whatever the blocks."""

import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np

from unet_core.config import InferConfig, Resources
from unet_core.geometry import Block
from unet_core.io.arrays import chunk_of, write_block
from unet_core.io.ledger import Build, building, slabs_of
from unet_core.io.ngff import multiscale, voxel_size_of
from unet_core.io.remote import Location
from unet_core.run.crew import Crew
from unet_core.run.inference import Job, infer_blocks
from unet_core.run.inference_plan import Fit, Raw, fit, tell
from unet_core.run.tile_choice import with_tiles
from unet_core.stages.infer_job import (
    Asked,
    Networks,
    alone,
    asked_for,
    read_networks,
    told_windows,
)

log = logging.getLogger(__name__)


def infer_probabilities(
    config: InferConfig,
    *,
    raw: Location,
    checkpoint: Path | Sequence[Path],
    out: Path,
    resources: Resources,
    mask: Path | None = None,
    sliced: bool = False,
) -> None:
    """Write the class probabilities of every voxel of `raw` to the store `out`.

    `out` gets ``0``, (c, z, y, x) uint8 (0..255 stand for 0..1) or float16, cut like `raw`; by
    default of the classes 1, 2, ..., class 0 being the rest to 1. Of several checkpoints it is the
    mean. Where `mask` is 0 or outside of infer.region, it is 0. `sliced`: see `infer_volume`.

    Raises
    ------
    StoreError
        If `raw` is no finished raw store, or has other channels than the network, or `mask` does
        not fit it.
    CheckpointError
        If a checkpoint is absent, damaged, or yields what is not finite.
    PlanError
        If infer.tile_px or infer.window does not fit the network, infer.region holds no voxel,
        networks do not fit together, or one block does not fit the memory.
    BlockError
        If blocks failed and infer.on_error is stop, or most did.
    """
    networks = read_networks(checkpoint)
    with Crew(resources) as crew:
        infer_volume(
            config, raw=raw, networks=networks, out=out, mask=mask, crew=crew, sliced=sliced
        )


def infer_volume(
    config: InferConfig,
    *,
    raw: Location,
    networks: Networks,
    out: Path,
    mask: Path | None,
    crew: Crew,
    sliced: bool = False,
) -> None:
    """What `infer_probabilities` does, with networks that are read and workers that are there.

    What jobs for slabs of it have done is taken over (`infer_slabs`). `sliced`: which slabs these
    were stays known, as it is asked for again.
    """
    given = crew.resources
    asked = asked_for(config, raw=raw, networks=networks, out=out, mask=mask, resources=given)
    with building(out, **asked.work, ending=crew.ending) as build:
        made = asked.create(build.store)
        plan = asked.plan(made)
        compute(crew, build, asked, plan)
        failed = dict(sorted(crew.failures.items()))
        for block in plan:
            if block.name in failed:
                nothing = np.zeros((made.shape[0], *block.write.shape), made.dtype)
                write_block(made, block.write, nothing)
        _publish(build, asked.job, plan, raw, failed)
        if not sliced:
            shutil.rmtree(slabs_of(out), ignore_errors=True)


def compute(crew: Crew, build: Build, asked: Asked, plan: Sequence[Block]) -> None:
    """Write the blocks of `plan` that the ledger has no line of."""
    job, level, resources = asked.job, asked.level, crew.resources
    raw = Raw(job.raw_shape, chunk_of(level), level.shape[0], level.dtype.str)
    done = build.done("infer")
    todo = [block for block in plan if block.name not in done]
    fitted = Fit(job, [], ahead=0, need_mb=0, most_workers=None)
    if todo:
        fitted = fit(with_tiles(crew, build, job, raw, todo, resources), todo, raw, resources)
        job = fitted.job
        tell(job, todo)
    work = partial(infer_blocks, job=job)
    began = time.monotonic()
    crew.run(
        build,
        "infer",
        work,
        [*(block for block in plan if block.name in done), *fitted.plan],
        together=job.together,
        need_mb=fitted.need_mb,
        most_workers=fitted.most_workers,
        ahead=fitted.ahead,
        amount=lambda block: job.raw_of(block.write).size,
        on_error=job.config.on_error,
    )
    if voxels := sum(job.raw_of(block.write).size for block in todo):
        seconds = time.monotonic() - began
        log.info(
            "%d voxels in %.1f s: %.3g million voxels/s", voxels, seconds, voxels / seconds / 1e6
        )


def _publish(
    build: Build, job: Job, plan: list[Block], raw: Location, failed: dict[str, str]
) -> None:
    notes = build.done("infer")
    skipped = sum(line["note"] for line in notes.values())
    voxels = sum(block.write.size for block in plan)
    if failed:
        log.error(
            "%d block(s) failed and are 0 in %s: %s; mend the cause and run the same command again "
            "(in the workflow: snakemake --forcerun %s), and only they are computed",
            *(len(failed), build.store.name, ", ".join(failed), build.store / "zarr.json"),
        )
    size, downsample, model = voxel_size_of(raw), job.config.downsample, job.models[0]
    build.publish(
        ome=multiscale("probabilities", axes="czyx", voxel_size_nm=size, factors=[downsample]),
        unet={
            "classes": model.classes,
            "channels": [f"class {number}" for number in job.config.stored(model.classes)],
            "model": alone([asdict(each) for each in job.models]),
            "windows": told_windows(job),
            "downsample": downsample,
            "region": job.config.region,
            "mask": build.provenance["inputs"].get("mask"),
            "skipped": round(skipped / voxels, 6),
            **({"failed": failed} if failed else {}),
        },
    )
