import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import zyx
from unet_core.errors import PlanError
from unet_core.geometry import Box, Zyx, blocks, split, whole_shards


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
