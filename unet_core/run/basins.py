"""Watershed of a volume too large for memory: block by block, with the objects of the whole volume.

fragments  every block and one voxel around it: drains, minima, saddles      in workers
objects    fragments to basins, basins to objects; a table per block         here, once
labels     every block: its fragments again, look the ids up, write          in workers
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from unet_core.config.result import Scope
from unet_core.geometry import Block, Box, Zyx, blocks
from unet_core.io.ledger import Build
from unet_core.ops.components import IntArray, faces_of
from unet_core.ops.heights import HeightArray
from unet_core.ops.union import IdArray
from unet_core.ops.watershed import (
    Fragments,
    crossings,
    drained,
    fragments_of,
    merge_fragments,
    seen_by,
)
from unet_core.run.crew import Crew, Done
from unet_core.run.objects import (
    PROCESS_MB,
    WriteLabels,
    keep_tables,
    neighbours,
    refuse_tables,
    table_of,
)

HeightsOf = Callable[[Box], HeightArray]
"""The (z, y, x) heights of a box in the volume; runs in a worker: picklable."""

_BYTES_PER_VOXEL = 80
"""Of a block: smoothing in float64, drains as int64, fragments, crossings, final labels."""

_BYTES_PER_FRAGMENT, _BYTES_PER_EDGE = 160, 120
"""Of the tables that join fragments, while `objects` runs."""


def label_watershed(
    crew: Crew,
    build: Build,
    *,
    heights_of: HeightsOf,
    write: WriteLabels,
    shape: Zyx,
    shard: Zyx,
    scope: Scope,
    depth: int,
    min_size: int = 0,
) -> int:
    """Write the depth-filtered watershed of a landscape, the same for every `shard`.

    Parameters
    ----------
    heights_of
        Picklable; heights of a box, low inside objects, the same in every box; what is OUTSIDE is
        in no object. Called twice.
    write
        Picklable; puts the labels of a block on disk.
    shape, shard
        Of the array that is written, (z, y, x); a block is one shard.
    scope
        section: 4 neighbours, sections apart. volume: 6 neighbours.
    depth, min_size
        What is joined: see `ops.watershed.merge_fragments`.

    Returns
    -------
    int
        Number of objects; ids are 1..n in raster order of their first voxels.
    """
    plan = blocks(shape, block=shard)
    need_mb = PROCESS_MB + plan[0].write.size * _BYTES_PER_VOXEL / 1e6 if plan else 0
    cut = partial(_fragments, heights_of=heights_of, shape=shape, scope=scope)
    find = partial(_find, cut=cut, scope=scope, scratch=build.scratch)
    notes = crew.run(build, "fragments", find, plan, need_mb=need_mb)
    counts = [note["fragments"] for note in notes]
    edges = sum(note["edges"] for note in notes)
    need = sum(counts) * _BYTES_PER_FRAGMENT + edges * _BYTES_PER_EDGE
    refuse_tables(need, sum(counts), crew.resources.memory_mb)
    join = partial(_join, plan, shard, shape, counts, scope, depth, min_size, build.scratch)
    total: int = build.once("objects", join)
    relabel = partial(_relabel, cut=cut, write=write, scratch=build.scratch)
    crew.run(build, "labels", relabel, plan, need_mb=need_mb)
    return total


def _fragments(
    core: Box, *, heights_of: HeightsOf, shape: Zyx, scope: Scope
) -> tuple[HeightArray, IdArray, Fragments]:
    box = seen_by(core, shape=shape, scope=scope)
    heights = heights_of(box)
    labels, fragments = fragments_of(heights, box, core, shape=shape, scope=scope)
    return heights[core.relative_to(box.start).slices], labels, fragments


Cut = Callable[[Box], tuple[HeightArray, IdArray, Fragments]]


def _find(block: Block, *, cut: Cut, scope: Scope, scratch: Path) -> Done:
    heights, labels, found = cut(block.write)
    arrays: dict[str, npt.NDArray[Any]] = {
        "first": found.first,
        "size": found.size,
        "lowest": found.lowest,
        "drain": found.drain,
        "edges": found.edges.astype(np.uint32),
        "saddles": found.saddles,
        **faces_of(labels, scope),
        **{f"height_{side}": face for side, face in faces_of(heights, scope).items()},
    }
    np.savez(_file(block, scratch), **arrays)  # type: ignore[arg-type]
    return Done(None, note={"fragments": len(found.first), "edges": len(found.edges)})


def _join(
    plan: Sequence[Block],
    shard: Zyx,
    shape: Zyx,
    counts: Sequence[int],
    scope: Scope,
    depth: int,
    min_size: int,
    scratch: Path,
) -> int:
    offsets = np.cumsum([0, *counts])
    fragments = _all_fragments(plan, offsets, scratch)
    links, edges, saddles = [np.zeros((0, 2), np.int64)], [fragments.edges], [fragments.saddles]
    for n, m, axis in neighbours(plan, shard, scope):
        one, other = plan[n].write, plan[m].write
        at = offsets[[n, m]]
        leaving, entering = (fragments.drain[offsets[k] : offsets[k + 1]] for k in (n, m))
        with np.load(_file(plan[n], scratch)) as here, np.load(_file(plan[m], scratch)) as there:
            last, front = here[f"{axis}1"], there[f"{axis}0"]
            levels = here[f"height_{axis}1"], there[f"height_{axis}0"]
        links.append(drained(leaving, front, _layer(other, axis, last=False), shape) + at)
        links.append(drained(entering, last, _layer(one, axis, last=True), shape) + at[::-1])
        pairs, low = crossings(last, front, *levels)
        edges.append(pairs + at)
        saddles.append(low)
    everything = Fragments(
        fragments.first,
        fragments.size,
        fragments.lowest,
        fragments.drain,
        np.concatenate(edges),
        np.concatenate(saddles),
    )
    objects, total = merge_fragments(
        everything, np.concatenate(links), depth=depth, min_size=min_size
    )
    keep_tables(plan, counts, objects, scratch)
    return total


def _all_fragments(plan: Sequence[Block], offsets: IntArray, scratch: Path) -> Fragments:
    columns: dict[str, list[npt.NDArray[Any]]] = {
        "first": [np.zeros(0, np.int64)],
        "size": [np.zeros(0, np.int64)],
        "lowest": [np.zeros(0, np.uint16)],
        "drain": [np.zeros(0, np.int64)],
        "edges": [np.zeros((0, 2), np.int64)],
        "saddles": [np.zeros(0, np.uint16)],
    }
    for block, offset in zip(plan, offsets.tolist(), strict=False):
        with np.load(_file(block, scratch)) as file:
            for name, column in columns.items():
                values = file[name]
                column.append(values.astype(np.int64) + offset if name == "edges" else values)
    return Fragments(**{name: np.concatenate(column) for name, column in columns.items()})


def _layer(box: Box, axis: str, *, last: bool) -> Box:
    """The outermost voxels of a box along an axis, at its end or its beginning."""
    along = [int(name == axis) for name in "zyx"]
    inward = [(n - 1) * a for n, a in zip(box.shape, along, strict=True)]
    moved = box.shift(inward if last else [-d for d in inward])
    return box.intersection(moved)


def _relabel(block: Block, *, cut: Cut, write: WriteLabels, scratch: Path) -> Done:
    _, labels, _ = cut(block.write)
    return write(block, table_of(block, scratch)[labels])


def _file(block: Block, scratch: Path) -> Path:
    return scratch / f"fragments-{block.name}.npz"
