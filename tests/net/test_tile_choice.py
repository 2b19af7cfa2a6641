"""Which tiles are tried, and which is taken."""

from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_core.config import InferConfig, NetworkConfig
from unet_core.config.networks.cost import waste
from unet_core.config.networks.geometry import geometry_of
from unet_core.geometry import Box, Zyx
from unet_core.net import tile_choice
from unet_core.net.checkpoint import Checkpoint
from unet_core.net.engine import Engine
from unet_core.net.initial import initialise
from unet_core.net.memory import indexable
from unet_core.net.network import Network
from unet_core.net.parts import parts_of, step_of
from unet_core.net.predict import Predictor
from unet_core.net.tile_choice import affordable, candidates, guess, seconds_per_voxel

PAPER = NetworkConfig()
CUBE = NetworkConfig(dimensions=3, width=32, depth=3)
SHARD, VOLUME = (32, 512, 512), (200, 4096, 4096)


def sizes(
    model: NetworkConfig, *, gpu: bool = False, shard: Zyx = SHARD, shape: Zyx = VOLUME
) -> list[int]:
    step = step_of([model], InferConfig())
    return candidates([model], step=step, shard=shard, shape=shape, gpu=gpu)


@given(
    depth=st.integers(1, 5),
    dimensions=st.sampled_from([2, 3]),
    side=st.integers(1, 3000),
    shard=st.integers(1, 2048),
    gpu=st.booleans(),
)
@settings(deadline=None, max_examples=100)
def test_candidates_lie_on_the_grid_and_can_be_counted(
    depth: int, dimensions: int, side: int, shard: int, gpu: bool
) -> None:
    model = NetworkConfig(depth=depth, dimensions=dimensions)  # type: ignore[arg-type]
    found = sizes(model, gpu=gpu, shard=(8, shard, shard), shape=(20, side, side))
    assert found == sorted(set(found))
    assert found
    assert all(px % geometry_of(model).stride[2] == 0 for px in found)
    for px in found if len(found) > 1 else []:
        assert indexable(model, [px + 2 * geometry_of(model).halo[2]] * dimensions)


@given(
    models=st.lists(
        st.builds(NetworkConfig, depth=st.integers(1, 4), dimensions=st.sampled_from([2, 3])),
        min_size=1,
        max_size=2,
    ),
    downsample=st.tuples(*[st.sampled_from([1, 2, 3, 5])] * 3),
)
@settings(deadline=None, max_examples=50)
def test_candidates_are_tiles_for_every_network_and_every_coarser_level(
    models: list[NetworkConfig], downsample: Zyx
) -> None:
    step = step_of(models, InferConfig(downsample=downsample))
    for px in candidates(models, step=step, shard=SHARD, shape=VOLUME, gpu=False):
        box = Box((0, 0, 0), (1, 1, 1))
        assert parts_of(models, box, tile_px=px, downsample=downsample)


def test_candidates_are_parts_and_multiples_of_a_shard() -> None:
    assert sizes(PAPER) == [256, 512, 1024]
    assert sizes(PAPER, gpu=True) == [256, 512, 1024, 2048]  # 4096 has too many voxels to count
    assert sizes(PAPER, shape=(4, 300, 500)) == [256, 512]
    assert sizes(CUBE) == [32, 40, 48, 56, 64, 80, 88, 104, 128, 176]
    assert sizes(CUBE, shard=(64, 64, 64)) == [32, 64, 128]


def test_the_guess_is_near_384_px_on_a_cpu_and_the_largest_elsewhere() -> None:
    assert guess([192, 256, 512, 1024], [PAPER], gpu=False) == 512
    assert guess([192, 256, 512, 1024], [PAPER], gpu=True) == 1024
    assert guess([64, 88, 128], [CUBE], gpu=False) == 128


def test_a_trial_takes_little_of_the_work() -> None:
    some = [256, 512, 1024, 2048]
    assert affordable(512, some, [PAPER], voxels=10**9) == [512, 256, 1024, 2048]
    assert affordable(512, some, [PAPER], voxels=3 * 10**7) == [512, 256]
    assert affordable(512, some, [PAPER], voxels=10**6) == []
    assert affordable(176, sizes(CUBE), [CUBE], voxels=10**12) == [176, 128, 104, 88, 80]


@pytest.mark.parametrize(
    ("model", "px", "most"),
    [(PAPER, 384, 1.40), (PAPER, 896, 1.16), (CUBE, 168, 1.80)],
)
def test_work_over_the_least_there_can_be(model: NetworkConfig, px: int, most: float) -> None:
    z = px if model.dimensions == 3 else 1
    box = Box((0, 0, 0), (z, px, px))
    (part,) = parts_of([model], box, tile_px=px, downsample=(1, 1, 1))
    read = part.read.shape[3 - model.dimensions :]
    assert read[-1] == {384: 572, 896: 1084, 168: 260}[px]
    assert 1 < waste(model, [read], voxels=box.size) <= most


def test_the_time_of_a_unit_counts_its_smaller_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    model = NetworkConfig(width=2, depth=4)
    state = initialise(Network.of(model), seed=0).state_dict()
    config = InferConfig(precision="float32")
    engine = Engine([Predictor(Checkpoint(model, "none", state), config)], config)
    shape = (2, 432, 208)
    parts = parts_of([model], Box((0, 0, 0), shape), tile_px=240, downsample=(1, 1, 1))
    assert len({part.read.size for part in parts}) == 2
    assert seconds_per_voxel(engine, parts, "uint8") > 0
    # A device that takes a second for every voxel it is shown, after a slow first pass.
    seconds, forward = [1e6], Network.forward

    def timed(network: Network, x: torch.Tensor) -> torch.Tensor:
        seconds.append(x.numel() + (1e6 if len(seconds) == 1 else 0))
        return forward(network, x)

    monkeypatch.setattr(Network, "forward", timed)
    monkeypatch.setattr(tile_choice.time, "perf_counter", lambda: float(sum(seconds)))
    found = seconds_per_voxel(engine, parts, "uint8") * prod(shape)
    assert found == pytest.approx(sum(part.read.size for part in parts))
