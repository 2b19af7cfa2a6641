import itertools
from collections import OrderedDict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import zyx
from unet_core.geometry import Block, Box, Zyx, blocks
from unet_core.traversal import walk


@given(
    shape=zyx(1, 24),
    block=zyx(1, 7),
    halo=zyx(0, 5),
    chunk=zyx(1, 6),
    most=st.none() | st.integers(0, 9000),
    at_most=st.sampled_from([1.0, 1.2, 2.0]),
    runs=st.integers(1, 4),
)
def test_a_walk_keeps_its_promise_of_memory_and_of_voxels_decoded(
    shape: Zyx, block: Zyx, halo: Zyx, chunk: Zyx, most: int | None, at_most: float, runs: int
) -> None:
    plan = blocks(shape, block=block, halo=halo)
    found = walk(plan, shape=shape, chunk=chunk, most_voxels=most, at_most=at_most, runs=runs)
    assert sorted(found.blocks) == sorted(plan)
    assert most is None or found.cache_voxels <= most
    cuts = [len(plan) * number // runs for number in range(runs + 1)]
    parts = [found.blocks[a:b] for a, b in itertools.pairwise(cuts)]
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
