"""The laws of exactness: one result, however a volume is cut, held against one pass over all of it.

Most of it in exact arithmetic: with weights -1, 0, 1, whole inputs and ReLU, every sum in float64
is exact whatever its order, so results that agree agree in all bits, and what is left to differ is
the geometry alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.strategies import zyx
from unet_core.config import InferConfig, UNetConfig
from unet_core.config.shape import multiply_adds, multiply_adds_per_voxel
from unet_core.geometry import Box, Tile, Tiling, Zyx, split
from unet_core.net.checkpoint import Checkpoint
from unet_core.net.parts import tiling_of
from unet_core.net.predict import Predictor
from unet_core.net.unet import UNet, initialise
from unet_core.ops.intensity import normalise, normaliser

Array = NDArray[np.float64]

UPS = ("transposed", "nearest", "bilinear")

flat = st.builds(
    UNetConfig,
    width=st.integers(2, 4),
    depth=st.integers(1, 3),
    convolutions=st.integers(1, 2),
    channels=st.integers(1, 2),
    padding=st.sampled_from(["valid", "same"]),
    up=st.sampled_from(UPS),
)
stacked = st.builds(replace, flat, sections=st.sampled_from([3, 5]))
deep = st.builds(
    UNetConfig,
    dimensions=st.just(3),
    width=st.integers(2, 3),
    depth=st.just(1),
    convolutions=st.integers(1, 2),
    channels=st.integers(1, 2),
    padding=st.sampled_from(["valid", "same"]),
    up=st.sampled_from(UPS),
)
networks = st.one_of(flat, stacked, deep)
seeds = st.integers(0, 99)


@pytest.fixture(autouse=True, scope="module")
def torch_as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def in_whole_numbers(model: UNetConfig, seed: int) -> UNet:
    """The network as inference runs it, with weights -1, 0, 1 of which about eight meet a voxel."""
    network = UNet(model).double().eval()
    generator = torch.Generator().manual_seed(seed)
    for part in network.parameters():
        fan = max(8, part[0].numel())
        drawn = torch.rand(part.shape, generator=generator)
        signs = torch.randint(0, 2, part.shape, generator=generator) * 2 - 1
        part.data = (signs * (drawn < 8 / fan)).double()
    return network.as_valid()


def in_drawn_numbers(model: UNetConfig, seed: int) -> Checkpoint:
    """A network whose units are all alive, as if it had been trained."""
    network = initialise(UNet(replace(model, activation="leaky_relu")), seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm2d | torch.nn.BatchNorm3d):
            part.running_mean.normal_(generator=generator)
            part.running_var.uniform_(0.5, 2, generator=generator)
    return Checkpoint(network.config, "mean_std", network.state_dict())


def whole_numbers(model: UNetConfig, shape: Zyx, seed: int = 0) -> Array:
    volume = np.random.default_rng(seed).integers(-4, 5, (model.channels, *shape))
    return volume.astype(np.float64)


@torch.inference_mode()
def forward(network: UNet, seen: Array) -> Array:
    """Logits of what one input yields, section by section if the network is 2-D."""
    x = torch.from_numpy(np.ascontiguousarray(seen))
    if network.config.dimensions == 3:
        return network(x[None])[0].numpy()
    each = network.config.sections
    sections = [
        network(torch.stack([channel[z + s] for channel in x for s in range(each)])[None])[0]
        for z in range(x.shape[1] - each + 1)
    ]
    return torch.stack(sections, dim=1).numpy()


def at_once(network: UNet, volume: Array) -> Array:
    """Logits of one pass over the whole volume, without any plan: numpy mirrors it all around."""
    model = network.config
    halo, step = model.tile_halo_px, model.stride_px
    beyond = halo - model.valid_halo_px
    kept = [slice(None)]
    pads = [(0, 0)]
    for axis, size in enumerate(volume.shape[1:]):
        if axis == 0 and model.dimensions == 2:
            pads.append((model.sections // 2, model.sections // 2))
            kept.append(slice(None))
        else:
            pads.append((halo, halo + -size % step))
            kept.append(slice(beyond, beyond + size))
    return forward(network, np.pad(volume, pads, mode="reflect"))[tuple(kept)]


def seen_by(tile: Tile, volume: Array) -> Array:
    """What a tile reads, mirrored about the volume's outermost voxels."""
    low = [max(0, -a) for a in tile.read.start]
    high = [max(0, b - n) for b, n in zip(tile.read.stop, volume.shape[1:], strict=True)]
    wide = np.pad(volume, [(0, 0), *zip(low, high, strict=True)], mode="reflect")
    return wide[(..., *tile.read.shift(low).slices)]


