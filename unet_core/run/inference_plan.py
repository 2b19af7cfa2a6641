"""How inference is laid out: units, memory, reading order; arithmetic before the first block."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod

import numpy as np

from unet_core.config import NetworkConfig, Resources
from unet_core.config.networks.cost import waste
from unet_core.config.networks.geometry import geometry_of
from unet_core.config.networks.memory import KEPT, part_mb, weights_mb
from unet_core.config.work_net import (
    GPU_PROCESS_MB,
    MOST_AHEAD,
    NET_MB,
    in_flight_mb,
    whole_chunks,
)
from unet_core.errors import PlanError
from unet_core.geometry import Block, Box, Zyx, by, coarse, fine, hull
from unet_core.net.memory import pinned_mb
from unet_core.net.parts import Part
from unet_core.run.inference import Job
from unet_core.traversal import walk
from unet_core.windows import Windows

log = logging.getLogger(__name__)

_CACHE_MB = 500
"""Most that a worker's cache takes where the job was given no limit."""

_SMALLER = 16
"""Smaller tiles that are looked at where one does not fit."""


@dataclass(frozen=True)
class Raw:
    """What is read."""

    shape: Zyx
    chunk: Zyx
    channels: int
    dtype: str

    @property
    def bytes_per_voxel(self) -> int:
        """Of all channels."""
        return self.channels * np.dtype(self.dtype).itemsize

    def decoded(self, shape: Zyx) -> int:
        """Most voxels of whole chunks that a box of `shape` touches."""
        return whole_chunks(shape, chunk=self.chunk, shape=self.shape)


@dataclass(frozen=True)
class Fit:
    """How a job fits the memory it was given."""

    job: Job
    plan: list[Block]
    """The blocks, in the order in which they are read with the fewest chunks decoded again."""

    ahead: int
    """Blocks in flight per worker besides the one that is computed."""

    need_mb: float
    """Memory of a worker."""

    most_workers: int | None
    """Workers that the memory of a node holds; None: one for each unit or core."""


