"""Any raw format to a sharded, multiscale OME-Zarr store, block by block."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from unet_core.config import ConvertConfig, Resources, TruthConfig, VolumeConfig
from unet_core.errors import ConfigError, RawFormatError
from unet_core.geometry import IGNORED_ID, Block, Box, Zyx, blocks
from unet_core.io.arrays import Array, create_array, open_level, read, shard_of, write_block
from unet_core.io.ledger import Build, building
from unet_core.io.ngff import label_image, multiscale
from unet_core.io.readers import open_raw
from unet_core.io.readers.raw import RawVolume, VoxelSize
from unet_core.io.readers.source import Source, band_of
from unet_core.ops import statistics
from unet_core.ops.casting import as_ids, as_intensities, present_ids, stored_dtype
from unet_core.ops.downsample import level_factors, level_shape, mean_level, mode_level
from unet_core.provenance import source_digest
from unet_core.run.crew import Crew, Done
from unet_core.run.objects import label_components

log = logging.getLogger(__name__)

_SPARE_MB = 64.0
"""Of a worker's memory: what does not grow with its block."""


@dataclass(frozen=True)
class _Job:
    """What the steps of one conversion have in common."""

    crew: Crew
    build: Build
    source: Source
    level: Any
    """The array of level 0."""
    plan: list[Block]
    """Blocks of whole shards of it that read the file."""
    unit_mb: float
    """What the file stores together."""
    create: Callable[..., Any]
    """Creates an array, cut as the settings say."""

    def need_mb(self, voxel_bytes: float) -> float:
        """Memory of one worker with one block of the file, MB."""
        return _SPARE_MB + 2 * self.unit_mb + self.plan[0].write.size * voxel_bytes / 1e6


def convert_volume(
    config: ConvertConfig,
    *,
    volume: VolumeConfig,
    truth: TruthConfig | None,
    raw: str,
    out: Path,
    resources: Resources,
) -> None:
    """Write the volume in the file, folder or series `raw` to the store `out`, with its pyramid.

    Intensities keep their number type (`ops.casting`) and get statistics per channel; truth
    (where `truth` says what its values mean) becomes uint32 ids.

    Raises
    ------
    RawFormatError
        If `raw` cannot be read as a volume.
    ConfigError
        If the sections asked for are not in it.
    """
    opened = open_raw(raw)
    opened.check()
    _refuse_values(opened, truth)
    first, stop = _sections(volume, opened)
    size, told_by = _voxel_size(volume, opened)
    log.info("%s: %s %s, voxels %s nm (%s)", raw, opened.shape, opened.dtype, size, told_by)
    source = Source(raw, source_digest(raw), first)
    shape = (stop - first, *opened.shape[2:])
    settings = {"convert": config, "volume": volume, "truth": truth}
    inputs = {"source": source.content}
    with (
        building(out, stage="convert", settings=settings, inputs=inputs) as build,
        Crew(resources) as crew,
    ):
        create = partial(create_array, chunk=config.chunk, shard=config.shard, codec=config.codec)
        if truth is None:
            array = (opened.shape[0], *shape)
            level = create(build.store, "0", shape=array, dtype=stored_dtype(opened.dtype))
        else:
            level = create(build.store, "0", shape=shape, dtype=np.uint32)
        plan = blocks(shape, block=band_of(opened, shape, shard_of(level)))
        job = _Job(crew, build, source, level, plan, opened.unit_mb, create)
        unet = _convert_raw(job) if truth is None else _convert_truth(job, truth)
        factors = level_factors(shape, size, smallest_px=config.smallest_level_px)
        _build_pyramid(job, factors, labels=truth is not None)
        kind, axes = ("raw", "czyx") if truth is None else ("truth", "zyx")
        ome = multiscale(kind, axes=axes, voxel_size_nm=size, factors=factors)
        unet["voxel_size_from"] = told_by
        build.publish(ome=ome if truth is None else label_image(ome), unet=unet)


def _sections(volume: VolumeConfig, opened: RawVolume) -> tuple[int, int]:
    there = opened.shape[1]
    first, stop = volume.sections or (0, there)
    if stop > there:
        raise ConfigError(
            f"sections {first}:{stop} asked for, {opened.source} has {there} (0:{there})"
        )
    return first, stop


