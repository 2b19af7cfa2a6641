"""A raw volume to class probabilities, block by block, equal to one pass over the whole volume."""

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from math import gcd, lcm
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import DTypeLike

from unet_core.config import InferConfig, Resources
from unet_core.errors import PlanError, StoreError
from unet_core.geometry import Block, Box, Zyx, blocks, coarse, fine
from unet_core.io.arrays import (
    ZarrArray,
    chunk_of,
    create_array,
    cut_of,
    open_level,
    shard_of,
    write_block,
)
from unet_core.io.ledger import Build, building
from unet_core.io.ngff import attributes_of, content_of, multiscale, voxel_size_of
from unet_core.io.remote import Location
from unet_core.net.checkpoint import Checkpoint, read_checkpoint
from unet_core.net.device import usable_gpus
from unet_core.net.engine import Member
from unet_core.net.predict import precision_of
from unet_core.ops.intensity import Method, Normaliser, normaliser
from unet_core.run.crew import Crew
from unet_core.run.inference import Job, infer_blocks
from unet_core.run.inference_plan import Fit, Raw, fit, tell
from unet_core.run.tile_choice import fixed_px, with_tiles

log = logging.getLogger(__name__)

_SECTIONS = {False: 1, True: 16}
"""Sections of a tile of a 2-D network, without and with a GPU, which is shown several at a time."""


def infer_probabilities(
    config: InferConfig,
    *,
    raw: Location,
    checkpoint: Path | Sequence[Path],
    out: Path,
    resources: Resources,
    mask: Path | None = None,
) -> None:
    """Write the class probabilities of every voxel of `raw` to the store `out`.

    `out` gets ``0``, (c, z, y, x) uint8 (0..255 stand for 0..1) or float16, cut like `raw`; by
    default of the classes 1, 2, ..., class 0 being the rest to 1. Of several checkpoints it is the
    mean. Where `mask` is 0 or outside of infer.region, it is 0.

    Raises
    ------
    StoreError
        If `raw` is no finished raw store, or has other channels than the network, or `mask` does
        not fit it.
    CheckpointError
        If a checkpoint is absent, damaged, or yields what is not finite.
    PlanError
        If infer.tile_px is no multiple of 2^depth, infer.region holds no voxel, networks do not fit
        together, or one block does not fit the memory.
    BlockError
        If blocks failed and infer.on_error is stop, or most did.
    """
    networks = read_networks(checkpoint)
    with Crew(resources) as crew:
        infer_volume(config, raw=raw, networks=networks, out=out, mask=mask, crew=crew)


Networks = Sequence[tuple[Checkpoint, Path]]
"""Networks whose probabilities are averaged, and their files."""


def read_networks(checkpoint: Path | Sequence[Path]) -> Networks:
    """The networks of one or several checkpoints."""
    paths = [checkpoint] if isinstance(checkpoint, Path) else list(checkpoint)
    # In the order of their content: sums of three and more round by their order.
    return sorted(((read_checkpoint(path), path) for path in paths), key=lambda of: of[0].content)


def infer_volume(
    config: InferConfig,
    *,
    raw: Location,
    networks: Networks,
    out: Path,
    mask: Path | None,
    crew: Crew,
) -> None:
    """What `infer_probabilities` does, with networks that are read and workers that are there."""
    level, resources = open_level(raw), crew.resources
    trained = [each for each, _ in networks]
    job = _job(config, raw, level, networks, out, mask, usable_gpus(resources.gpus))
    cut = _cut(level, config.downsample)
    inputs = {
        "raw": job.content,
        "checkpoint": _alone([each.content for each in trained]),
        "cut": cut_of(level),
        **({} if mask is None else {"mask": content_of(mask)}),
    }
    settings = _settings(job, trained, job.gpus)
    with building(
        out, stage="infer", settings=settings, inputs=inputs, ending=crew.ending
    ) as build:
        classes = config.stored(job.models[0].classes)
        made = create_array(
            build.store,
            "0",
            shape=(len(classes), *job.shape),
            dtype=config.dtype,
            complete=config.region is None,
            **cut,
        )
        plan = [
            block
            for block in blocks(job.shape, block=shard_of(made))
            if job.raw_of(block.write).size
        ]
        _compute(crew, build, job, level, plan, resources)
        failed = dict(sorted(crew.failures.items()))
        for block in plan:
            if block.name in failed:
                write_block(
                    made, block.write, np.zeros((len(classes), *block.write.shape), made.dtype)
                )
        _publish(build, job, plan, raw, failed)