def in_tiles(
    network: UNet, volume: Array, tiling: Tiling, *, block: Zyx, order: int | None = None
) -> Array:
    """Logits by the plan that inference uses; `order` shuffles blocks and tiles."""
    tiles = [tile for write in split(volume.shape[1:], block=block) for tile in tiling.tiles(write)]
    if order is not None:
        np.random.default_rng(order).shuffle(tiles)  # type: ignore[arg-type]
    out = np.full((network.config.classes, *volume.shape[1:]), np.nan)
    for tile in tiles:
        result = forward(network, seen_by(tile, volume))
        inset = tile.core.relative_to(tile.core.start).shift(tile.inset)
        out[(..., *tile.core.slices)] = result[(..., *inset.slices)]
    return out


def shaped(model: UNetConfig, shape: Zyx) -> Zyx:
    """A shape drawn for sections, cut down for a network that sees volumes."""
    z, y, x = shape
    return (z, min(y, 14), min(x, 14)) if model.dimensions == 3 else (min(z, 3), y, x)


def bits(array: NDArray[np.generic]) -> bytes:
    return np.ascontiguousarray(array).tobytes()


# (a), (c), (d): tiles, blocks and their order; odd sizes, volumes smaller than a tile.


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
    model: UNetConfig, seed: int, steps: int, shape: Zyx, block: Zyx, order: int
) -> None:
    network, volume = in_whole_numbers(model, seed), whole_numbers(model, shaped(model, shape))
    tiling = tiling_of(model, steps * model.stride_px)
    whole = at_once(network, volume)
    assert abs(whole).max() < 2**32  # sums of twice the digits are exact, so all of this is
    tiled = in_tiles(network, volume, tiling, block=block, order=order)
    assert np.array_equal(tiled, whole)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 29), (1, 30, 1), (2, 3, 2), (5, 17, 19)])
@pytest.mark.parametrize("kind", [{}, {"sections": 5}, {"dimensions": 3}])
def test_one_row_one_section_and_one_voxel_are_volumes_too(shape: Zyx, kind: dict) -> None:
    model = UNetConfig(width=2, depth=1 if kind.get("dimensions") == 3 else 2, **kind)
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
    model: UNetConfig, norm: str, seed: int, steps: int, shape: Zyx
) -> None:
    model = replace(model, norm=norm)  # type: ignore[arg-type]
    network = in_drawn_numbers(model, seed).network().folded().as_valid()
    volume = whole_numbers(model, shaped(model, shape)) / 4
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-4)):
        network, values = network.to(dtype), volume.astype(str(dtype).removeprefix("torch."))
        whole = at_once(network, values)
        tiling = tiling_of(model, steps * model.stride_px)
        tiled = in_tiles(network, values, tiling, block=(2, 9, 23))
        assert abs(tiled - whole).max() <= tolerance * max(1.0, abs(whole).max())


# (b): a part of a volume.


@given(
    model=networks,
    seed=seeds,
    starts=zyx(0, 3),
    beyond=zyx(1, 9),
    left=zyx(0, 3),
)
@settings(deadline=None, max_examples=30)
def test_part_of_a_volume_gives_what_the_whole_gives_where_it_reaches_no_cut(
    model: UNetConfig, seed: int, starts: Zyx, beyond: Zyx, left: Zyx
) -> None:
    assume(model.depth < 3)
    step, reach = model.stride_px, model.reach_px
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


