"""Which sizes of tiles are worth trying, and how fast they are."""

import time
from collections.abc import Sequence
from math import log, prod

import numpy as np
import numpy.typing as npt

from unet_core.config import NetworkConfig
from unet_core.config.networks.cost import least_multiply_adds, tile_work
from unet_core.config.networks.geometry import geometry_of
from unet_core.geometry import Zyx
from unet_core.net.engine import Engine
from unet_core.net.memory import indexable
from unet_core.net.parts import LEAST_PX, Part

_MOST_PX = {(2, False): 1024, (2, True): 4096, (3, False): 256, (3, True): 512}
"""Largest tile worth trying, by dimensions and whether there is a GPU. Larger ones leave a CPU's
caches, and save less than 4 % of the work on a GPU."""

_LEAST_DEEP_PX = 32
"""Smallest in 3-D: below it, nine tenths of the work are halo."""

_GUESSED_PX = 384
"""In 2-D the fastest on the CPUs measured (width 32): 0.85 million voxels/s against 0.81 at 896."""

_SHARE_OF_WORK = 0.05
"""Most work that trying may take, of all there is."""

_PASSES = 2
_MOST_TRIED = 5


def candidates(
    models: Sequence[NetworkConfig], *, step: int, shard: Zyx, shape: Zyx, gpu: bool
) -> list[int]:
    """Sizes of tiles (px) worth trying, rising: whole parts and multiples of a shard.

    Parameters
    ----------
    step
        Tiles are multiples of it.
    shard, shape
        Of the raw volume (z, y, x).
    """
    dimensions = max(model.dimensions for model in models)
    least = _up(_LEAST_DEEP_PX if dimensions == 3 else LEAST_PX, step)
    most = _up(min(_MOST_PX[dimensions, gpu], max(shape[1:])), step)
    side = _up(min(max(shard[1:]), max(shape[1:])), step)
    parts = (_up(-(-side // k), step) for k in range(1, side // least + 1))
    multiples = (side * 2**n for n in range(1, 12))
    found = {px for px in (*parts, *multiples) if least <= px <= most}
    return sorted(px for px in found if _counted(models, px)) or [min(least, max(most, step))]


def _counted(models: Sequence[NetworkConfig], px: int) -> bool:
    return all(indexable(model, _read(model, px)) > 0 for model in models)


def _read(model: NetworkConfig, px: int) -> list[int]:
    """Voxels along the network's axes that are seen for a tile."""
    return [px + 2 * halo for halo in geometry_of(model).halo[3 - model.dimensions :]]


def guess(sizes: Sequence[int], models: Sequence[NetworkConfig], *, gpu: bool) -> int:
    """The one to take without trying: of `sizes` in 2-D on a CPU near 384 px, else the largest."""
    if gpu or any(model.dimensions == 3 for model in models):
        return max(sizes)
    return min(sizes, key=lambda px: abs(log(px / _GUESSED_PX)))


def affordable(
    first: int, sizes: Sequence[int], models: Sequence[NetworkConfig], *, voxels: int
) -> list[int]:
    """Those of `sizes` whose trial takes little of the work on `voxels`, nearest to `first` first.

    At most five.
    """
    near = sorted(sizes, key=lambda px: abs(log(px / first)))[:_MOST_TRIED]
    left = _SHARE_OF_WORK * voxels * sum(map(least_multiply_adds, models))
    found = []
    for px in near:
        left -= _PASSES * sum(tile_work(model, _read(model, px)) for model in models)
        if left < 0:
            break
        found.append(px)
    return found


def seconds_per_voxel(engine: Engine, parts: Sequence[Part], raw: npt.DTypeLike) -> float:
    """Of a unit that consists of `parts`, from passes over the largest: noise of type `raw`.

    Raises
    ------
    TileTooLarge
        If the GPU's memory does not hold it.
    """
    largest = max(parts, key=lambda part: part.read.size)
    channels = engine.models[0].channels
    noise = np.random.default_rng(0).integers(0, 128, (channels, *largest.read.shape)).astype(raw)
    out = np.empty((len(engine.members[0].stored), *largest.core.shape), engine.config.dtype)
    taken = []
    for _ in range(_PASSES):
        began = time.perf_counter()
        engine.fill(
            out,
            [largest],
            noise,
            first=largest.core.start,
            at=largest.read.start,
            passes=1,
        )
        taken.append(time.perf_counter() - began)
    work = sum(_seen(part) for part in parts) / _seen(largest)
    return min(taken) * work / sum(part.core.size for part in parts)


def _seen(part: Part) -> int:
    return sum(prod(tile.read.shape) for tile in part.tiles)


def _up(px: int, step: int) -> int:
    return -(-px // step) * step