def _job(
    config: InferConfig,
    raw: Location,
    level: ZarrArray,
    trained: Networks,
    out: Path,
    mask: Path | None,
    gpus: int,
) -> Job:
    """What workers need to know; its tiles are chosen later."""
    members = tuple(
        Member(path, each.content, each.model, _normaliser(raw, level.shape, level.dtype, each))
        for each, path in trained
    )
    classes = {member.model.classes for member in members}
    if len(classes) > 1:
        raise PlanError(
            f"networks of {' and '.join(map(str, sorted(classes)))} classes cannot be averaged; "
            "use networks of the same classes"
        )
    if max(config.stored(min(classes))) >= min(classes):
        raise PlanError(
            f"infer.classes {list(config.stored(min(classes)))}: the network has the classes 0 to "
            f"{min(classes) - 1}"
        )
    raw_shape = _zyx(level.shape[-3:])
    if mask is not None:
        _check_mask(mask, raw_shape)
    shard = _zyx(_cut(level, config.downsample)["shard"])
    return Job(
        raw=raw,
        content=content_of(raw),
        mask=mask,
        out=out,
        members=members,
        config=config,
        tile_px=0,
        raw_shape=raw_shape,
        within=_within(config, raw_shape),
        shape=coarse(Box((0, 0, 0), raw_shape), config.downsample).shape,
        shard=shard,
        unit=shard,
        gpus=gpus,
        sections=_SECTIONS[bool(gpus)],
    )


def _check_mask(mask: Path, shape: Zyx) -> None:
    if (found := open_level(mask).shape) != shape:
        raise StoreError(
            f"{mask} is a mask of {' x '.join(map(str, found))} voxels, raw has {_by(shape)}; make "
            "it with `unet-core convert --mask-of RAW`, which fits coarser ones to raw"
        )


def _within(config: InferConfig, shape: Zyx) -> Box:
    """The voxels that are computed: infer.region, grown to whole boxes of infer.downsample."""
    volume = Box((0, 0, 0), shape)
    if config.region is None:
        return volume
    (z0, z1), (y0, y1), (x0, x1) = config.region
    within = Box((z0, y0, x0), (z1, y1, x1)).intersection(volume)
    if not within.size:
        raise PlanError(
            f"infer.region {[list(axis) for axis in config.region]} holds no voxel of the volume, "
            f"which has {_by(shape)}"
        )
    return fine(coarse(within, config.downsample), config.downsample).intersection(volume)


def _cut(level: ZarrArray, downsample: Zyx) -> dict[str, Any]:
    """Chunk and shard of what is written: those of raw, downsampled to whole voxels."""
    chunk, shard = [], []
    for n, c, s, f in zip(
        level.shape[-3:], chunk_of(level), shard_of(level), downsample, strict=True
    ):
        of = s if s >= n else lcm(s, f)  # voxels that share no stored voxel with the next shard
        shard.append(-(-of // f))
        chunk.append(gcd(shard[-1], c // gcd(c, f)))
    return {"chunk": _zyx(chunk), "shard": _zyx(shard)}


def _compute(
    crew: Crew,
    build: Build,
    job: Job,
    level: ZarrArray,
    plan: list[Block],
    resources: Resources,
) -> None:
    raw = Raw(job.raw_shape, chunk_of(level), level.shape[0], level.dtype.str)
    done = build.done("infer")
    todo = [block for block in plan if block.name not in done]
    fitted = Fit(job, [], ahead=0, need_mb=0, most_workers=None)
    if todo:
        node = resources.of_a_node
        fitted = fit(with_tiles(crew, build, job, raw, todo, node), todo, raw, node)
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
            "model": _alone([asdict(each) for each in job.models]),
            "downsample": downsample,
            "region": job.config.region,
            "mask": build.provenance["inputs"].get("mask"),
            "skipped": round(skipped / voxels, 6),
            **({"failed": failed} if failed else {}),
        },
    )


def _settings(job: Job, trained: Sequence[Checkpoint], gpus: int) -> dict[str, Any]:
    """What decides the result, and no more.

    Without the tile's size where tiling is exact: an edit of it makes Snakemake start the stage,
    which then finds every block done. With the number type that "auto" stands for here: a run
    resumed on another machine must not mix two of them in one volume.
    """
    infer = asdict(job.config) | {"precision": precision_of(job.config, gpus)}
    del infer["on_error"]
    if all(model.is_local for model in job.models):
        del infer["tile_px"]
    elif job.config.tile_px == "auto":
        infer["tile_px"] = fixed_px(job)
    return {
        "infer": infer,
        "model": _alone([asdict(each.model) for each in trained]),
        "normalise": _alone([each.normalise for each in trained]),
    }


def _normaliser(
    raw: Location, shape: Sequence[int], dtype: DTypeLike, trained: Checkpoint
) -> Normaliser:
    """How intensities of `raw` become those the network was trained on."""
    statistics = attributes_of(raw)["unet"].get("statistics")
    if statistics is None or len(shape) != 4:
        raise StoreError(f"{raw} is no raw store; make it with `unet-core convert`")
    if shape[0] != trained.model.channels:
        raise StoreError(
            f"{raw} has {shape[0]} channel(s), the network was trained on "
            f"{trained.model.channels}; use a network that was trained on volumes like this one"
        )
    return normaliser(statistics, cast(Method, trained.normalise), dtype)


def _alone(values: list[Any]) -> Any:
    """The value itself where there is but one."""
    return values[0] if len(values) == 1 else values


def _by(shape: Zyx) -> str:
    return " x ".join(map(str, shape))


def _zyx(values: Sequence[int]) -> Zyx:
    z, y, x = values
    return z, y, x
