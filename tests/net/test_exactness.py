"""The laws of exactness: one result, however a volume is cut, held against one pass over all of it.

Most of it in exact arithmetic: with weights -1, 0, 1, whole inputs and ReLU, every sum in float64
is exact whatever its order, so results that agree agree in all bits, and what is left to differ is
the geometry alone.
"""

from collections.abc import Iterator
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
from unet_core.geometry import Tile, Tiling, Zyx, split
from unet_core.net import predict
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
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
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


# What inference computes with: number types, batches, intensities.

FLOAT32 = InferConfig(precision="float32", dtype="float16")


def probabilities(
    predictor: Predictor, volume: NDArray[np.generic], tiling: Tiling, block: Zyx
) -> NDArray[np.float32]:
    """Before they are quantised: (classes - 1, z, y, x)."""
    out = np.full((predictor.model.classes - 1, *volume.shape[1:]), np.nan, np.float32)
    for write in split(volume.shape[1:], block=block):
        for tile in tiling.tiles(write):
            seen = torch.from_numpy(np.ascontiguousarray(seen_by(tile, volume)))
            result = predictor.probabilities(seen).numpy()
            inset = tile.core.relative_to(tile.core.start).shift(tile.inset)
            out[(..., *tile.core.slices)] = result[(..., *inset.slices)]
    return out


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(("up", "sections"), [("transposed", 1), ("nearest", 3), ("bilinear", 1)])
def test_passes_of_160_px_and_more_are_equal_bits_in_float32_and_bfloat16(
    up: str, sections: int, precision: str
) -> None:
    model = UNetConfig(width=8, depth=2, up=up, sections=sections)  # type: ignore[arg-type]
    config = replace(FLOAT32, precision=precision)  # type: ignore[arg-type]
    predictor = Predictor(in_drawn_numbers(model, 1), config)
    volume = np.random.default_rng(0).standard_normal((1, 1, 333, 330)).astype(np.float32)
    whole = probabilities(predictor, volume, tiling_of(model, 336), (1, 336, 336))
    for tile_px, block in ((160, (1, 336, 336)), (192, (1, 200, 330))):
        tiled = probabilities(predictor, volume, tiling_of(model, tile_px), block)
        assert bits(tiled) == bits(whole)
    assert np.ptp(whole) > 0.1


@given(model=st.one_of(flat, stacked), seed=seeds, count=st.integers(2, 6), most=st.integers(1, 6))
@settings(deadline=None, max_examples=15)
def test_sections_at_a_time_and_in_a_tile_change_rounding_at_most(
    model: UNetConfig, seed: int, count: int, most: int
) -> None:
    model = replace(model, depth=1)
    predictor = Predictor(in_drawn_numbers(model, seed), FLOAT32)
    predictor.network.double()
    predictor.dtype = torch.float64
    volume = whole_numbers(model, (count, 20, 22)).astype(np.float32)
    one = probabilities(predictor, volume, tiling_of(model, 8), (1, 16, 22))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predict, "batch_of", lambda *_, **__: most)
        tiling = tiling_of(model, 8, sections=count)
        together = probabilities(predictor, volume, tiling, (count, 16, 22))
    assert abs(together - one).max() < 1e-6


@given(model=networks, seed=seeds)
@settings(deadline=None, max_examples=15)
def test_inference_shows_the_network_its_sections_channel_by_channel(
    model: UNetConfig, seed: int
) -> None:
    predictor = Predictor(in_drawn_numbers(model, seed), FLOAT32)
    predictor.network.double()
    predictor.dtype = torch.float64
    size = 2 * model.tile_halo_px + model.stride_px
    sections = size if model.dimensions == 3 else model.sections + 1
    seen = whole_numbers(model, (sections, size, size + model.stride_px)).astype(np.float32)
    logits = torch.from_numpy(forward(predictor.network, seen.astype(np.float64)))
    found = predictor.probabilities(torch.from_numpy(seen)).numpy()
    assert abs(found - logits.softmax(dim=0)[1:].numpy()).max() < 1e-6


@given(model=stacked, seed=seeds, section=st.integers(0, 4), shape=zyx(1, 24))
@settings(deadline=None, max_examples=20)
def test_a_network_that_heeds_one_section_gives_what_is_there(
    model: UNetConfig, seed: int, section: int, shape: Zyx
) -> None:
    model, section = replace(model, depth=1), section % model.sections
    volume = whole_numbers(model, shape)
    alone = in_whole_numbers(replace(model, sections=1), seed)
    one_of_many = in_whole_numbers(model, seed)
    state = alone.state_dict()
    first = torch.zeros_like(one_of_many.state_dict()["encoder.0.0.weight"])
    first[:, section :: model.sections] = state["encoder.0.0.weight"]
    one_of_many.load_state_dict({**state, "encoder.0.0.weight": first})
    found = in_tiles(one_of_many, volume, tiling_of(model, 8), block=(2, 8, 16))
    # Section z sees z - 1, z, z + 1 of three; before the first and after the last they mirror.
    beside = model.sections // 2
    order = np.pad(np.arange(shape[0]), beside, mode="reflect")[section : section + shape[0]]
    assert np.array_equal(found, at_once(alone, volume)[:, order])


