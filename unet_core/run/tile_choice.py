"""`infer.tile_px: auto`: the fastest of the tiles that fit, found by a short trial, kept."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod

import numpy.typing as npt

from unet_core.config import Resources
from unet_core.config.windowed import part_sizes
from unet_core.geometry import Block, Box, fine
from unet_core.io.ledger import Build
from unet_core.net import tile_choice
from unet_core.net.engine import engine_of, forget
from unet_core.net.memory import keep_freed_memory
from unet_core.net.predict import TileTooLarge
from unet_core.net.tile_choice import affordable, candidates, guess
from unet_core.run.crew import Crew, Done
from unet_core.run.inference import Job
from unet_core.run.inference_plan import (
    Raw,
    largest_unit,
    need_mb,
    refuse_if_too_large,
    spread,
)

log = logging.getLogger(__name__)

_STEP = "tile"
"""Lines of the ledger that keep the choice, so that a resumed run takes the same."""


@dataclass(frozen=True)
class _Trial:
    name: str
    """The sizes that are tried: with other memory they are others, and are tried anew."""


def with_tiles(
    crew: Crew, build: Build, job: Job, raw: Raw, todo: Sequence[Block], resources: Resources
) -> Job:
    """The job in tiles of `infer.tile_px`, and units that fit them.

    Raises
    ------
    PlanError
        If no tile fits the memory.
    """
    if job.config.tile_px != "auto":
        return job.with_tile(job.config.tile_px)
    if any(job.windows):
        return _over_windows(job, raw, todo, resources)
    sizes = _fitting(job, raw, todo, resources)
    kept = [line["note"]["tile_px"] for line in build.done(_STEP).values()]
    if fitting := [px for px in kept if px in sizes]:
        log.info("tiles of %d px, as before", fitting[-1])
        return job.with_tile(fitting[-1])
    first = guess(sizes, job.models, gpu=bool(job.gpus))
    voxels = sum(job.raw_of(block.write).size for block in todo)
    tried = affordable(first, sizes, job.models, voxels=voxels)
    if len(tried) < 2:
        build.tick(_STEP, str(first), digest=None, note={"tile_px": first})
        log.info("tiles of %d px, untried: there is little to compute", first)
        return job.with_tile(first)
    given = resources.share_mb(1)
    for keeps in (True, False):  # as the run will, where the memory allows
        jobs = [replace(job, keeps_memory=keeps).with_tile(px) for px in tried]
        need = max(need_mb(each, raw, 0) for each in jobs)
        if given is None or need <= given:
            break
    work = partial(try_tiles, jobs=jobs, raw=raw.dtype)
    trial = _Trial(" ".join(map(str, tried)))
    # A GPU that is opened in this process would be shared with a worker, or another kind of it.
    apart = job.gpus > 1 or resources.launcher != "here"
    (note,) = crew.run(build, _STEP, work, [trial], need_mb=need, apart=apart)
    told = ", ".join(f"{px}: {rate:.3g}" for px, rate in note["seconds_per_mvoxel"].items())
    told = told or "unknown, as none of those tried fits the GPU"
    log.info("tiles of %d px; seconds per million voxels: %s", note["tile_px"], told)
    return job.with_tile(note["tile_px"])


def _over_windows(job: Job, raw: Raw, todo: Sequence[Block], resources: Resources) -> Job:
    """The job in parts as large as the memory and the cores allow: they repeat the fewest windows.

    Nothing is timed: the network's passes are the same.
    """
    found = max(_fitting(job, raw, todo, resources))
    log.info("windows are summed over %d px at a time", found)
    return job.with_tile(found)


def try_tiles(trial: _Trial, *, jobs: Sequence[Job], raw: npt.DTypeLike) -> Done:
    """Time a tile of each size in a worker; the note says which is the fastest.

    Where the GPU holds none of them, it is the first half of the smallest that may fit.

    Raises
    ------
    TileTooLarge
        If there is no smaller one.
    """
    rates, why = {}, ""
    engine = engine_of(jobs[0].members, jobs[0].config, gpus=jobs[0].gpus)
    # Not those that a volume before this one has shown to be too large.
    for job in [job for job in jobs if engine.fitting(job.tile_px) == job.tile_px] or jobs:
        keep_freed_memory(job.keeps_memory)
        parts, _ = largest_unit(job)
        try:
            rates[job.tile_px] = 1e6 * tile_choice.seconds_per_voxel(engine, parts, raw)
        except TileTooLarge as error:
            engine.remember(job.tile_px)
            why = str(error)
            log.info("tiles of %d px do not fit the GPU", job.tile_px)
    smaller = engine.fitting(min(job.tile_px for job in jobs))
    del engine
    # The trial may run in the process that deals the blocks, whose memory others share out.
    forget()
    keep_freed_memory(False)
    if not rates and smaller in {job.tile_px for job in jobs}:
        raise TileTooLarge(why)
    best = min(rates, key=lambda px: rates[px]) if rates else smaller
    note = {"tile_px": best, "seconds_per_mvoxel": {str(px): rates[px] for px in sorted(rates)}}
    return Done(None, note=note)


def _fitting(job: Job, raw: Raw, todo: Sequence[Block], resources: Resources) -> list[int]:
    """Sizes that fit the memory, of which those with which the most of the cores have work."""
    shard = fine(Box((0, 0, 0), job.shard), job.config.downsample).shape
    sizes = (
        part_sizes(windows, step=job.step, shard=shard, shape=job.raw_shape)
        if (windows := [each for each in job.windows if each])
        else candidates(
            job.models, step=job.step, shard=shard, shape=job.raw_shape, gpu=bool(job.gpus)
        )
    )
    node = resources.of_a_node
    given = node.share_mb(1)
    if given is None:
        return sizes
    fitting = [px for px in sizes if need_mb(job.with_tile(px), raw, 0) <= given]
    if not fitting:
        refuse_if_too_large(job.with_tile(sizes[0]), raw, given)
    blocks = -(-len(todo) // resources.nodes)
    busy = {px: _busy(job.with_tile(px), raw, blocks, node) for px in fitting}
    return [px for px in fitting if busy[px] == max(busy.values())]


def _busy(job: Job, raw: Raw, blocks: int, resources: Resources) -> float:
    """Cores that have work within the memory, of those that would have it with more."""
    units = -(-blocks * prod(job.shard) // prod(job.unit))
    without_limit = replace(resources, memory_mb=None, launcher="here")
    least = spread(job, raw, resources, units)
    return prod(least) / prod(spread(job, raw, without_limit, units))
