"""Probabilities of tiles: equal to one pass over the whole, whatever the tiles and blocks."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies import zyx
from unet_core.config import InferConfig, NetworkConfig
from unet_core.config.networks.geometry import geometry_of, padded_halo
from unet_core.config.windowed import windows_for
from unet_core.errors import CheckpointError
from unet_core.geometry import Box, Zyx, hull, split
from unet_core.net import predict
from unet_core.net.checkpoint import Checkpoint
from unet_core.net.initial import initialise
from unet_core.net.memory import held_of
from unet_core.net.network import Network
from unet_core.net.parts import tiling_of
from unet_core.net.predict import Predictor, TileTooLarge
from unet_core.net.windows import Windowed
from unet_core.ops.intensity import Normaliser, normalise

FLOAT32 = InferConfig(precision="float32")

networks = st.builds(
    NetworkConfig,
    width=st.integers(3, 6),
    depth=st.integers(1, 3),
    convolutions=st.integers(1, 2),
    classes=st.integers(2, 3),
    channels=st.integers(1, 2),
    padding=st.sampled_from(["valid", "same"]),
    up=st.sampled_from(["transposed", "nearest", "bilinear"]),
    norm=st.sampled_from(["none", "batch"]),
    activation=st.just("leaky_relu"),
)


@pytest.fixture(autouse=True, scope="module")
def torch_as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    held_of.cache_clear()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def trained(model: NetworkConfig) -> Checkpoint:
    """A network whose layers all matter; as if it had been trained."""
    network = initialise(Network.of(model), seed=3)
    generator = torch.Generator().manual_seed(4)
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm2d | torch.nn.BatchNorm3d):
            part.running_mean.normal_(generator=generator)
            part.running_var.uniform_(0.5, 2, generator=generator)
    return Checkpoint(model, "none", network.state_dict())


def noise(model: NetworkConfig, shape: Zyx) -> np.ndarray:
    return np.random.default_rng(5).standard_normal((model.channels, *shape)).astype(np.float32)


def mirrored(volume: np.ndarray, box: Box) -> np.ndarray:
    """numpy's own mirror, which repeats no edge voxel either."""
    size = volume.shape[1:]
    low = [max(0, -a) for a in box.start]
    high = [max(0, b - n) for b, n in zip(box.stop, size, strict=True)]
    wide = np.pad(volume, [(0, 0), *zip(low, high, strict=True)], mode="reflect")
    return wide[(..., *box.shift(low).slices)]


def run(predictor: Predictor, volume: np.ndarray, *, tile_px: int, block: Zyx) -> np.ndarray:
    """What the stage does, in memory."""
    tiling = tiling_of(predictor.model, tile_px)
    shape = volume.shape[1:]
    out = np.zeros((predictor.model.classes - 1, *shape), predictor.config.dtype)
    for write in split(shape, block=block):
        for tile in tiling.tiles(write):
            result = predictor(np.ascontiguousarray(mirrored(volume, tile.read)))
            inset = tile.core.relative_to(tile.core.start).shift(tile.inset)
            out[(..., *tile.core.slices)] = result[(..., *inset.slices)]
    return out


