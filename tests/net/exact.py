"""Networks and volumes on which exactness is held against one pass, and plans laid over them."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray

from unet_core.config import InferConfig, NetworkConfig
from unet_core.config.networks.geometry import geometry_of
from unet_core.geometry import Tile, Tiling, Zyx, split
from unet_core.net.checkpoint import Checkpoint
from unet_core.net.folding import without_padding
from unet_core.net.initial import initialise
from unet_core.net.network import Network
from unet_core.net.predict import Predictor

Array = NDArray[np.float64]

UPS = ("transposed", "nearest", "bilinear")

flat = st.builds(
    NetworkConfig,
    width=st.integers(2, 4),
    depth=st.integers(1, 3),
    convolutions=st.integers(1, 2),
    channels=st.integers(1, 2),
    padding=st.sampled_from(["valid", "same"]),
    up=st.sampled_from(UPS),
)

stacked = st.builds(replace, flat, sections=st.sampled_from([3, 5]))

deep = st.builds(
    NetworkConfig,
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


def in_whole_numbers(model: NetworkConfig, seed: int) -> Network:
    """The network as inference runs it, with weights -1, 0, 1 of which about eight meet a voxel."""
    network = Network.of(model).double().eval()
    generator = torch.Generator().manual_seed(seed)
    for part in network.parameters():
        fan = max(8, part[0].numel())
        drawn = torch.rand(part.shape, generator=generator)
        signs = torch.randint(0, 2, part.shape, generator=generator) * 2 - 1
        part.data = (signs * (drawn < 8 / fan)).double()
    return without_padding(network)


def in_drawn_numbers(model: NetworkConfig, seed: int) -> Checkpoint:
    """A network whose units are all alive, as if it had been trained."""
    network = initialise(Network.of(replace(model, activation="leaky_relu")), seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm2d | torch.nn.BatchNorm3d):
            part.running_mean.normal_(generator=generator)
            part.running_var.uniform_(0.5, 2, generator=generator)
    return Checkpoint(network.config, "mean_std", network.state_dict())


def whole_numbers(model: NetworkConfig, shape: Zyx, seed: int = 0) -> Array:
    volume = np.random.default_rng(seed).integers(-4, 5, (model.channels, *shape))
    return volume.astype(np.float64)


@torch.inference_mode()
def forward(network: Network, seen: Array) -> Array:
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


def at_once(network: Network, volume: Array) -> Array:
    """Logits of one pass over the whole volume, without any plan: numpy mirrors it all around."""
    model = network.config
    halo, step = geometry_of(model).halo[2], geometry_of(model).stride[2]
    beyond = halo - geometry_of(model).lost[2]
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
    network: Network, volume: Array, tiling: Tiling, *, block: Zyx, order: int | None = None
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


def shaped(model: NetworkConfig, shape: Zyx) -> Zyx:
    """A shape drawn for sections, cut down for a network that sees volumes."""
    z, y, x = shape
    return (z, min(y, 14), min(x, 14)) if model.dimensions == 3 else (min(z, 3), y, x)


def bits(array: NDArray[np.generic]) -> bytes:
    return np.ascontiguousarray(array).tobytes()


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