@pytest.mark.parametrize("method", ["mean_std", "percentile"])
def test_intensities_follow_the_statistics_of_the_store_and_nothing_that_a_tile_sees(
    method: str,
) -> None:
    rng = np.random.default_rng(0)
    volume = rng.integers(90, 110, (2, 1, 60, 61)).astype(np.uint8)
    statistics = [  # not those of these voxels: they come from elsewhere
        {"mean": 50.0 + c, "sd": 25.0, "min": 0.0, "max": 200.0}
        | {"percentiles": np.linspace(10, 190 + c, 1001).tolist()}
        for c in range(2)
    ]
    by = normaliser(statistics, method, "uint8")  # type: ignore[arg-type]
    model = UNetConfig(width=4, depth=1, channels=2)
    trained = in_drawn_numbers(model, 0)
    predictor, bare = Predictor(trained, FLOAT32, by=by), Predictor(trained, FLOAT32)
    tiling = tiling_of(model, 16)

    found = probabilities(predictor, volume, tiling, (1, 16, 40))
    assert np.array_equal(found, probabilities(bare, normalise(volume, by), tiling, (1, 16, 40)))
    # a quarter of the volume becomes white: mean, deviation and range of all of it change
    other = volume.copy()
    other[..., 30:] = 255
    far = (..., slice(0, 30 - model.reach_px))
    changed = probabilities(predictor, other, tiling, (1, 16, 40))
    assert bits(changed[far]) == bits(found[far])
    # other statistics, same voxels: other results
    by = normaliser(
        [
            {**one, "mean": 60.0, "min": 5.0, "percentiles": [0.9 * p for p in one["percentiles"]]}
            for one in statistics
        ],
        method,
        "uint8",
    )  # type: ignore[arg-type, union-attr]
    elsewhere = probabilities(Predictor(trained, FLOAT32, by=by), volume, tiling, (1, 16, 40))
    assert abs(elsewhere - found).max() > 1e-3


# Zero-padded networks, run without padding.


@pytest.mark.parametrize("up", UPS)
@pytest.mark.parametrize("kind", [{}, {"sections": 3}, {"dimensions": 3}])
@torch.inference_mode()
def test_a_padded_network_needs_the_input_phase_of_the_grid_and_only_that(
    up: str, kind: dict
) -> None:
    """Input starts at ``-tile_halo_px`` from a multiple of 2^depth (the paper's: 2 mod 16)."""
    depth = 1 if kind.get("dimensions") == 3 else 2
    model = UNetConfig(padding="same", width=3, depth=depth, up=up, **kind)  # type: ignore[arg-type]
    padded = in_drawn_numbers(model, 2).network().double()
    valid = padded.as_valid()
    step, around, inside = model.stride_px, model.tile_halo_px, model.halo_px
    size = 2 * inside + 3 * step
    volume = whole_numbers(model, (size if depth == 1 else model.sections, size, size)) / 4
    expected = forward(padded, volume)  # zeros beyond the edge
    for shift in range(step):
        start = inside - around + shift  # of the input
        seen = volume[..., start:, start : start + 2 * step + 2 * around]
        seen = seen[..., : 2 * step + 2 * around, :]
        if depth == 1:
            seen = seen[:, start : start + 2 * step + 2 * around]
        found = forward(valid, seen)
        first = start + model.valid_halo_px
        there = [slice(first, first + n) for n in found.shape[1:]]
        there = there if depth == 1 else [slice(None), *there[1:]]
        # only where zeros beyond the edge cannot be seen
        same = np.allclose(found, expected[(slice(None), *there)], rtol=0, atol=1e-10)
        assert same == (shift == 0)


@pytest.mark.parametrize("up", UPS)
@pytest.mark.parametrize(("depth", "convolutions"), [(2, 2), (3, 2), (2, 1)])
def test_a_padded_tile_is_exact_from_the_halo_rounded_up_to_the_grid_and_not_before(
    up: str, depth: int, convolutions: int
) -> None:
    model = UNetConfig(
        padding="same",
        width=3,
        depth=depth,
        convolutions=convolutions,
        up=up,  # type: ignore[arg-type]
    )
    padded = in_drawn_numbers(model, 2).network().double()
    step, halo = model.stride_px, model.halo_px
    assert halo - step < model.tile_halo_px <= halo
    x = whole_numbers(model, (1, 4 * step, 4 * step + 4 * halo)) / 4
    whole = forward(padded, x)
    for used, exact in ((halo, True), (halo - step, False)):
        start = 2 * halo - used
        tile = forward(padded, x[..., start : start + 2 * used + 4 * step])
        kept = tile[..., used : used + 4 * step]
        expected = whole[..., 2 * halo : 2 * halo + 4 * step]
        assert np.allclose(kept, expected, rtol=0, atol=1e-10) == exact


def test_the_halo_of_the_published_network_and_what_it_costs() -> None:
    model = UNetConfig(padding="same")
    assert (model.tile_halo_px, model.halo_px, model.reach_px) == (94, 96, 107)
    assert -model.tile_halo_px % model.stride_px == 2  # inputs start at 2 mod 16
    floor = multiply_adds_per_voxel(model, 512)
    valid, core = replace(model, padding="valid"), 512**2
    assert multiply_adds(valid, 512 + 2 * 94) / core / floor == pytest.approx(1.28, abs=0.005)
    assert multiply_adds(model, 512 + 2 * 96) / core / floor == pytest.approx(1.89, abs=0.005)
    for tile_px, most in ((384, 1.40), (512, 1.30), (896, 1.16), (1024, 1.13)):
        spent = multiply_adds(valid, tile_px + 2 * 94) / tile_px**2 / floor
        assert spent <= most + 0.005
