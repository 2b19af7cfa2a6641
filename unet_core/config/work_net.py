"""What training and inference hold and compute: memory of maps, operations of passes."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from math import lcm, log, prod
from typing import Any

from unet_core.config.extent import Extent, counted
from unet_core.config.inference import InferConfig
from unet_core.config.networks.cost import multiply_adds, parameters, tile_work
from unet_core.config.networks.geometry import geometry_of
from unet_core.config.networks.memory import (
    KEPT,
    maps_mb,
    pass_mb,
    weights_mb,
    windowed_mb,
)
from unet_core.config.networks.settings import NetworkConfig
from unet_core.config.presets import Model
from unet_core.config.windowed import part_sizes, windows_for
from unet_core.config.work import Work, itemsize_of
from unet_core.geometry import Zyx
from unet_core.windows import Windows

NET_MB = 750
"""Of a process with the network's library, on a CPU."""

GPU_PROCESS_MB = 3000
"""The same with the libraries of a GPU: an estimate, not measured."""

_TRAIN_MB = 400
"""Of training besides maps and weights, on a CPU."""

_MAPS_KEPT = 2.5
"""Memory of a training step over that of all its maps: what is kept for the way back, and the
gradients of the largest. Measured: 2.1 to 2.6 on a CPU."""

_COPIES = 6
"""Of the weights in float32: themselves, gradient, two moments, the best ones, and those saved."""

_GUESSED_PX = {(2, False): 384, (2, True): 2048, (3, False): 128, (3, True): 256}
"""Tiles of `infer.tile_px: auto`, by dimensions and whether there is a GPU: a size that is fast;
the trial then tries those that fit the memory."""

_IMPORT_S = 1.5
"""Of a process of inference, until it has imported the network's library and made the network."""

MOST_AHEAD = 2
"""Blocks that are read and written beside the one computed."""

_BATCHED_MB = 4000
"""Of a GPU: workspace of its library, and what a batch of tiles takes besides the first."""