def _voxel_size(volume: VolumeConfig, opened: RawVolume) -> tuple[VoxelSize, str]:
    """Edge lengths and who told them; the sheet's count more than the file's."""
    if volume.voxel_size_nm is not None:
        return volume.voxel_size_nm, "sheet"
    if opened.voxel_size_nm is not None:
        return opened.voxel_size_nm, "file"
    log.warning(
        "%s does not say how large a voxel is: taken as 1 x 1 x 1 nm. If sections are thicker than "
        "pixels, set voxel_size_nm in the volume sheet",
        opened.source,
    )
    return (1.0, 1.0, 1.0), "nobody"


def _refuse_values(opened: RawVolume, truth: TruthConfig | None) -> None:
    if truth is None:
        stored_dtype(opened.dtype)
        if opened.colour_table:
            raise RawFormatError(
                f"{opened.source} holds numbers of colours (a palette), not intensities; save it "
                "as grey or RGB"
            )
        return
    opened.refuse_lossy()
    if opened.shape[0] != 1:
        raise RawFormatError(
            f"{opened.source} has {opened.shape[0]} channels, truth needs one that holds the ids; "
            "save colour-coded truth as grey values"
        )


# Intensities.


def _convert_raw(job: _Job) -> dict[str, Any]:
    store, scratch = job.build.store, job.build.scratch
    stored, channels = job.level.dtype, job.level.shape[0]
    copy = partial(copy_block, source=job.source, out=store, scratch=scratch)
    need = job.need_mb(5 * channels * stored.itemsize)
    notes = job.crew.run(job.build, "level 0", copy, job.plan, need_mb=need)
    if stored.kind == "f":
        moments = [_merge(of) for of in zip(*notes, strict=True)]
        ranges = [(m.low, m.high) for m in moments]
        count = partial(count_block, out=store, scratch=scratch, ranges=ranges)
        job.crew.run(job.build, "histogram", count, job.plan, need_mb=need)

    def summarise() -> list[dict[str, Any]]:
        counts = np.zeros((), np.int64)
        for block in job.plan:
            with np.load(_counts_file(scratch, block)) as file:
                counts = counts + file["counts"]
        if stored.kind == "f":
            pairs = zip(moments, counts, strict=True)
            return [asdict(statistics.summarise_bins(m, n)) for m, n in pairs]
        return [asdict(statistics.summarise_counts(n, stored)) for n in counts]

    return {"statistics": job.build.once("statistics", summarise)}


def copy_block(block: Block, *, source: Source, out: Path, scratch: Path) -> Done:
    """Write one block of intensities; its note: moments per channel, of floats."""
    values = as_intensities(source.read(block.write))
    note = None
    if values.dtype.kind == "f":
        note = [asdict(statistics.measure(channel)) for channel in values]
    else:
        counts = np.stack([statistics.count_values(channel) for channel in values])
        np.savez_compressed(_counts_file(scratch, block), counts=counts)
    return Done(write_block(open_level(out, mode="r+"), block.write, values), note=note)


def count_block(
    block: Block, *, out: Path, scratch: Path, ranges: Sequence[tuple[float, float]]
) -> Done:
    """Histogram of one block of floats per channel, kept in scratch."""
    values = read(open_level(out), block.write)
    pairs = zip(values, ranges, strict=True)
    counts = np.stack([statistics.count_bins(channel, *of) for channel, of in pairs])
    np.savez_compressed(_counts_file(scratch, block), counts=counts)
    return Done(None)


def _counts_file(scratch: Path, block: Block) -> Path:
    return scratch / f"counts-{block.name}.npz"


def _merge(notes: Sequence[dict[str, Any]]) -> statistics.Moments:
    return sum((statistics.Moments(**note) for note in notes), statistics.Moments())


# Truth.


def _convert_truth(job: _Job, truth: TruthConfig) -> dict[str, Any]:
    if truth.kind == "binary":
        return {"truth": {"kind": "binary", "objects": _label_binary(job, truth)}}
    write = partial(copy_ids, source=job.source, truth=truth, out=job.build.store)
    write = partial(write, scratch=job.build.scratch)
    job.crew.run(job.build, "level 0", write, job.plan, need_mb=job.need_mb(24))

    def present() -> list[int]:
        found = [np.load(_ids_file(job.build.scratch, block)) for block in job.plan]
        ids = np.unique(np.concatenate(found))
        ids = ids[ids != IGNORED_ID]
        return ids.tolist() if truth.holds_classes else [int((ids != 0).sum())]

    ids = job.build.once("present", present)
    if truth.holds_classes:
        return {"truth": {"kind": "semantic", "classes": ids}}
    return {"truth": {"kind": truth.kind, "objects": ids[0]}}


