"""A raw volume to class probabilities, block by block, equal to one pass over the whole volume."""

import itertools
import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import DTypeLike

from unet_core.config import InferConfig, Resources, UNetConfig
from unet_core.errors import StoreError
from unet_core.geometry import Block, Tile, Zyx, blocks, hull
from unet_core.io.arrays import (
    create_array,
    cut_of,
    open_level,
    read_mirrored,
    shard_of,
    write_block,
)
from unet_core.io.ledger import building
from unet_core.io.ngff import attributes_of, content_of, multiscale, voxel_size_of
from unet_core.net.checkpoint import Checkpoint, read_checkpoint
from unet_core.net.predict import (
    Predictor,
    batch_mb,
    pass_mb,
    precision_of,
    predictor_of,
    tiling_of,
    weights_mb,
)
from unet_core.ops.intensity import Method, Normaliser, normalise, normaliser
from unet_core.run.crew import Crew, Done

log = logging.getLogger(__name__)

_PROCESS_MB = 750
"""Memory of a worker besides its arrays: libraries, scheduler, what the allocator keeps."""

_KEPT = 1.25
"""The allocator's share on top of the network's maps; with it, peaks of six networks (2-D, 3-D,
width 16 to 64, both number types) were between 74 and 100 % of what is asked for."""

_GPU_PROCESS_MB = 3000
"""The same with the libraries of a GPU: an estimate, not measured."""