def train(sections: Mapping[str, Any], model: Model, *, gpus: int) -> Work:
    """Every map of a step is kept for the way back; validation is one pass more per patch.

    A process for each GPU has all weights and its share of the batch.
    """
    net, recipe, augment = model.model, model.train, sections["augment"]
    axes = augment.patch if net.dimensions == 3 else augment.patch[1:]
    passed = 2 * multiply_adds(net, axes)
    every = recipe.steps // recipe.validate_every
    validated = every * augment.validation_patches
    processes = max(1, gpus)
    patches = -(-recipe.batch // processes)
    held = _COPIES * 4 * parameters(net) / 1e6 + _MAPS_KEPT * maps_mb(net, axes) * patches
    read = recipe.batch * prod(augment.patch) * (2 * net.channels + 3) * recipe.steps
    return Work(
        units=processes,
        need_mb=GPU_PROCESS_MB if gpus else _TRAIN_MB + held,
        spare_mb=0,
        driver_mb=NET_MB if gpus > 1 else 0,
        gpu_mb=_BATCHED_MB + held if gpus else 0,
        seconds=read / 1e9,
        flops=passed * (3.0 * recipe.batch * recipe.steps + validated),
    )


def tile_of(
    config: InferConfig,
    models: Sequence[NetworkConfig],
    extent: Extent,
    *,
    gpu: bool,
    windows: Sequence[Windows | None] = (),
) -> int:
    """Voxels per side of a part: as set, or about what will be chosen.

    `windows`: how each network is laid, None: in exact tiles; empty: all of them.
    """
    if config.tile_px != "auto":
        return int(config.tile_px)
    dimensions = max(model.dimensions for model in models)
    along = config.downsample[3 - dimensions :]
    tiled = [model for model, each in zip_longest(models, windows) if each is None]
    strides = (geometry_of(model).stride[3 - dimensions :] for model in tiled)
    step = lcm(*(n for stride in strides for n in stride), *along)
    if laid := [each for each in windows if each]:
        return part_sizes(laid, step=step, shard=extent.fitted[1], shape=extent.shape)[-1]
    wanted, most = _GUESSED_PX[dimensions, gpu], max(extent.shape[1:])
    side = min(max(extent.block[1:]), most)
    parts = [-(-side // k) for k in range(1, 9)] + [side * 2**n for n in range(1, 6)]
    sizes = [-(-px // step) * step for px in parts if px <= max(most, side)]
    return int(min(sizes, key=lambda px: abs(log(px / wanted))))


def infer(
    sections: Mapping[str, Any],
    models: Sequence[NetworkConfig],
    extent: Extent,
    *,
    threads: int,
    gpus: int,
) -> Work:
    """One unit of shards read, one computed and one written, and the passes at a time."""
    config: InferConfig = sections["infer"]
    patch = sections["augment"].patch
    windows = [windows_for(config, each, shape=extent.shape, patch=patch) for each in models]
    tile = tile_of(config, models, extent, gpu=bool(gpus), windows=windows)
    deep = any(model.dimensions == 3 for model in models)
    shard = extent.fitted[1]
    sides = (tile if deep else 1, tile, tile)
    z, y, x = (
        min(-(-side // s) * s, n) for side, s, n in zip(sides, shard, extent.shape, strict=True)
    )
    unit = (z, y, x)
    tiles = [min(side, n) for side, n in zip(sides, unit, strict=True)]
    within = _within(config, extent.shape)
    units = counted(within, unit)
    passes = max(1, threads // units)
    width = 2 if config.precision == "bfloat16" else 4
    laid = list(zip(models, windows, strict=True))
    most = max(_pass_mb(config, model, each, tiles, width) for model, each in laid)
    weights = sum(map(weights_mb, models))
    arrays = _arrays_mb(config, laid, extent, unit)
    at_once = min(passes, counted(unit, sides))
    on_cpu = NET_MB + arrays + at_once * most * KEPT + weights
    per_voxel = sum(
        config.views(model.dimensions) * _per_voxel(model, each, tiles, unit)
        for model, each in laid
    )
    return Work(
        units=units,
        need_mb=GPU_PROCESS_MB + arrays if gpus else on_cpu,
        spare_mb=0 if gpus else 300,
        driver_mb=NET_MB - 350,
        seconds=_IMPORT_S + 0.01 * prod(within) / 1e6,
        flops=prod(within) * per_voxel,
        gpu_mb=_BATCHED_MB + most + weights if gpus else 0,
    )


def _pass_mb(
    config: InferConfig,
    model: NetworkConfig,
    windows: Windows | None,
    tiles: Sequence[int],
    width: int,
) -> float:
    """Memory (MB) of a pass; in windows also of what their results are summed in."""
    if windows:
        return windowed_mb(model, windows, tiles, config, bytes_per_value=width)
    averaged = config.averaging != "none"
    return pass_mb(model, _seen(model, tiles), bytes_per_value=width, averaged=averaged)


def _seen(model: NetworkConfig, tiles: Sequence[int]) -> list[int]:
    """Sizes of the input, per axis that the network sees, of one pass without padding."""
    found = geometry_of(model)
    axes = zip(tiles, found.stride, found.halo, strict=True)
    return [-(-n // stride) * stride + 2 * halo for n, stride, halo in axes][3 - model.dimensions :]


def _per_voxel(
    model: NetworkConfig, windows: Windows | None, tiles: Sequence[int], unit: Zyx
) -> float:
    """Operations per voxel that is stored, halo and what is computed again included."""
    if windows is None:
        return 2 * tile_work(model, _seen(model, tiles)) / prod(tiles[3 - model.dimensions :])
    passes = windows.count * windows.repeated(unit)
    each = 2 * multiply_adds(model, windows.seen_size[3 - model.dimensions :])
    return passes * each / prod(windows.shape)


def _within(config: InferConfig, shape: Zyx) -> list[int]:
    """Voxels that are computed."""
    if config.region is None:
        return list(shape)
    pairs = zip(config.region, shape, strict=True)
    return [max(1, min(stop, n) - min(start, n)) for (start, stop), n in pairs]


def _arrays_mb(
    config: InferConfig,
    laid: Sequence[tuple[NetworkConfig, Windows | None]],
    extent: Extent,
    unit: Zyx,
) -> float:
    """Voxels of all units in flight, at the worst moment: raw as seen and decoded, and results."""
    reads = [
        windows.most_read(unit)
        if windows
        else [n + 2 * halo for n, halo in zip(unit, geometry_of(model).halo, strict=True)]
        for model, windows in laid
    ]
    read = [max(along) for along in zip(*reads, strict=True)]
    seen = prod(read) * extent.voxel_bytes
    decoded = whole_chunks(read, chunk=extent.fitted[0], shape=extent.shape) * extent.voxel_bytes
    classes = len(config.stored(laid[0][0].classes))
    stored = itemsize_of(config.dtype) * classes * prod(unit) / prod(config.downsample)
    return in_flight_mb(seen, decoded, stored, ahead=MOST_AHEAD)


def whole_chunks(box: Sequence[int], *, chunk: Sequence[int], shape: Sequence[int]) -> int:
    """Most voxels of whole chunks that a box of so many voxels (z, y, x) touches in a volume."""
    axes = zip(box, chunk, shape, strict=True)
    return prod(min(n, (-(-(size - 1) // c) + 1) * c) for size, c, n in axes)


def in_flight_mb(seen: float, decoded: float, stored: float, *, ahead: int) -> float:
    """Memory (MB) of the voxels of all blocks in flight, at the worst moment.

    Parameters
    ----------
    seen, decoded, stored
        Bytes of what is read for one block, of the chunks that hold it, and of its result.
    ahead
        Blocks in flight besides the one that is computed, 0 to 2.
    """
    reading = seen + max(seen, decoded)  # beyond the volume's edge mirrored by a copy
    writing = 2 * stored  # while they are encoded
    waiting = max(seen, stored)
    if not ahead:
        return max(seen + stored, reading, writing) / 1e6
    others = ([reading, writing], [reading, waiting], [writing, waiting])
    most = max(sum(sorted(pair, reverse=True)[:ahead]) for pair in others)
    return (seen + stored + most) / 1e6
