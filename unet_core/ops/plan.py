"""Which patch comes from where and is deformed how: one row per patch, drawn before any is made.

Row i depends on the seed, the fold, i and the volumes alone: not on how many patches there are, on
who makes them or in which order.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from unet_core.config import AugmentConfig
from unet_core.geometry import Box, Zyx
from unet_core.ops import elastic, symmetry
from unet_core.ops.affinities import affinities_of
from unet_core.ops.colours import Colours, draw_colours, recoloured
from unet_core.ops.intensity import (
    Jitter,
    Normaliser,
    draw_jitter,
    jitter,
    normalise,
    range_of,
    restored,
)
from unet_core.ops.placement import Scene, draw_place

FloatArray = NDArray[np.float32]
ByteArray = NDArray[np.uint8]
HalfArray = NDArray[np.float16]

Fold = Literal["train", "validation"]

_FOLD_CODES: dict[Fold, int] = {"train": 0, "validation": 1}

_LARGEST_HALF = float(np.finfo(np.float16).max)


@dataclass(frozen=True, eq=False)
class Row:
    """All that decides one patch."""

    volume: int
    """Index into the volumes."""

    centre: Zyx
    """Voxel (z, y, x) of that volume at ``shape // 2`` of the undeformed patch."""

    code: int
    """Symmetry of the section, 0 to 7."""

    flip_z: bool
    """Whether the sections come in reverse order."""

    angle: float
    """Rotation in the section, radians."""

    scale: float
    """By which the section is enlarged."""

    grid: FloatArray
    """(2, k, k) displacements at the nodes, pixels, (y, x); the same for all sections."""

    jitter: Jitter
    """Of the normalised intensities."""

    colours: Colours
    """Of red, green and blue, before they are normalised."""


@dataclass(frozen=True, eq=False)
class Patch:
    """One training example."""

    raw: HalfArray
    """(c, z, y, x), normalised and jittered."""

    target: ByteArray
    """(z, y, x), class per voxel, or (offsets, z, y, x), affinities; 255 ignored."""

    border: HalfArray
    """(z, y, x), border term of the loss weight, >= 0."""


def config_of(config: AugmentConfig, fold: Fold) -> AugmentConfig:
    """What is drawn for `fold`: the validation patches are neither deformed nor jittered."""
    if fold == "train":
        return config
    return replace(
        config,
        patches=config.validation_patches,
        elastic_sd_px=0.0,
        symmetries=False,
        rotation=False,
        scale=(1.0, 1.0),
        jitter="normalised",
        contrast=0.0,
        brightness=0.0,
        saturation=0.0,
        hue=0.0,
        noise_sd=0.0,
    )


def draw_row(
    index: int,
    config: AugmentConfig,
    *,
    fold: Fold,
    scene: Scene,
) -> Row:
    """Row `index` of the plan; `config` of `config_of(..., fold)`."""
    drawn = np.random.default_rng([config.seed, _FOLD_CODES[fold], index])
    # One stream per purpose, and every draw made whether it is used or not: switching one kind of
    # deformation on or off leaves all else as it was.
    place, turn, bend, grey, zoom, colour = drawn.spawn(6)
    scale = float(zoom.uniform(*config.scale))
    volume, centre = draw_place(place, config, scene, scale=scale)
    code, flip_z = int(turn.integers(8)), bool(turn.integers(2))
    angle = float(turn.uniform(-np.pi, np.pi))
    kept = {True: 7, "left_right": 1, False: 0}[config.symmetries]
    coloured = config.jitter == "colours"
    return Row(
        volume=volume,
        centre=centre,
        code=code & kept,
        flip_z=flip_z and config.symmetries is True,
        angle=angle if config.rotation else 0.0,
        scale=scale,
        grid=elastic.draw_displacement(bend, config.elastic_nodes, config.elastic_sd_px),
        jitter=draw_jitter(
            grey,
            contrast=0.0 if coloured else config.contrast,
            brightness=0.0 if coloured else config.brightness,
            noise_sd=config.noise_sd,
        ),
        colours=draw_colours(
            colour,
            brightness=config.brightness,
            contrast=config.contrast,
            saturation=config.saturation,
            hue=config.hue,
        )
        if coloured
        else Colours(),
    )


def source_of(row: Row, patch: Zyx) -> tuple[Box, FloatArray]:
    """What a patch is made from: a box of its volume, and where its pixels lie in it.

    Parameters
    ----------
    patch
        Voxels (z, y, x) of the patch.

    Returns
    -------
    Box
        May reach beyond the volume, which is then mirrored.
    (2, y, x) float32
        Coordinates (y, x) in sections of the box, for `make_patch`.
    """
    z, y, x = patch
    coordinates = elastic.source_coordinates(
        (y, x), grid=row.grid, angle=row.angle, scale=row.scale, code=row.code
    )
    (y0, x0), (y1, x1) = elastic.reach(coordinates)
    before = symmetry.shape_before((y, x), row.code)
    z_start, y_start, x_start = (c - n // 2 for c, n in zip(row.centre, (z, *before), strict=True))
    box = Box((z_start, y_start + y0, x_start + x0), (z_start + z, y_start + y1, x_start + x1))
    coordinates -= np.array([y0, x0], np.float32)[:, None, None]
    return box, coordinates


def make_patch(
    row: Row,
    coordinates: FloatArray,
    *,
    raw: NDArray[np.generic],
    target: ByteArray | NDArray[np.uint32],
    border: FloatArray,
    by: Normaliser,
    offsets: Sequence[Zyx] = (),
) -> Patch:
    """The patch of a row, from the voxels of its box.

    Parameters
    ----------
    coordinates : (2, y, x)
        Of `source_of`.
    raw : (c, z, y', x'), any real type
        The box of `source_of` in the raw volume; of 3 channels where the row has colours.
    target, border : (z, y', x') uint8, float32
        The same box there; with `offsets` ids of objects (uint32) instead of classes.
    by
        Normaliser of the raw volume.
    offsets
        Of the affinities to learn: those of the deformed objects.
    """
    seen = elastic.warp(normalise(raw, by), coordinates, order=3)
    if row.colours != Colours():
        whole = np.float32(range_of(raw.dtype))
        seen = normalise(recoloured(restored(seen, by) / whole, row.colours) * whole, by)
    weight = elastic.warp(border, coordinates, order=1)
    step = -1 if row.flip_z else 1
    if offsets:
        # OpenCV knows no uint32; nearest voxels are copied bit by bit.
        ids = elastic.warp(target.view(np.int32), coordinates, order=0)[::step]
        learnt = affinities_of(ids.view(np.uint32), offsets)
    else:
        learnt = elastic.warp(target.astype(np.uint8, copy=False), coordinates, order=0)[::step]
    return Patch(
        raw=_half(jitter(seen, row.jitter)[:, ::step]),
        target=np.ascontiguousarray(learnt),
        border=_half(weight[::step]),
    )


def _half(array: FloatArray) -> HalfArray:
    """float16; what is beyond its range becomes its largest, never infinite."""
    return np.ascontiguousarray(array.clip(-_LARGEST_HALF, _LARGEST_HALF).astype(np.float16))