def at_once(predictor: Predictor, volume: np.ndarray) -> np.ndarray:
    """One pass over the whole volume (a section at a time if 2-D)."""
    tile_px = (
        -(-max(volume.shape[1:]) // geometry_of(predictor.model).stride[2])
        * geometry_of(predictor.model).stride[2]
    )
    return run(predictor, volume, tile_px=tile_px, block=volume.shape[1:])


def in_float64(predictor: Predictor) -> Predictor:
    """Rounding apart, so that what is left is the geometry."""
    predictor.network.double()
    predictor.dtype = torch.float64
    return predictor


@given(model=networks, steps=st.integers(1, 3), shape=zyx(1, 40), block=zyx(1, 30))
@settings(deadline=None, max_examples=25)
def test_sections_in_tiles_equal_one_pass(
    model: NetworkConfig, steps: int, shape: Zyx, block: Zyx
) -> None:
    predictor = in_float64(Predictor(trained(model), FLOAT32))
    volume = noise(model, (min(2, shape[0]), *shape[1:]))
    block = (1, max(12, block[1]), max(12, block[2]))
    tiled = run(predictor, volume, tile_px=steps * geometry_of(model).stride[2], block=block)
    assert np.array_equal(tiled, at_once(predictor, volume))


@given(model=networks, steps=st.integers(1, 2), shape=zyx(1, 12), block=zyx(5, 12))
@settings(deadline=None, max_examples=10)
def test_volumes_in_tiles_equal_one_pass(
    model: NetworkConfig, steps: int, shape: Zyx, block: Zyx
) -> None:
    model = replace(model, dimensions=3, depth=1, width=3)
    predictor = in_float64(Predictor(trained(model), FLOAT32))
    volume = noise(model, shape)
    tiled = run(predictor, volume, tile_px=steps * geometry_of(model).stride[2] * 2, block=block)
    assert np.array_equal(tiled, at_once(predictor, volume))


@given(model=networks, steps=st.integers(1, 3), averaging=st.sampled_from(["none", "symmetries"]))
@settings(deadline=None, max_examples=10)
def test_in_float32_tiles_differ_from_one_pass_by_a_rounding_step_at_most(
    model: NetworkConfig, steps: int, averaging: str
) -> None:
    config = replace(FLOAT32, averaging=averaging)
    predictor = Predictor(trained(model), config)
    volume = noise(model, (1, 37, 53))
    tiled = run(predictor, volume, tile_px=steps * geometry_of(model).stride[2], block=(1, 20, 31))
    difference = tiled.astype(int) - at_once(predictor, volume)
    assert abs(difference).max() <= 1
    assert (difference != 0).mean() < 0.01


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_part_of_a_volume_gives_the_same_there_and_only_if_it_starts_on_the_grid(
    dimensions: int, padding: str
) -> None:
    model = NetworkConfig(
        dimensions=dimensions,  # type: ignore[arg-type]
        padding=padding,  # type: ignore[arg-type]
        width=4,
        depth=2 if dimensions == 2 else 1,
        activation="leaky_relu",
    )
    step, halo = geometry_of(model).stride[2], geometry_of(model).halo[2]
    size = 2 * halo + 4 * step
    predictor = in_float64(Predictor(trained(model), FLOAT32))
    volume = noise(model, (1 if dimensions == 2 else size, size, size))
    whole = run(predictor, volume, tile_px=3 * step, block=volume.shape[1:])
    inside = slice(halo, -halo)
    z = slice(None) if dimensions == 2 else inside

    def differs(start: int) -> bool:
        cut = (slice(None), slice(None), slice(start, None), slice(start, None))
        part = run(predictor, volume[cut], tile_px=2 * step, block=(size, 2 * step, size))
        index = (slice(None), z, inside, inside)
        return not np.array_equal(part[index], whole[cut][index])

    assert not differs(step)
    assert differs(1)  # the negative control: off the grid, another result
    assert not differs(2 * step)


@torch.inference_mode()
def test_inside_the_volume_a_padded_network_gives_what_it_gives_padded() -> None:
    model = NetworkConfig(padding="same", width=4, depth=2, norm="batch", classes=3)
    checkpoint = trained(model)
    predictor = in_float64(Predictor(checkpoint, replace(FLOAT32, dtype="float16")))
    halo = padded_halo(model)[2]
    volume = noise(model, (1, 2 * halo + 8, 2 * halo + 12))
    found = run(predictor, volume, tile_px=4, block=volume.shape[1:])
    logits = checkpoint.network().double()(torch.from_numpy(volume).double())
    expected = logits.softmax(dim=1)[0, 1:].numpy()
    inside = (..., slice(halo, -halo), slice(halo, -halo))
    assert np.allclose(found[:, 0][inside], expected[inside], rtol=0, atol=2**-11)


def test_averaging_is_the_mean_over_flips_and_turns() -> None:
    model = NetworkConfig(width=4, depth=1, classes=3)
    config = replace(FLOAT32, dtype="float16")
    one = in_float64(Predictor(trained(model), config))
    mean = in_float64(Predictor(trained(model), replace(config, averaging="symmetries")))
    seen = noise(model, (1, 24, 32))
    each = []
    for turns in range(4):
        for flip in (False, True):
            turned = np.rot90(seen, turns, axes=(-2, -1))
            turned = turned[..., ::-1] if flip else turned
            result = one(np.ascontiguousarray(turned)).astype(np.float64)
            result = result[..., ::-1] if flip else result
            each.append(np.rot90(result, -turns, axes=(-2, -1)))
    assert np.allclose(mean(seen), np.mean(each, axis=0), rtol=0, atol=2**-10)
    assert np.ptp(np.array(each), axis=0).max() > 0.01


@pytest.mark.parametrize(
    ("averaging", "averaged"),
    [("symmetries", "probabilities"), ("turns", "logits"), ("mirrors", "logits")],
)
def test_averages_do_not_depend_on_tiles_and_turn_with_the_volume(
    averaging: str, averaged: str
) -> None:
    model = NetworkConfig(width=4, depth=2)
    config = replace(FLOAT32, averaging=averaging, averaged=averaged)
    predictor = in_float64(Predictor(trained(model), config))
    volume = noise(model, (1, 24, 40))
    whole = at_once(predictor, volume)
    assert np.array_equal(run(predictor, volume, tile_px=8, block=(1, 12, 20)), whole)

    def moved(x: np.ndarray) -> np.ndarray:
        return x[..., ::-1] if averaging == "mirrors" else np.rot90(x, axes=(-2, -1))

    # 24 and 40 are multiples of 2^depth, so the grid of the turned volume is the turned grid
    turned = at_once(predictor, np.ascontiguousarray(moved(volume)))
    assert abs(turned.astype(int) - moved(whole)).max() <= 1


def test_bytes_are_255_p_with_halves_rounded_up() -> None:
    p = torch.tensor([0.0, 0.5 / 255, 0.49 / 255, 0.5, 1.5 / 255, 254.49 / 255, 1.0])
    assert predict.quantised(p, "uint8").tolist() == [0, 1, 0, 128, 2, 254, 255]
    assert predict.quantised(p, "float16").dtype == torch.float16


@given(n=st.integers(1, 5))
@settings(max_examples=5, deadline=None)
def test_shapes_and_ranges_are_as_promised(n: int) -> None:
    flat = NetworkConfig(width=3, depth=1, classes=4, channels=2)
    out = Predictor(trained(flat), FLOAT32)(np.zeros((2, n, 20, 24), np.uint8))
    assert (out.shape, out.dtype) == ((3, n, 4, 8), np.uint8)
    stack = replace(flat, sections=3)
    out = Predictor(trained(stack), FLOAT32)(np.zeros((2, n + 2, 20, 24), np.uint16))
    assert out.shape == (3, n, 4, 8)
    deep = replace(flat, dimensions=3)
    config = replace(FLOAT32, dtype="float16", classes=(0, 1, 2, 3))
    out = Predictor(trained(deep), config)(np.zeros((2, 20, 20, 24), np.int16))
    assert (out.shape, out.dtype) == ((4, 4, 4, 8), np.float16)
    assert np.allclose(out.astype(float).sum(axis=0), 1, atol=1e-3)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_intensities_are_the_bits_that_patches_were_normalised_to(dtype: str) -> None:
    model = NetworkConfig(width=3, depth=1, channels=2)
    raw = np.random.default_rng(1).integers(0, 250, (2, 3, 20, 20)).astype(dtype)
    if dtype == "float32":
        raw[0, 1, 2, 3:5] = np.nan, np.inf
    by = Normaliser(offset=(17.3, 90.1), scale=(0.0137, 1 / 3), fill=(20.0, 95.0))
    found = Predictor(trained(model), FLOAT32, by=by)._intensities(torch.from_numpy(raw))
    assert np.array_equal(found.numpy(), normalise(raw, by))


def test_a_batch_too_large_for_memory_is_halved_until_one_section_does_not_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = NetworkConfig(width=4, depth=1)
    predictor = Predictor(trained(model), FLOAT32)
    seen = noise(model, (7, 24, 28))
    expected = predictor(seen)
    sizes, most, network = [], 2, predictor.network.forward

    def forward(x: torch.Tensor) -> torch.Tensor:
        sizes.append(len(x))
        if len(x) > most:
            raise torch.OutOfMemoryError("as a GPU would")
        return network(x)

    monkeypatch.setattr(predictor.network, "forward", forward)
    monkeypatch.setattr(predict, "batch_of", lambda *_, **__: 100)
    assert abs(predictor(seen).astype(int) - expected).max() <= 1
    assert sizes == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    sizes.clear()
    predictor(seen)
    assert set(sizes) == {1}  # remembered, also for another volume
    sizes.clear()
    predictor.scaled(Normaliser(offset=(1.0,), scale=(1.0,), fill=(0.0,)))(seen)
    assert set(sizes) == {1}
    sizes.clear()
    predictor(seen[:, :2, :18, :18])  # four times smaller: more of them would fit
    assert sizes == [2]

    most = 0
    monkeypatch.setattr(predict, "free_mb", lambda device: 2.0)
    with pytest.raises(TileTooLarge, match=r"seen with 24 x 28 voxels.*GPU has 2 MB.*tile_px"):
        predictor(seen)


def test_weights_that_are_not_numbers_are_refused() -> None:
    checkpoint = trained(NetworkConfig(width=4, depth=1))
    checkpoint.state["head.bias"][0] = torch.nan
    with pytest.raises(CheckpointError, match=r"not finite.*training history"):
        Predictor(checkpoint, FLOAT32)(np.zeros((1, 1, 20, 20), np.float32))


def test_small_blocks_are_seen_with_tiles_of_192_where_that_is_cheap() -> None:
    tiling = tiling_of(NetworkConfig(), 384)
    (tile,) = tiling.tiles(Box((0, 0, 0), (1, 30, 200)))
    assert tile.read.shape == (1, 192 + 188, 208 + 188)
    assert tile.core.shape == (1, 30, 200)
    assert hull([tile.read, Box((0, 0, 0), (1, 30, 200)).grow(tiling.reach)]) == Box(
        (0, 0, 0), (1, 30, 200)
    ).grow(tiling.reach)
    assert tiling_of(NetworkConfig(), 64).least == (1, 64, 64)
    assert tiling_of(NetworkConfig(dimensions=3), 64).least == (1, 1, 1)


def test_a_gpu_is_shown_many_windows_at_a_time_and_fewer_where_it_holds_fewer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = NetworkConfig(width=4, depth=2, padding="same", norm="instance")
    config = InferConfig(precision="float32", window=16)
    shape = (3, 40, 40)
    windows = windows_for(config, model, shape=shape, patch=None)
    assert windows is not None
    tile = Windowed(Box((0, 0, 0), shape), windows)
    predictor = Predictor(trained(model), config)
    seen = torch.from_numpy(noise(model, shape))
    expected = predictor.over_windows(seen, tile)

    shown: list[int] = []
    forward = Network.forward

    def limited(network: Network, x: torch.Tensor) -> torch.Tensor:
        shown.append(len(x))
        if len(x) > 10:
            raise torch.OutOfMemoryError("as a GPU would")
        return forward(network, x)

    monkeypatch.setattr(Network, "forward", limited)
    monkeypatch.setattr(predict, "free_mb", lambda device: 1e6)
    for first in ([40, 20, 10], []):  # then it is known
        shown.clear()
        monkeypatch.setattr(predict, "_VOXELS_AT_A_TIME", 40 * 16 * 16)
        found = predictor.over_windows(seen, tile)
        assert shown == [*first, *[10] * (-(-windows.count // 10) - bool(first))]
        assert torch.allclose(found, expected, atol=1e-5)