def infer_probabilities(
    config: InferConfig, *, raw: Path, checkpoint: Path, out: Path, resources: Resources
) -> None:
    """Write the probabilities of the classes 1, 2, ... of every voxel of `raw` to the store `out`.

    `out` gets ``0``, (c, z, y, x) uint8 (0..255 stand for 0..1) or float16, cut like `raw`; class
    0 is the rest to 1.

    Raises
    ------
    StoreError
        If `raw` is no finished raw store, or has other channels than the network.
    CheckpointError
        If `checkpoint` is absent, damaged, or yields what is not finite.
    PlanError
        If infer.tile_px is no multiple of 2^depth, or one block does not fit the memory.
    """
    level, trained = open_level(raw), read_checkpoint(checkpoint)
    model = trained.model
    by = _normaliser(raw, level.shape, level.dtype, trained)
    reach = tiling_of(model, config.tile_px).reach
    plan = blocks(level.shape[-3:], block=shard_of(level), halo=reach)
    with building(
        out,
        stage="infer",
        settings=_settings(config, trained, resources.gpus),
        inputs={"raw": content_of(raw), "checkpoint": trained.content, "cut": cut_of(level)},
    ) as build:
        create_array(
            build.store,
            "0",
            shape=(model.classes - 1, *level.shape[-3:]),
            dtype=config.dtype,
            **cut_of(level),
        )
        todo = [block for block in plan if block.name not in build.done("infer")]
        passes = 1 if resources.gpus else max(1, resources.threads // max(1, len(todo)))
        work = partial(
            infer_block,
            raw=raw,
            checkpoint=checkpoint,
            out=out,
            content=trained.content,
            config=config,
            by=by,
            gpus=resources.gpus,
            passes=passes,
        )
        need_mb = _need_mb(
            plan[0], config, model, raw=level.dtype.itemsize, gpus=resources.gpus, passes=passes
        )
        with Crew(resources) as crew, _told(config, model, plan, todo):
            crew.run(build, "infer", work, plan, need_mb=need_mb)
        build.publish(
            ome=multiscale("probabilities", axes="czyx", voxel_size_nm=voxel_size_of(raw)),
            unet={
                "classes": model.classes,
                "channels": [f"class {number}" for number in range(1, model.classes)],
                "model": asdict(model),
            },
        )


def infer_block(
    block: Block,
    *,
    raw: Path,
    checkpoint: Path,
    out: Path,
    content: str,
    config: InferConfig,
    by: Normaliser,
    gpus: int,
    passes: int,
) -> Done:
    """Write the probabilities of one block; the volume is mirrored at its edge, never the block.

    `content`: digest of the weights. `passes`: how many tiles are computed at a time.
    """
    predictor = predictor_of(checkpoint, content, config, gpus=gpus)
    tiles = tiling_of(predictor.model, config.tile_px).tiles(block.write)
    seen = hull([tile.read for tile in tiles])
    voxels = read_mirrored(open_level(raw), seen)
    shape = (predictor.model.classes - 1, *block.write.shape)
    probabilities = np.empty(shape, dtype=config.dtype)

    def predict(batch: list[Tile]) -> None:
        inputs = [
            normalise(voxels[(..., *tile.read.relative_to(seen.start).slices)], by)
            for tile in batch
        ]
        for tile, result in zip(batch, predictor(np.stack(inputs)), strict=True):
            core = tile.core.relative_to(block.write.start)
            inset = tile.core.relative_to(tile.core.start).shift(tile.inset)
            probabilities[(..., *core.slices)] = result[(..., *inset.slices)]

    with ThreadPoolExecutor(passes) as pool:
        list(pool.map(predict, _batches(tiles, predictor)))
    return Done(write_block(open_level(out, mode="r+"), block.write, probabilities))


def _batches(tiles: list[Tile], predictor: Predictor) -> Iterator[list[Tile]]:
    """Tiles that see boxes of one shape, as many as the device takes at a time."""
    tiles = sorted(tiles, key=lambda tile: tile.read.shape)
    for shape, alike in itertools.groupby(tiles, key=lambda tile: tile.read.shape):
        while batch := list(itertools.islice(alike, predictor.batch(shape))):
            yield batch


def _settings(config: InferConfig, trained: Checkpoint, gpus: int) -> dict[str, Any]:
    """What decides the result, and no more.

    Without the tile's size where tiling is exact: an edit of it makes Snakemake start the stage,
    which then finds every block done. With the number type that "auto" stands for here: a run
    resumed on another machine must not mix two of them in one volume.
    """
    infer = asdict(config) | {"precision": precision_of(config, gpus)}
    if trained.model.is_local:
        del infer["tile_px"]
    return {"infer": infer, "model": trained.model, "normalise": trained.normalise}


def _need_mb(
    block: Block, config: InferConfig, model: UNetConfig, *, raw: int, gpus: int, passes: int
) -> float:
    """Memory of one worker (MB); `raw`: bytes of a raw value."""
    tiles = tiling_of(model, config.tile_px).tiles(block.write)
    reads = [tile.read for tile in tiles]
    stored = np.dtype(config.dtype).itemsize
    arrays = 2 * raw * model.channels * hull(reads).size  # twice while chunks are decoded
    arrays += 3 * stored * (model.classes - 1) * block.write.size  # while they are encoded
    if gpus:  # what the network needs is the GPU's
        return _GPU_PROCESS_MB + arrays / 1e6 + 2 * batch_mb(model)
    width = 2 if precision_of(config, gpus) == "bfloat16" else 4
    largest = max((read.shape for read in reads), key=prod)
    network = passes * pass_mb(model, largest, bytes_per_value=width) + weights_mb(model)
    return _PROCESS_MB + arrays / 1e6 + _KEPT * network


def _normaliser(
    raw: Path, shape: Sequence[int], dtype: DTypeLike, trained: Checkpoint
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


@contextmanager
def _told(
    config: InferConfig, model: UNetConfig, plan: list[Block], todo: list[Block]
) -> Iterator[None]:
    """Log what will be done before, and how fast it went after."""
    block = plan[0].write
    tiles = tiling_of(model, config.tile_px).tiles(block)
    seen = sum(tile.read.size for tile in tiles)
    log.info(
        "%d blocks of %s voxels; a block is %d tiles of up to %s, seen as %s, %.2f voxels in per "
        "voxel out; halo %d px",
        len(plan),
        _by(block.shape),
        len(tiles),
        _by(max(tile.core.shape for tile in tiles)),
        _by(max(tile.read.shape for tile in tiles)),
        seen / block.size,
        model.tile_halo_px,
    )
    if not model.is_local:
        log.warning(
            "%s normalisation sees each tile's own mean: results depend on infer.tile_px and on "
            "convert.shard, and tiles do not agree exactly at their seams; train with model.norm "
            "none or batch for exact seams",
            model.norm,
        )
    began = time.monotonic()
    yield
    if voxels := sum(block.write.size for block in todo):
        seconds = time.monotonic() - began
        rate = voxels / seconds / 1e6
        log.info("%d voxels in %.1f s: %.3g million voxels/s", voxels, seconds, rate)


def _by(shape: Zyx) -> str:
    return " x ".join(map(str, shape))
