"""Tiles of a block: every voxel once, on the volume's grid, with inputs the network accepts."""

import itertools
from dataclasses import replace
from math import lcm

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_core.config import InferConfig, NetworkConfig
from unet_core.config.networks.geometry import geometry_of, nearest_input_size
from unet_core.errors import PlanError
from unet_core.geometry import Block, Box, Tiling, Zyx, hull
from unet_core.net import parts

flat = st.builds(
    NetworkConfig,
    sections=st.sampled_from([1, 3, 5]),
    depth=st.integers(1, 4),
    convolutions=st.integers(1, 3),
    padding=st.sampled_from(["valid", "same"]),
    up=st.sampled_from(["transposed", "nearest", "bilinear"]),
)
deep = st.builds(
    NetworkConfig,
    dimensions=st.just(3),
    depth=st.integers(1, 3),
    convolutions=st.integers(1, 2),
    up=st.sampled_from(["transposed", "bilinear"]),
)
networks = flat | deep
starts = st.tuples(*[st.integers(0, 100)] * 3)
shapes = st.tuples(st.integers(1, 20), st.integers(1, 90), st.integers(1, 90))


def tiling_of(model: NetworkConfig, steps: int) -> Tiling:
    return parts.tiling_of(model, steps * geometry_of(model).stride[2])


@given(model=networks, steps=st.integers(1, 4), start=starts, shape=shapes)
@settings(deadline=None, max_examples=50)
def test_every_voxel_of_a_block_is_in_exactly_one_core(
    model: NetworkConfig, steps: int, start: tuple, shape: tuple
) -> None:
    write = Box((0, 0, 0), shape).shift(start)
    seen = np.zeros(shape, int)
    for tile in tiling_of(model, steps).tiles(write):
        assert tile.core.size > 0
        seen[tile.core.relative_to(start).slices] += 1
    assert (seen == 1).all()


@given(model=networks, steps=st.integers(1, 4), start=starts, shape=shapes)
@settings(deadline=None, max_examples=50)
def test_a_tile_lies_on_the_grid_of_the_volume_and_the_network_accepts_its_input(
    model: NetworkConfig, steps: int, start: tuple, shape: tuple
) -> None:
    tiling = tiling_of(model, steps)
    valid = replace(model, padding="valid")  # what inference runs
    write = Box((0, 0, 0), shape).shift(start)
    block = Block(write, tiling.reach)
    for tile in tiling.tiles(write):
        assert hull([tile.read, block.read]) == block.read
        for axis in range(3 - model.dimensions, 3):
            begin, end = tile.read.start[axis], tile.read.stop[axis]
            assert (begin + geometry_of(model).halo[2]) % geometry_of(model).stride[2] == 0
            assert end - begin == nearest_input_size(valid, end - begin)
            assert (
                end - begin <= steps * geometry_of(model).stride[2] + 2 * geometry_of(model).halo[2]
            )
            first = begin + geometry_of(model).lost[2] + tile.inset[axis]  # of the cropped result
            assert first == tile.core.start[axis]
            assert tile.core.stop[axis] <= end - geometry_of(model).lost[2]
        if model.dimensions == 2:
            assert tile.core.shape[0] == 1
            assert tile.read.shape[0] == model.sections
            assert tile.read.start[0] + model.sections // 2 == tile.core.start[0]
            assert tile.inset[0] == 0


