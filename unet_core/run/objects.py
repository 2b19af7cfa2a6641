"""Objects of a volume too large for memory: block by block, with the ids of the whole volume.

    pieces     every block: label it alone; keep what its neighbours must know   in workers
    objects    join pieces across faces; one id per object; a table per block    here, once
    labels     every block: label it again, look the ids up, write               in workers

Labelling a block again is cheaper than keeping a second array of the volume's size.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from unet_core.config.result import Scope
from unet_core.errors import PlanError
from unet_core.geometry import Block, Box, Zyx, blocks
from unet_core.io.ledger import Build
from unet_core.ops.components import FACES, IntArray, MaskArray, label_block, pieces_of
from unet_core.ops.union import ObjectArray, meeting_pieces, number_objects, unite
from unet_core.run.crew import Crew, Done

log = logging.getLogger(__name__)

WriteLabels = Callable[[Block, ObjectArray], Done]
"""Puts the (z, y, x) uint64 labels of `block.write` on disk; runs in a worker: picklable."""

PROCESS_MB = 300
"""Memory of a worker that has imported everything and read nothing."""

_BYTES_PER_VOXEL = 24
"""Of a block while it is labelled: mask, local labels, work of cc3d, final labels, encoding."""

_BYTES_PER_PIECE = 120
"""Of the tables that join pieces, while `objects` runs."""


def label_components(
    crew: Crew,
    build: Build,
    *,
    mask_of: Callable[[Box], MaskArray],
    write: WriteLabels,
    shape: Zyx,
    shard: Zyx,
    scope: Scope,
    min_size: int = 0,
) -> int:
    """Write the connected components of a mask, numbered as if it were labelled whole.

    The ids are 1..n in raster order of the objects' first voxels, those of `scipy.ndimage.label`
    of the whole volume; they do not depend on `shard`.

    Parameters
    ----------
    mask_of
        Picklable; the (z, y, x) mask of a box in the volume, non-zero inside. Called twice.
    write
        Picklable; puts the labels of a block on disk.
    shape, shard
        Of the array that is written, (z, y, x); a block is one shard.
    scope
        section: 4-connected, sections apart. volume: 6-connected.
    min_size
        Objects with fewer voxels in the whole volume become 0.

    Returns
    -------
    int
        Number of objects.
    """
    plan = blocks(shape, block=shard)
    need_mb = PROCESS_MB + plan[0].write.size * _BYTES_PER_VOXEL / 1e6 if plan else 0
    find = partial(_find, mask_of=mask_of, shape=shape, scope=scope, scratch=build.scratch)
    counts = crew.run(build, "pieces", find, plan, need_mb=need_mb)
    refuse_tables(sum(counts) * _BYTES_PER_PIECE, sum(counts), crew.resources.memory_mb)
    join = partial(_join, plan, shard, counts, scope, min_size, build.scratch)
    total: int = build.once("objects", join)
    relabel = partial(_relabel, mask_of=mask_of, write=write, scope=scope, scratch=build.scratch)
    crew.run(build, "labels", relabel, plan, need_mb=need_mb)
    return total


def neighbours(plan: Sequence[Block], shard: Zyx, scope: Scope) -> Iterator[tuple[int, int, str]]:
    """Blocks that share a face: (number of one, number of the next along the axis, axis)."""
    number = {block.write.start: n for n, block in enumerate(plan)}
    for n, block in enumerate(plan):
        for axis, step in zip("zyx", np.diag(shard).tolist(), strict=True):
            z, y, x = (a + d for a, d in zip(block.write.start, step, strict=True))
            if f"{axis}1" in FACES[scope] and (z, y, x) in number:
                yield n, number[z, y, x], axis


def keep_tables(
    plan: Sequence[Block], counts: Sequence[int], objects: ObjectArray, scratch: Path
) -> None:
    """Save, for every block, the object of each of its pieces, with 0 for outside in front."""
    stops = np.cumsum(counts)
    for block, stop, count in zip(plan, stops.tolist(), counts, strict=True):
        table = np.append(np.uint64(0), objects[stop - count : stop])
        np.save(scratch / f"objects-{block.name}.npy", table)


def table_of(block: Block, scratch: Path) -> ObjectArray:
    """The object of each piece of a block, as `keep_tables` saved it."""
    table: ObjectArray = np.load(scratch / f"objects-{block.name}.npy")
    return table


def refuse_tables(need_bytes: int, pieces: int, memory_mb: int | None) -> None:
    """Raise PlanError where the tables that join `pieces` would not fit the job's memory."""
    log.info("objects: %d pieces, about %.0f MB of tables", pieces, need_bytes / 1e6)
    if memory_mb and need_bytes > memory_mb * 1e6:
        raise PlanError(
            f"{pieces} pieces of objects need about {need_bytes / 1e6:.0f} MB to be joined, the "
            f"job has {memory_mb} MB; give it more memory (mem_mb), or smooth more "
            "(stitch.smoothing_px), so that there are fewer"
        )


def _find(
    block: Block, *, mask_of: Callable[[Box], MaskArray], shape: Zyx, scope: Scope, scratch: Path
) -> Done:
    labels, count = label_block(mask_of(block.write), scope)
    pieces = pieces_of(labels, count, start=block.write.start, shape=shape, scope=scope)
    arrays: dict[str, Any] = {"first": pieces.first, "size": pieces.size, **pieces.faces}
    np.savez(scratch / f"pieces-{block.name}.npz", **arrays)
    return Done(None, note=count)


def _join(
    plan: Sequence[Block],
    shard: Zyx,
    counts: Sequence[int],
    scope: Scope,
    min_size: int,
    scratch: Path,
) -> int:
    files = [scratch / f"pieces-{block.name}.npz" for block in plan]
    offsets = np.cumsum([0, *counts])
    links = [np.zeros((0, 2), np.int64)]
    for one, other, axis in neighbours(plan, shard, scope):
        with np.load(files[one]) as here, np.load(files[other]) as there:
            pairs = meeting_pieces(here[f"{axis}1"], there[f"{axis}0"])
        links.append(pairs - 1 + [offsets[one], offsets[other]])
    member, sets = unite(int(offsets[-1]), np.concatenate(links))
    first, size = _column("first", files), _column("size", files)
    objects, total = number_objects(first, size, member, sets, min_size=min_size)
    keep_tables(plan, counts, objects, scratch)
    return total


def _column(name: str, files: Sequence[Path]) -> IntArray:
    columns = [np.zeros(0, np.int64)]
    for path in files:
        with np.load(path) as file:
            columns.append(file[name])
    return np.concatenate(columns)


def _relabel(
    block: Block,
    *,
    mask_of: Callable[[Box], MaskArray],
    write: WriteLabels,
    scope: Scope,
    scratch: Path,
) -> Done:
    labels, _ = label_block(mask_of(block.write), scope)
    return write(block, table_of(block, scratch)[labels])
