"""What a worker does with blocks of inference: read, compute, write, each one at a time.

With several calls in flight per worker, one reads ahead and one writes behind while a third
computes. Adjacent blocks are computed together where tiles are larger than a block.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from unet_core.config import InferConfig, NetworkConfig
from unet_core.geometry import Block, Box, Zyx, coarse, fine, hull
from unet_core.io.arrays import open_level, write_block
from unet_core.io.cache import Cache
from unet_core.io.masks import Mask, any_of, read_mask
from unet_core.io.remote import Location
from unet_core.net.engine import Engine, Member, engine_of, value_of
from unet_core.net.memory import keep_freed_memory
from unet_core.net.parts import Part, halo_of, parts_of, step_of, steps_of
from unet_core.net.predict import TileTooLarge
from unet_core.run.crew import Done
from unet_core.windows import Windows

log = logging.getLogger(__name__)

Array = npt.NDArray[Any]

_READING, _COMPUTING, _WRITING = Lock(), Lock(), Lock()
"""Of this process: memory then holds one unit in each state, and the device has one user."""

_LOADING = Lock()
"""Its own: who reads ahead must not wait for who computes."""


@dataclass(frozen=True)
class Job:
    """All that a worker needs to know besides its unit."""

    raw: Location
    content: str
    """Digest of the raw store."""

    mask: Path | None
    """Store of a mask of raw's voxels (z, y, x); 0: not computed."""

    out: Path
    members: tuple[Member, ...]
    """Networks whose probabilities are averaged."""

    config: InferConfig
    """Its number type is no longer auto: that could be another one on each device."""

    tile_px: int
    """What `config.tile_px` stands for."""

    raw_shape: Zyx
    within: Box
    """Raw voxels that are computed; the others become 0. Starts and ends on multiples of
    `config.downsample`, or at the volume's end."""

    shape: Zyx
    """Of the store that is written."""

    shard: Zyx
    """Of that store: a block of work."""

    unit: Zyx
    """Voxels of that store that tiles are laid over together: as many shards as a tile needs."""

    gpus: int = 0
    passes: int = 1
    """Tiles computed at a time."""

    sections: int = 1
    """Sections that a tile of 2-D networks holds."""

    cache_mb: float = 0
    """Decoded raw chunks that are kept."""

    keeps_memory: bool = False
    """Workers keep memory that a pass has freed for the next, which is faster and takes more."""

    @property
    def models(self) -> list[NetworkConfig]:
        """The architectures."""
        return [member.model for member in self.members]

    @property
    def windows(self) -> list[Windows | None]:
        """How each network is laid over the volume; None: in exact tiles."""
        return [member.windows for member in self.members]

    @property
    def steps(self) -> Zyx:
        """Raw voxels on whose multiples tiles start and end."""
        return steps_of(self.models, self.config)

    @property
    def step(self) -> int:
        """Raw voxels of which `tile_px` is a multiple."""
        return step_of(self.models, self.config)

    def with_tile(self, tile_px: int) -> "Job":
        """The same work in tiles of another size, and units that fit them."""
        unit = unit_for(
            tile_px,
            shard=self.shard,
            downsample=self.config.downsample,
            shape=self.shape,
            deep=any(model.dimensions == 3 for model in self.models),
        )
        return replace(self, tile_px=tile_px, unit=unit)

    def unit_of(self, block: Block) -> Box:
        """The unit that holds `block`, in voxels of the store that is written."""
        start = [a // n * n for a, n in zip(block.write.start, self.unit, strict=True)]
        (z, y, x), (depth, height, width) = start, self.unit
        return Box((z, y, x), (z + depth, y + height, x + width)).clip(self.shape)

    def raw_of(self, box: Box) -> Box:
        """The raw voxels that are computed for `box` of the store that is written."""
        return fine(box, self.config.downsample).intersection(self.within)

    def parts(self, box: Box, tile_px: int) -> list[Part]:
        """What is computed of the raw voxels `box`, tile by tile."""
        return parts_of(
            self.models,
            box,
            tile_px=tile_px,
            downsample=self.config.downsample,
            sections=self.sections,
            windows=self.windows,
        )

    def seen_for(self, box: Box) -> Box:
        """All that is seen for the raw voxels `box`; may reach beyond the volume."""
        return hull(
            [
                box.grow(halo_of([each.model])) if each.windows is None else each.windows.read(box)
                for each in self.members
            ]
        )

    @property
    def halo(self) -> Zyx:
        """Most voxels per side that are seen around what is computed."""
        each = [
            halo_of([member.model]) if member.windows is None else member.windows.reach
            for member in self.members
        ]
        z, y, x = (max(along) for along in zip(*each, strict=True))
        return z, y, x

    def together(self, blocks: Sequence[Block]) -> list[list[Block]]:
        """Blocks of one unit are computed together."""
        units: dict[Box, list[Block]] = {}
        for block in blocks:
            units.setdefault(self.unit_of(block), []).append(block)
        return list(units.values())


def unit_for(tile_px: int, *, shard: Zyx, downsample: Zyx, shape: Zyx, deep: bool) -> Zyx:
    """Stored voxels that tiles of `tile_px` are laid over together: as many shards as a tile needs.

    `shard`, `shape`: of the store that is written. `deep`: tiles extend along z.
    """
    tile = [tile_px if deep else 1, tile_px, tile_px]
    counts = [
        min(-(-t // (s * f)), -(-n // s))
        for t, s, f, n in zip(tile, shard, downsample, shape, strict=True)
    ]
    z, y, x = (count * s for count, s in zip(counts, shard, strict=True))
    return z, y, x


def infer_blocks(blocks: Sequence[Block], *, job: Job) -> dict[str, Done]:
    """Write the probabilities of some blocks of one unit; the volume is mirrored at its edge.

    The note of a block is the number of its voxels if it is skipped, that is if it holds no voxel
    of the mask or all that is seen for it is one value, else 0.

    Raises
    ------
    PlanError
        If the GPU's memory holds no tile, also none of the smallest size.
    CheckpointError
        If weights are absent or others than the job's, or yield what is not finite.
    """
    unit = job.unit_of(blocks[0])
    with _LOADING:
        engine = engine_of(job.members, job.config, gpus=job.gpus)
        keep_freed_memory(job.keeps_memory)
    while True:
        tile_px = engine.fitting(job.tile_px)
        with _READING:
            seen = _read(blocks, job.raw_of(unit), job, tile_px)
            # Here: beside what is computed it would be a second unit that is read and computed.
            skipped = {block.name: _skipped(block, job, seen) for block in blocks}
        with _COMPUTING:
            classes = len(job.config.stored(job.models[0].classes))
            out = np.zeros((classes, *unit.shape), dtype=job.config.dtype)
            if _fill(out, unit, job, seen, engine, tile_px):
                break
        del seen, out  # before the unit is read again
    del seen
    with _WRITING:
        level = open_level(job.out, mode="r+")
        done = {}
        for block in blocks:
            data = out[(..., *block.write.relative_to(unit.start).slices)]
            digest = write_block(level, block.write, data)
            done[block.name] = Done(digest, note=skipped[block.name])
        return done


@dataclass(frozen=True)
class _Seen:
    """Raw voxels of a unit, and what of it is to be computed."""

    parts: list[Part]
    voxels: Array
    """(c, z, y, x), from voxel `at` on; empty where there are no parts."""

    at: Zyx
    box: Box
    """What is computed of the unit."""

    mask: Mask | None
    """(z, y, x) of `box`."""


def _read(blocks: Sequence[Block], box: Box, job: Job, tile_px: int) -> _Seen:
    """What has to be seen for the blocks that are to be done, and inside of the mask."""
    cache = _cache_of(job.raw, job.content, round(job.cache_mb * 1e6))
    mask = None if job.mask is None else read_mask(job.mask, box)
    writes = [job.raw_of(block.write) for block in blocks]
    parts = [
        part
        for part in job.parts(box, tile_px)
        if any(part.core.intersection(write).size for write in writes)
        and (mask is None or mask[part.core.relative_to(box.start).slices].any())
    ]
    if not parts:
        return _Seen([], np.empty((1, 0, 0, 0), np.uint8), box.start, box, mask)
    read = hull([part.read for part in parts])
    if writes == [box] or len(writes) > 1:
        return _Seen(parts, cache.read_mirrored(read), read.start, box, mask)
    # One block of many: what the others see besides may be what cannot be read. Tiles keep their
    # size, so that the block has the same bits.
    own = hull([part.read for part in job.parts(writes[0], tile_px)]).intersection(read)
    voxels = cache.read_mirrored(own)
    seen = np.zeros((len(voxels), *read.shape), voxels.dtype)
    seen[(..., *own.relative_to(read.start).slices)] = voxels
    return _Seen(parts, seen, read.start, box, mask)


@lru_cache(maxsize=1)
def _cache_of(raw: Location, content: str, most_bytes: int) -> Cache:
    """The cache of this process for the raw store of the present job."""
    return Cache(open_level(raw), most_bytes=most_bytes)


def _fill(out: Array, unit: Box, job: Job, seen: _Seen, engine: Engine, tile_px: int) -> bool:
    """Compute a unit; False where the tiles are too large for the GPU, and smaller ones are next.

    Smaller tiles yield the same, and the process remembers them.
    """
    downsample = job.config.downsample
    first = fine(unit, downsample).start
    try:
        engine.fill(out, seen.parts, seen.voxels, first=first, at=seen.at, passes=job.passes)
    except TileTooLarge:
        engine.remember(tile_px)
        if (smaller := engine.smaller(tile_px)) is None:
            raise
        log.warning("the GPU does not hold tiles of %d px; going on with %d", tile_px, smaller)
        return False
    if seen.mask is not None:
        inside = coarse(seen.box, downsample).relative_to(unit.start)
        out[(..., *inside.slices)][:, ~any_of(seen.mask, downsample)] = 0
    return True


def _skipped(block: Block, job: Job, seen: _Seen) -> int:
    """Voxels of a block in which there is nothing to compute, else 0; whatever the tiles."""
    box = job.raw_of(block.write)
    if seen.mask is not None:
        box = _around(seen.mask[box.relative_to(seen.box.start).slices]).shift(box.start)
    if not box.size:
        return block.write.size
    z, y, x = seen.voxels.shape[1:]
    box = job.seen_for(box).relative_to(seen.at).intersection(Box((0, 0, 0), (z, y, x)))
    return 0 if value_of(seen.voxels[(..., *box.slices)]) is None else block.write.size


def _around(mask: Mask) -> Box:
    """The least box that holds all voxels of `mask` (z, y, x); of size 0 where there is none."""
    if not mask.any():
        return Box((0, 0, 0), (0, 0, 0))
    lines = [mask.any(axis=(1, 2)), mask.any(axis=(0, 2)), mask.any(axis=(0, 1))]
    (z0, z1), (y0, y1), (x0, x1) = ((int(i[0]), int(i[-1]) + 1) for i in map(np.flatnonzero, lines))
    return Box((z0, y0, x0), (z1, y1, x1))
