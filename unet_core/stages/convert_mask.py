"""A mask file to a store of raw's voxels, 0 or 1: where a volume is computed."""

import logging
from functools import partial
from pathlib import Path

import numpy as np

from unet_core.config import ConvertConfig, Resources, VolumeConfig
from unet_core.errors import ConfigError, RawFormatError
from unet_core.geometry import Block, Box, Zyx, blocks
from unet_core.io.arrays import create_array, cut_of, open_level, shard_of, write_block
from unet_core.io.ledger import building
from unet_core.io.ngff import label_image, multiscale, voxel_size_of
from unet_core.io.readers import open_raw
from unet_core.io.readers.source import Source, band_of
from unet_core.ops.masks import factors_between, spread
from unet_core.provenance import source_digest
from unet_core.run.crew import Crew, Done

log = logging.getLogger(__name__)

_SPARE_MB = 64.0
"""Of a worker's memory: what does not grow with its block."""


def convert_mask(
    config: ConvertConfig,
    *,
    volume: VolumeConfig,
    source: str,
    raw: Path,
    out: Path,
    resources: Resources,
) -> None:
    """Write the mask in the file, folder or series `source` to the store `out`: ``0``, uint8.

    1 where the mask is not 0. It has the voxels of the store `raw`, and is cut like it; the file
    may be coarser by whole factors per axis.

    Raises
    ------
    RawFormatError
        If `source` cannot be read, or is no mask of `raw`.
    ConfigError
        If the sections of the volume are not in it.
    """
    opened, level = open_raw(source), open_level(raw)
    opened.check()
    opened.refuse_lossy()
    z, y, x = level.shape[-3:]
    channels, *there = opened.shape
    first = _first(volume, there[0], z, source)
    deep = there[0] if volume.sections is None else z
    factors = factors_between((deep, *there[1:]), (z, y, x))
    if channels != 1 or factors is None:
        raise RawFormatError(
            f"{source} has {channels} channel(s) of {there} voxels (z, y, x), {raw} has "
            f"{[z, y, x]}; a mask has one channel, and as many voxels or fewer by whole factors"
        )
    log.info("%s: one voxel of the mask for %s of raw", source, factors)
    content = source_digest(source)
    settings = {"convert": config, "volume": volume}
    inputs = {"source": content, "shape": [z, y, x], "cut": cut_of(level)}
    with building(out, stage="convert", settings=settings, inputs=inputs) as build:
        cut = cut_of(level)
        array = create_array(
            build.store, "0", shape=(z, y, x), dtype=np.uint8, codec=config.codec, **cut
        )
        plan = blocks((z, y, x), block=band_of(opened, (z, y, x), shard_of(array)))
        work = partial(
            copy_block, source=Source(source, content, first), factors=factors, out=build.store
        )
        need_mb = _SPARE_MB + 2 * opened.unit_mb + plan[0].write.size * 16 / 1e6
        with Crew(resources) as crew:
            inside = sum(crew.run(build, "level 0", work, plan, need_mb=need_mb))
        ome = multiscale("mask", axes="zyx", voxel_size_nm=voxel_size_of(raw))
        build.publish(ome=label_image(ome), unet={"mask": {"factors": factors, "inside": inside}})


def copy_block(block: Block, *, source: Source, factors: Zyx, out: Path) -> Done:
    """Write one block of a mask; its note: the voxels inside."""
    start = [a // f for a, f in zip(block.write.start, factors, strict=True)]
    stop = [-(-b // f) for b, f in zip(block.write.stop, factors, strict=True)]
    (z0, y0, x0), (z1, y1, x1) = start, stop
    found = source.read(Box((z0, y0, x0), (z1, y1, x1)))[0] != 0
    origin = [a * f for a, f in zip(start, factors, strict=True)]
    inside = spread(found, factors)[block.write.relative_to(origin).slices]
    digest = write_block(open_level(out, mode="r+"), block.write, inside.astype(np.uint8))
    return Done(digest, note=int(inside.sum()))


def _first(volume: VolumeConfig, there: int, sections: int, source: str) -> int:
    """Section of the file that is section 0 of the volume."""
    if volume.sections is None:
        return 0
    first, stop = volume.sections
    if stop > there:
        raise ConfigError(
            f"sections {first}:{stop} asked for, the mask {source} has {there}; with sections a "
            "mask has as many sections as raw, and may be coarser in y and x alone"
        )
    if stop - first != sections:
        raise ConfigError(
            f"sections {first}:{stop} asked for, the raw store has {sections}; convert raw anew"
        )
    return first