@pytest.mark.parametrize("up", UPS)
@pytest.mark.parametrize("dimensions", [2, 3])
def test_off_the_grid_every_shift_gives_another_result(up: str, dimensions: int) -> None:
    """The negative control: the laws above would see a grid that does not hold."""
    model = UNetConfig(dimensions=dimensions, up=up, width=3, depth=5 - dimensions - 1)  # type: ignore[arg-type]
    step, halo = model.stride_px, model.tile_halo_px
    network = in_drawn_numbers(model, 1).network().as_valid().double()
    size = 2 * halo + 3 * step
    volume = whole_numbers(model, (size if dimensions == 3 else 1, size, size)) / 4
    whole = at_once(network, volume)
    for shift in range(1, step + 1):
        shifted = at_once(network, volume[..., shift:])
        inside = (..., slice(halo, size - shift))
        same = np.allclose(shifted[inside], whole[..., shift:][inside], rtol=0, atol=1e-6)
        assert same == (shift == step)


# (e): how far a result reaches.


@given(
    model=networks,
    seed=seeds,
    before=st.booleans(),
    axis=st.integers(0, 2),
    place=st.integers(0, 9),
)
@settings(deadline=None, max_examples=30)
def test_a_voxel_beyond_the_halo_changes_nothing_and_one_at_its_edge_does(
    model: UNetConfig, seed: int, before: bool, axis: int, place: int
) -> None:
    assume(model.depth < 3)
    step, halo = model.stride_px, model.tile_halo_px
    if axis == 0 and model.dimensions == 2:
        step, halo = 1, model.sections // 2
    network = in_drawn_numbers(model, seed).network().as_valid().double()
    shape = [2 * model.tile_halo_px + 2 * model.stride_px] * 3
    first = halo + 2 + -(halo + 2) % step  # of a cell of the grid, the halo and 2 voxels before it
    shape[axis] = first + step + halo + 2
    if model.dimensions == 2 and axis > 0:
        shape[0] = 1
    elif model.dimensions == 2:
        shape[1:] = [9, 9]
    volume = whole_numbers(model, (shape[0], shape[1], shape[2])) / 4
    volume[0] += 1  # no change below is none
    whole = at_once(network, volume)
    cell = [slice(None)] * 4
    cell[1 + axis] = slice(first, first + step)

    def changed_by(distance: int) -> bool:
        other = volume.copy()
        at = first - distance if before else first + step - 1 + distance
        plane = [slice(None)] * 4
        plane[1 + axis] = slice(at, at + 1)
        if distance > halo:
            plane[2 if axis != 1 else 3] = slice(place % 9, place % 9 + 1)
        other[tuple(plane)] += 8
        return bits(at_once(network, other)[tuple(cell)]) != bits(whole[tuple(cell)])

    assert changed_by(halo)
    assert not changed_by(halo + 1)
    assert not changed_by(halo + 2)


@pytest.mark.parametrize("up", UPS)
@pytest.mark.parametrize(("depth", "convolutions"), [(1, 2), (2, 1), (2, 2), (3, 1), (2, 3)])
def test_one_voxel_reaches_as_far_as_said_and_no_farther(
    up: str, depth: int, convolutions: int
) -> None:
    model = UNetConfig(width=3, depth=depth, convolutions=convolutions, up=up)  # type: ignore[arg-type]
    network = in_drawn_numbers(model, 0).network().double()
    step, halo = model.stride_px, model.tile_halo_px
    size = 3 * step + 2 * halo
    x = torch.zeros(1, 1, size, size, dtype=torch.float64).normal_(
        generator=torch.Generator().manual_seed(0)
    )
    result = network(x.requires_grad_())
    beyond = halo - model.valid_halo_px + step
    reached = []
    for voxel in range(step):
        (gradient,) = torch.autograd.grad(
            result[0, :, beyond : beyond + step, beyond + voxel].square().sum(),
            x,
            retain_graph=True,
        )
        (columns,) = np.nonzero(gradient[0, 0].abs().sum(0).numpy())
        at = halo + step + voxel
        reached += [at - columns[0], columns[-1] - at]
    assert min(reached) == model.valid_halo_px
    assert max(reached) == model.reach_px
