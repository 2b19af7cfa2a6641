"""How networks are laid over a volume: tiles, and what each network sees for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from math import lcm

from unet_core.config import InferConfig, NetworkConfig
from unet_core.config.networks.geometry import geometry_of
from unet_core.config.windowed import in_windows
from unet_core.geometry import Box, Tile, Tiling, Zyx, hull
from unet_core.net.windows import Windowed
from unet_core.windows import Windows

LEAST_PX = 192
"""Fewest voxels per side that a 2-D pass yields, unless tile_px is less: small inputs are given to
other kernels, which round otherwise. From here on, results have been the same bits whatever the
tile (2 to 4 poolings, width 8 to 64, float32 and bfloat16); in 3-D that would cost too much."""


@dataclass(frozen=True)
class Part:
    """What is computed at a time: voxels, and what each network sees for them."""

    core: Box
    tiles: tuple[Tile | Windowed, ...]
    """Of each network."""

    @property
    def read(self) -> Box:
        """All that is seen."""
        return hull([tile.read for tile in self.tiles])


def steps_of(models: Sequence[NetworkConfig], config: InferConfig) -> Zyx:
    """Voxels on whose multiples tiles of all `models` start and end."""
    return _steps([each for each in models if not in_windows(config, each)], config.downsample)


def step_of(models: Sequence[NetworkConfig], config: InferConfig) -> int:
    """Of which sizes of tiles are multiples: of the steps along all axes that they extend along."""
    steps = steps_of(models, config)
    return lcm(*(steps if any(model.dimensions == 3 for model in models) else steps[1:]))


def _steps(tiled: Sequence[NetworkConfig], downsample: Zyx) -> Zyx:
    strides = [geometry_of(model).stride for model in tiled]
    z, y, x = (lcm(*along) for along in zip(downsample, *strides, strict=True))
    return z, y, x


def parts_of(
    models: Sequence[NetworkConfig],
    box: Box,
    *,
    tile_px: int,
    downsample: Zyx,
    sections: int = 1,
    windows: Sequence[Windows | None] = (),
) -> list[Part]:
    """Parts that hold every voxel of `box` once, in C order.

    `sections`: that a tile of 2-D networks holds, rounded up to a multiple of what is averaged.
    `windows`: how each network is laid over the volume, None: in exact tiles; empty: all of them.

    Raises
    ------
    PlanError
        If `tile_px` is no multiple of the strides.
    """
    tiled = [model for model, laid in zip_longest(models, windows) if laid is None]
    steps = _steps(tiled, downsample)
    deep = any(model.dimensions == 3 for model in models)
    sections = tile_px if deep else -(-sections // steps[0]) * steps[0]
    each: list[Sequence[Tile | Windowed]] = []
    for model, laid in zip_longest(models, windows):
        if laid is None:
            tiling = tiling_of(model, tile_px, steps=steps, sections=sections)
            each.append([_without_idle_sections(model, tile) for tile in tiling.tiles(box)])
        else:
            tiling = Tiling((sections, tile_px, tile_px), steps, (0, 0, 0), (0, 0, 0))
            each.append([Windowed(tile.core, laid) for tile in tiling.tiles(box)])
    return [Part(tiles[0].core, tiles) for tiles in zip(*each, strict=True)]


def _without_idle_sections(model: NetworkConfig, tile: Tile) -> Tile:
    """Of a 2-D network: without the sections on the way to the grid, which change nothing."""
    if model.dimensions == 3:
        return tile
    beside = model.sections // 2
    (z0, _, _), (z1, _, _) = tile.core.start, tile.core.stop
    (_, y0, x0), (_, y1, x1) = tile.read.start, tile.read.stop
    read = Box((z0 - beside, y0, x0), (z1 + beside, y1, x1))
    return Tile(tile.core, read, (0, *tile.inset[1:]))


def halo_of(models: Sequence[NetworkConfig]) -> Zyx:
    """Most voxels per side of a tile that any of `models` sees."""
    halos = [geometry_of(model).halo for model in models]
    z, y, x = (max(along) for along in zip(*halos, strict=True))
    return z, y, x


def tiling_of(
    model: NetworkConfig, tile_px: int, *, steps: Zyx = (1, 1, 1), sections: int = 1
) -> Tiling:
    """How `model` is laid over a volume; along z only if it is 3-D.

    Parameters
    ----------
    steps
        Tiles lie on common multiples of these and of the network's stride.
    sections
        Sections that a tile of a 2-D network holds; a multiple of ``steps[0]``.

    Raises
    ------
    PlanError
        If `tile_px` is no multiple of the strides.
    """
    deep = model.dimensions == 3
    found = geometry_of(model)
    z, y, x = (lcm(*pair) for pair in zip(found.stride, steps, strict=True))
    least = min(tile_px, -(-LEAST_PX // max(y, x)) * max(y, x))
    return Tiling(
        tile=(tile_px if deep else sections, tile_px, tile_px),
        stride=(z, y, x),
        halo=found.halo,
        lost=found.lost,
        least=(1, 1, 1) if deep else (1, least, least),
    )