@given(model=networks, steps=st.integers(1, 4), start=st.integers(0, 50), size=st.integers(1, 300))
@settings(deadline=None, max_examples=50)
def test_tiles_are_as_few_as_possible_and_differ_by_one_stride_at_most(
    model: NetworkConfig, steps: int, start: int, size: int
) -> None:
    write = Box((0, 0, start), (1, 1, start + size))
    reads = [tile.read for tile in tiling_of(model, steps).tiles(write)]
    step = geometry_of(model).stride[2]
    grid = -(-(start + size) // step) - start // step
    assert len(reads) == -(-grid // steps)
    sizes = [read.shape[2] for read in reads]
    assert max(sizes) - min(sizes) <= step


@given(
    models=st.lists(networks, min_size=1, max_size=3),
    downsample=st.sampled_from([(1, 1, 1), (1, 2, 2), (3, 1, 2), (2, 3, 3)]),
    sections=st.integers(1, 7),
    tiles=st.integers(1, 2),
    start=st.tuples(*[st.integers(0, 9)] * 3),
    shape=st.tuples(st.integers(1, 20), st.integers(1, 150), st.integers(1, 150)),
)
@settings(deadline=None, max_examples=60)
def test_networks_together_and_coarser_voxels_are_on_the_grids_of_all_of_them(
    models: list[NetworkConfig],
    downsample: Zyx,
    sections: int,
    tiles: int,
    start: tuple,
    shape: tuple,
) -> None:
    z, y, x = (a * f for a, f in zip(start, downsample, strict=True))
    box = Box((0, 0, 0), shape).shift((z, y, x))
    steps = parts.steps_of(models, InferConfig(downsample=downsample))
    found = parts.parts_of(
        models, box, tile_px=tiles * lcm(*steps), downsample=downsample, sections=sections
    )
    seen = np.zeros(shape, int)
    for part in found:
        seen[part.core.relative_to(box.start).slices] += 1
        for a, b, step, end in zip(
            part.core.start, part.core.stop, downsample, box.stop, strict=True
        ):
            assert a % step == 0
            assert b % step == 0 or b == end
        for model, tile in zip(models, part.tiles, strict=True):
            assert tile.core == part.core
            assert hull([tile.read, part.read]) == part.read
            for axis in range(3 - model.dimensions, 3):
                size = tile.read.shape[axis]
                assert (tile.read.start[axis] + geometry_of(model).halo[2]) % geometry_of(
                    model
                ).stride[2] == 0
                assert size == nearest_input_size(replace(model, padding="valid"), size)
                first = tile.read.start[axis] + geometry_of(model).lost[2] + tile.inset[axis]
                assert first == part.core.start[axis]
                assert part.core.stop[axis] <= tile.read.stop[axis] - geometry_of(model).lost[2]
            if model.dimensions == 2:
                beside = model.sections // 2
                assert tile.inset[0] == 0
                assert tile.read.start[0] == part.core.start[0] - beside
                assert tile.read.stop[0] == part.core.stop[0] + beside
    assert (seen == 1).all()


def test_the_published_network_on_a_block_of_1000_sees_three_tiles_of_524_and_540() -> None:
    tiles = tiling_of(NetworkConfig(), 24).tiles(Box((0, 0, 0), (1, 200, 1000)))
    # 1000 px are 63 strides of 16: 21 each, and 188 px more to see
    assert [tile.read.shape[2] for tile in tiles] == [524, 524, 524]
    assert [tile.core.start[2] for tile in tiles] == [0, 336, 672]
    assert tiles[-1].core.stop[2] == 1000
    assert {tile.inset for tile in tiles} == {(0, 2, 2)}


def test_a_block_off_the_grid_starts_its_first_tile_before_itself() -> None:
    tiles = tiling_of(NetworkConfig(depth=2), 100).tiles(Box((0, 0, 10), (1, 4, 20)))
    (tile,) = tiles
    assert tile.core == Box((0, 0, 10), (1, 4, 20))
    assert tile.read.start[2] + geometry_of(NetworkConfig(depth=2)).halo[2] == 8
    assert tile.inset[2] == 2 + 2  # two voxels beyond the tile, two to the block


@pytest.mark.parametrize(("tile", "nearest"), [(50, 48), (388, 384), (3, 16), (396, 400)])
def test_tiles_off_the_grid_are_refused_and_the_nearest_is_named(tile: int, nearest: int) -> None:
    with pytest.raises(
        PlanError, match=f"16 px \\(the network's stride.*got {tile}.*nearest.* {nearest}$"
    ):
        Tiling(tile=(1, tile, tile), stride=(1, 16, 16), halo=(0, 94, 94), lost=(0, 92, 92))


def test_a_hull_holds_all_its_boxes_and_no_more() -> None:
    boxes = [Box((0, -3, 5), (1, 2, 9)), Box((2, 0, 0), (4, 1, 6))]
    assert hull(boxes) == Box((0, -3, 0), (4, 2, 9))
    assert all(hull(list(pair)) == hull(boxes) for pair in itertools.permutations(boxes))
