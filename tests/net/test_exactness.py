"""The laws of exactness: one result, however a volume is cut, held against one pass over all of it.

Most of it in exact arithmetic: with weights -1, 0, 1, whole inputs and ReLU, every sum in float64
is exact whatever its order, so results that agree agree in all bits, and what is left to differ is
the geometry alone.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.net.exact import (
    at_once,
    in_drawn_numbers,
    in_tiles,
    in_whole_numbers,
    networks,
    seeds,
    shaped,
    torch_as_before,
    whole_numbers,
)
from tests.strategies import zyx
from unet_core.config import NetworkConfig
from unet_core.config.networks.geometry import geometry_of
from unet_core.geometry import Zyx
from unet_core.net.folding import folded, without_padding
from unet_core.net.parts import tiling_of

__all__ = ["torch_as_before"]


@given(
    model=networks,
    seed=seeds,
    steps=st.integers(1, 3),
    shape=zyx(1, 37),
    block=zyx(3, 40),
    order=seeds,
)
@settings(deadline=None, max_examples=60)
def test_tiles_equal_one_pass_over_the_whole_to_the_last_bit(
    model: NetworkConfig, seed: int, steps: int, shape: Zyx, block: Zyx, order: int
) -> None:
    network, volume = in_whole_numbers(model, seed), whole_numbers(model, shaped(model, shape))
    tiling = tiling_of(model, steps * geometry_of(model).stride[2])
    whole = at_once(network, volume)
    assert abs(whole).max() < 2**32  # sums of twice the digits are exact, so all of this is
    tiled = in_tiles(network, volume, tiling, block=block, order=order)
    assert np.array_equal(tiled, whole)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 29), (1, 30, 1), (2, 3, 2), (5, 17, 19)])
@pytest.mark.parametrize("kind", [{}, {"sections": 5}, {"dimensions": 3}])
def test_one_row_one_section_and_one_voxel_are_volumes_too(shape: Zyx, kind: dict) -> None:
    model = NetworkConfig(width=2, depth=1 if kind.get("dimensions") == 3 else 2, **kind)
    network, volume = in_whole_numbers(model, 1), whole_numbers(model, shape)
    tiled = in_tiles(network, volume, tiling_of(model, 8), block=(2, 8, 12))
    assert tiled.shape == (2, *shape)
    assert np.array_equal(tiled, at_once(network, volume))


@given(
    model=networks,
    norm=st.sampled_from(["none", "batch"]),
    seed=seeds,
    steps=st.integers(1, 2),
    shape=zyx(1, 30),
)
@settings(deadline=None, max_examples=25)
def test_with_any_weights_tiles_and_whole_differ_by_rounding_alone(
    model: NetworkConfig, norm: str, seed: int, steps: int, shape: Zyx
) -> None:
    model = replace(model, norm=norm)  # type: ignore[arg-type]
    network = folded(without_padding(in_drawn_numbers(model, seed).network()))
    volume = whole_numbers(model, shaped(model, shape)) / 4
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        network, values = network.to(dtype), volume.astype(str(dtype).removeprefix("torch."))
        whole = at_once(network, values)
        tiling = tiling_of(model, steps * geometry_of(model).stride[2])
        tiled = in_tiles(network, values, tiling, block=(2, 9, 23))
        assert abs(tiled - whole).max() <= tolerance * max(1.0, abs(whole).max())


@given(
    model=networks,
    seed=seeds,
    starts=zyx(0, 3),
    beyond=zyx(1, 9),
    left=zyx(0, 3),
)
@settings(deadline=None, max_examples=30)
def test_part_of_a_volume_gives_what_the_whole_gives_where_it_reaches_no_cut(
    model: NetworkConfig, seed: int, starts: Zyx, beyond: Zyx, left: Zyx
) -> None:
    assume(model.depth < 3)
    step, reach = geometry_of(model).stride[2], geometry_of(model).reach[2]
    beside = model.sections // 2
    lows, highs, insides = [], [], []
    shape = []
    for axis, (start, more, rest) in enumerate(zip(starts, beyond, left, strict=True)):
        seen = axis > 0 or model.dimensions == 3
        low = start * step if seen else start
        # At an edge of the volume nothing is cut off: the part is mirrored there as the whole is.
        before, after = ((reach if seen else beside) if cut_off else 0 for cut_off in (low, rest))
        lows.append(low)
        highs.append(low + before + more + after)
        insides.append(slice(before, before + more))
        shape.append(highs[-1] + rest)
    network = in_whole_numbers(model, seed)
    volume = whole_numbers(model, (shape[0], shape[1], shape[2]))
    cut = (slice(None), *map(slice, lows, highs))
    inside = (slice(None), *insides)
    part = in_tiles(network, volume[cut], tiling_of(model, 2 * step), block=(3, 4 * step, 40))
    assert np.array_equal(part[inside], at_once(network, volume)[cut][inside])