def fit(job: Job, todo: Sequence[Block], raw: Raw, resources: Resources) -> Fit:
    """Share out cores; read ahead, write behind and keep decoded chunks as far as the memory goes.

    Raises
    ------
    PlanError
        If one block does not fit, with what would.
    """
    units = job.together(todo)
    node, each = resources.of_a_node, -(-len(units) // resources.nodes)
    workers, passes = spread(job, raw, node, each)
    share = node.share_mb(workers)
    job, ahead = _spent(replace(job, passes=passes), raw, share)
    need = need_mb(job, raw, ahead)
    left = _CACHE_MB if share is None else share - need
    value = raw.bytes_per_voxel
    grown = [Block(job.raw_of(job.unit_of(unit[0])), job.halo) for unit in units]
    order = walk(
        grown,
        shape=raw.shape,
        chunk=raw.chunk,
        most_voxels=int(left * 1e6 / value),
        runs=workers * resources.nodes,
    )
    place = {block.write.start: number for number, block in enumerate(order.blocks)}
    units.sort(key=lambda unit: place[job.raw_of(job.unit_of(unit[0])).start])
    cache_mb = order.cache_voxels * value / 1e6
    return Fit(
        replace(job, cache_mb=cache_mb),
        [block for unit in units for block in unit],
        ahead,
        need + cache_mb,
        workers if workers < _wanted(node, each) else None,
    )


def spread(job: Job, raw: Raw, resources: Resources, units: int) -> tuple[int, int]:
    """Workers on one node for so many units of work, and passes at a time of each.

    A worker for every GPU, core or unit; where cores are left over, each makes several passes at
    a time. Where the memory does not hold that, what keeps the most cores busy: fewer workers
    with more passes each take less of it, as these share what a process and its unit need.

    Raises
    ------
    PlanError
        If one block does not fit, with what would.
    """
    wanted, given = _wanted(resources, units), resources.share_mb(1)
    threads = 1 if job.gpus else resources.threads
    most = min(threads, len(largest_unit(job)[0]))
    whole = wanted, max(1, min(threads // wanted, most))
    if given is None:
        return whole
    refuse_if_too_large(replace(job, passes=1), raw, given)
    needs = [need_mb(replace(job, passes=n), raw, 0) for n in range(1, most + 1)]

    def fits(way: tuple[int, int]) -> bool:
        workers, passes = way
        return resources.holds(workers, needs[passes - 1])

    ways = [
        (workers, passes)
        for workers in range(wanted, 0, -1)
        for passes in range(1, max(1, min(threads // workers, most)) + 1)
    ]
    return whole if fits(whole) else max(filter(fits, ways), key=prod)


def _wanted(resources: Resources, units: int) -> int:
    return max(1, min(resources.gpus or resources.threads, units))


def _spent(job: Job, raw: Raw, share_mb: float | None) -> tuple[Job, int]:
    """Job and blocks ahead: first reading and writing besides computing, then keeping memory."""
    ways = product(range(MOST_AHEAD, -1, -1), (replace(job, keeps_memory=True), job))
    return next(
        (each, ahead)
        for ahead, each in ways
        if share_mb is None or need_mb(each, raw, ahead) <= share_mb
    )


def refuse_if_too_large(job: Job, raw: Raw, given_mb: float) -> None:
    """Raise PlanError where not even one block fits, with the memory or the tile that would."""
    need = need_mb(job, raw, 0)
    if need <= given_mb:
        return
    stride = -(-job.tile_px // (_SMALLER * job.step)) * job.step
    sizes = range(job.tile_px - stride, 0, -stride)
    smaller = next((px for px in sizes if need_mb(job.with_tile(px), raw, 0) <= given_mb), None)
    way_out = (
        f"set infer.tile_px to {smaller} or less"
        if smaller
        else "make convert.shard smaller (no infer.tile_px is small enough)"
    )
    raise PlanError(
        f"one block needs about {need:.0f} MB, the job has {given_mb:.0f} MB; give it at least "
        f"{need:.0f} (mem_mb), or {way_out}"
    )


def need_mb(job: Job, raw: Raw, ahead: int) -> float:
    """Memory of one worker (MB) but its cache; `ahead`: blocks besides the one computed."""
    parts, unit = largest_unit(job)
    arrays = arrays_mb(job, parts, unit, raw, ahead)
    if job.gpus:  # what the network needs is the GPU's
        return GPU_PROCESS_MB + arrays + _pinned_mb(job, parts, raw)
    return NET_MB + arrays + network_mb(job, parts)


def largest_unit(job: Job) -> tuple[list[Part], Box]:
    """Parts and stored voxels of a unit of full size."""
    unit = Box((0, 0, 0), job.unit).clip(job.shape)
    box = fine(unit, job.config.downsample).clip(job.raw_shape)
    z, y, x = (
        min(n, m + step - 1)
        for n, m, step in zip(box.shape, job.within.shape, job.steps, strict=True)
    )
    box = Box((0, 0, 0), (z, y, x))
    if all(job.windows):  # at the volume's edge there are fewer
        middle = [n // 2 // side * side for n, side in zip(job.raw_shape, (z, y, x), strict=True)]
        box = box.shift(middle).clip(job.raw_shape)
    return job.parts(box, job.tile_px), unit


def network_mb(job: Job, parts: Sequence[Part]) -> float:
    """Memory (MB) of the networks on a CPU, and of the passes that are made at a time."""
    width = 2 if job.config.precision == "bfloat16" else 4
    kinds = {(part.core.shape, tuple(tile.read.shape for tile in part.tiles)) for part in parts}
    most = max(
        part_mb(
            job.models,
            reads,
            job.config,
            bytes_per_value=width,
            core=core,
            windows=job.windows,
        )
        for core, reads in kinds
    )
    kept = KEPT if job.keeps_memory else 1.0
    return min(job.passes, len(parts)) * most * kept + sum(map(weights_mb, job.models))


def _pinned_mb(job: Job, parts: Sequence[Part], raw: Raw) -> float:
    """Memory (MB) that a GPU reads tiles from and writes results to."""
    voxel = np.dtype(job.config.dtype).itemsize * len(job.config.stored(job.models[0].classes))
    return max(
        pinned_mb(
            [tile.read.size * raw.bytes_per_voxel for tile in part.tiles],
            coarse(part.core, job.config.downsample).size * voxel,
        )
        for part in parts
    )


def arrays_mb(job: Job, parts: Sequence[Part], unit: Box, raw: Raw, ahead: int) -> float:
    """Memory (MB) of the voxels of all blocks in flight, at the worst moment."""
    mask = 0 if job.mask is None else fine(unit, job.config.downsample).size
    read = hull([part.read for part in parts])
    seen = read.size * raw.bytes_per_voxel + mask
    classes = len(job.config.stored(job.models[0].classes))
    stored = np.dtype(job.config.dtype).itemsize * classes * unit.size
    decoded = raw.decoded(read.shape) * raw.bytes_per_voxel + mask
    return in_flight_mb(seen, decoded, stored, ahead=ahead)


def tell(job: Job, plan: list[Block]) -> None:
    """Log what will be done."""
    parts, unit = largest_unit(job)
    cores = sum(part.core.size for part in parts)
    log.info("%d blocks, computed as %s voxels in %d parts", len(plan), by(unit.shape), len(parts))
    for number, member in enumerate(job.members):
        model = member.model
        if member.windows is not None:
            _tell_windows(job, model, member.windows)
            continue
        reads = [part.tiles[number].read.shape for part in parts]
        sizes = [
            read[3 - model.dimensions :]
            for read in reads
            for _ in range(read[0] if model.dimensions == 2 else 1)
        ]
        log.info(
            "tiles of up to %s, seen as %s: %.2f times the least work; halo %d px",
            by(max(part.core.shape for part in parts)),
            by(max(reads)),
            waste(model, sizes, voxels=cores),
            geometry_of(model).halo[2],
        )


def _tell_windows(job: Job, model: NetworkConfig, windows: Windows) -> None:
    box = fine(Box((0, 0, 0), job.unit), job.config.downsample).clip(job.raw_shape).shape
    again = windows.repeated(box)
    inputs = [windows.seen_size[3 - model.dimensions :]] * windows.count
    voxels = Box((0, 0, 0), job.raw_shape).size
    log.info(
        "%s%d windows of %s voxels, at most %s apart, weighted by %s: as blocks share some, %.2f "
        "times as many are computed, %.2f times the least work",
        "" if (why := geometry_of(model).inexact) is None else f"no exact tiling ({why}); ",
        windows.count,
        by(windows.size),
        by(windows.stride),
        windows.weight,
        again,
        again * waste(model, inputs, voxels=voxels, in_window=True),
    )