def copy_ids(block: Block, *, source: Source, truth: TruthConfig, out: Path, scratch: Path) -> Done:
    """Write one block of ids or classes; those there are go to scratch."""
    ids = as_ids(source.read(block.write)[0], truth)
    np.save(_ids_file(scratch, block), present_ids(ids))
    return Done(write_block(open_level(out, mode="r+"), block.write, ids))


def _ids_file(scratch: Path, block: Block) -> Path:
    return scratch / f"ids-{block.name}.npy"


def _label_binary(job: _Job, truth: TruthConfig) -> int:
    """Components of what is inside; the file is decoded once, into a small array in scratch."""
    scratch, store = job.build.scratch, job.build.store
    job.create(scratch, "mask", shape=job.level.shape, dtype=np.uint8)
    keep = partial(copy_mask, source=job.source, truth=truth, scratch=scratch)
    job.crew.run(job.build, "mask", keep, job.plan, need_mb=job.need_mb(24))
    return label_components(
        job.crew,
        job.build,
        mask_of=partial(inside_of, scratch=scratch),
        write=partial(write_objects, scratch=scratch, out=store),
        shape=job.level.shape,
        shard=shard_of(job.level),
        scope=truth.objects,
    )


_IGNORED_MASK = 2


def copy_mask(block: Block, *, source: Source, truth: TruthConfig, scratch: Path) -> Done:
    """Write one block of the mask in scratch: 0 outside, 1 inside, 2 ignored."""
    mask = np.minimum(as_ids(source.read(block.write)[0], truth), _IGNORED_MASK).astype(np.uint8)
    write_block(open_level(scratch, "mask", mode="r+"), block.write, mask)
    return Done(None)


def inside_of(box: Box, *, scratch: Path) -> Array:
    """The (z, y, x) mask of a box: what is inside of an object."""
    inside: Array = read(open_level(scratch, "mask"), box) == 1
    return inside


def write_objects(block: Block, labels: Array, *, scratch: Path, out: Path) -> Done:
    """Write one block of component ids as truth."""
    if labels.size and int(labels.max()) >= IGNORED_ID:
        raise RawFormatError(
            f"truth has more than {IGNORED_ID - 1} connected components; is it a mask?"
        )
    ids = labels.astype(np.uint32)
    ids[read(open_level(scratch, "mask"), block.write) == _IGNORED_MASK] = IGNORED_ID
    return Done(write_block(open_level(out, mode="r+"), block.write, ids))


# Pyramid.


def _build_pyramid(job: _Job, factors: Sequence[Zyx], *, labels: bool) -> None:
    store, (*leading, _, _, _), dtype = job.build.store, job.level.shape, job.level.dtype
    for level in range(1, len(factors)):
        z, y, x = (b // a for a, b in zip(factors[level - 1], factors[level], strict=True))
        shape = level_shape(job.level.shape[-3:], factors[level])
        array = job.create(store, str(level), shape=(*leading, *shape), dtype=dtype)
        work = partial(reduce_block, out=store, level=level, step=(z, y, x), labels=labels)
        voxels = float(np.prod([*leading, *shard_of(array)]))
        need = _SPARE_MB + voxels * (z * y * x * dtype.itemsize + 24) / 1e6
        plan = blocks(shape, block=shard_of(array))
        job.crew.run(job.build, f"level {level}", work, plan, need_mb=need)


def reduce_block(block: Block, *, out: Path, level: int, step: Zyx, labels: bool) -> Done:
    """Write one block of a level from the level before it."""
    finer = open_level(out, level - 1)
    z0, y0, x0 = (a * s for a, s in zip(block.write.start, step, strict=True))
    z1, y1, x1 = (b * s for b, s in zip(block.write.stop, step, strict=True))
    seen = read(finer, Box((z0, y0, x0), (z1, y1, x1)).clip(finer.shape[-3:]))
    coarser = mode_level(seen, step) if labels else mean_level(seen, step)
    return Done(write_block(open_level(out, level, mode="r+"), block.write, coarser))
