import itertools
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import zyx
from unet_core.errors import PlanError
from unet_core.geometry import Block, Box, Zyx, blocks, split, walk, whole_shards


@given(shape=zyx(1, 20), block=zyx(1, 9))
def test_every_voxel_is_written_exactly_once(shape: Zyx, block: Zyx) -> None:
    writes = np.zeros(shape, int)
    for box in split(shape, block=block):
        writes[box.slices] += 1
    assert (writes == 1).all()


@given(shape=zyx(1, 20), shard=zyx(1, 9), times=zyx(1, 3))
def test_no_two_blocks_share_a_shard(shape: Zyx, shard: Zyx, times: Zyx) -> None:
    block = [s * t for s, t in zip(shard, times, strict=True)]
    owners = [
        (z // shard[0], y // shard[1], x // shard[2])
        for box in split(shape, block=block)
        for z in range(box.start[0], box.stop[0], shard[0])
        for y in range(box.start[1], box.stop[1], shard[1])
        for x in range(box.start[2], box.stop[2], shard[2])
    ]
    assert len(owners) == len(set(owners))


@given(shape=zyx(1, 9), block=zyx(1, 5), shard=zyx(1, 5))
def test_whole_shards_are_told_from_parts(shape: Zyx, block: Zyx, shard: Zyx) -> None:
    for box in split(shape, block=block):
        touched = np.zeros(shape, int)
        for piece in split(shape, block=shard):
            if piece.intersection(box).size:
                touched[piece.slices] = 1
        covered = touched.sum() == box.size
        assert whole_shards(box, shard=shard, shape=shape) == covered


@given(start=zyx(-9, 9), size=zyx(1, 9), halo=zyx(0, 5), shape=zyx(1, 20))
def test_a_grown_box_holds_the_box_and_clips_to_the_volume(
    start: Zyx, size: Zyx, halo: Zyx, shape: Zyx
) -> None:
    box = Box(start, tuple(a + n for a, n in zip(start, size, strict=True)))
    grown = box.grow(halo)
    assert grown.intersection(box) == box
    clipped = grown.clip(shape)
    assert clipped.size <= grown.size
    assert clipped.intersection(Box((0, 0, 0), shape)).size == clipped.size


def test_blocks_are_named_by_their_first_voxel() -> None:
    plan = blocks((4, 6, 6), block=(4, 4, 4), halo=(0, 2, 2))
    assert [block.name for block in plan] == ["0-0-0", "0-0-4", "0-4-0", "0-4-4"]
    assert plan[3].write == Box((0, 4, 4), (4, 6, 6))
    assert plan[3].read == Box((0, 2, 2), (4, 8, 8))


@given(bad=st.sampled_from([(0, 1, 1), (1, -1, 1)]))
def test_a_block_without_voxels_is_refused(bad: Zyx) -> None:
    with pytest.raises(PlanError, match=">= 1 voxel"):
        list(split((2, 2, 2), block=bad))


@given(
    shape=zyx(1, 24),
    block=zyx(1, 7),
    halo=zyx(0, 5),
    chunk=zyx(1, 6),
    most=st.none() | st.integers(0, 9000),
    at_most=st.sampled_from([1.0, 1.2, 2.0]),
    runs=st.integers(1, 3),
)
def test_a_walk_keeps_its_promise_of_memory_and_of_voxels_decoded(
    shape: Zyx, block: Zyx, halo: Zyx, chunk: Zyx, most: int | None, at_most: float, runs: int
) -> None:
    plan = blocks(shape, block=block, halo=halo)
    found = walk(plan, shape=shape, chunk=chunk, most_voxels=most, at_most=at_most, runs=runs)
    assert sorted(found.blocks) == sorted(plan)
    assert most is None or found.cache_voxels <= most
    share = -(-len(plan) // runs)
    parts = [found.blocks[i : i + share] for i in range(0, len(plan), share)]
    decoded = sum(decoded_voxels(part, shape, chunk, found.cache_voxels) for part in parts)
    assert decoded <= found.amplification * np.prod(shape) * (1 + 1e-9)


def decoded_voxels(order: list[Block], shape: Zyx, chunk: Zyx, most: int) -> int:
    """What is decoded with the chunks read last in a cache of `most` voxels."""
    kept: OrderedDict[Zyx, int] = OrderedDict()
    decoded = 0
    for block in order:
        box = block.read.clip(shape)
        axes = zip(box.start, box.stop, chunk, strict=True)
        cells = list(itertools.product(*(range(a // c, -(-b // c)) for a, b, c in axes)))
        for cell in (cell for cell in cells if cell in kept):
            kept.move_to_end(cell)
        for cell in (cell for cell in cells if cell not in kept):
            start = tuple(i * c for i, c in zip(cell, chunk, strict=True))
            stop = tuple(a + c for a, c in zip(start, chunk, strict=True))
            kept[cell] = Box(start, stop).clip(shape).size
            decoded += kept[cell]
        while sum(kept.values()) > most:
            kept.popitem(last=False)
    return decoded


def test_a_walk_through_sections_is_in_strips_and_decodes_little_again() -> None:
    shape, chunk = (32, 4096, 4096), (16, 128, 128)
    plan = blocks(shape, block=(32, 512, 512), halo=(0, 96, 96))
    found = walk(plan, shape=shape, chunk=chunk)
    assert found.amplification == 1 + 3 * 256 / 4096  # four strips of two blocks: three seams
    assert [block.name for block in found.blocks[:3]] == ["0-0-0", "0-0-512", "0-512-0"]
    assert found.cache_voxels == 32 * 768 * (2 * 512 + 256 + 768)
    assert walk(plan, shape=shape, chunk=chunk, most_voxels=0).amplification > 1.9
