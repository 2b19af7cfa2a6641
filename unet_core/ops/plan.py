"""Which patch comes from where and is deformed how: one row per patch, drawn before any is made.

Row i depends on the seed, the fold, i and the volumes alone: not on how many patches there are, on
who makes them or in which order.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from unet_core.config import AugmentConfig
from unet_core.geometry import Box, Zyx
from unet_core.ops import elastic, symmetry
from unet_core.ops.intensity import Jitter, Normaliser, draw_jitter, jitter, normalise
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

    grid: FloatArray
    """(2, k, k) displacements at the nodes, pixels, (y, x); the same for all sections."""

    jitter: Jitter
    """Of the intensities."""


@dataclass(frozen=True, eq=False)
class Patch:
    """One training example."""

    raw: HalfArray
    """(c, z, y, x), normalised and jittered."""

    target: ByteArray
    """(z, y, x), class per voxel, 255 ignored."""

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
        contrast=0.0,
        brightness=0.0,
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
    place, turn, bend, grey = drawn.spawn(4)
    volume, centre = draw_place(place, config, scene)
    code, flip_z = int(turn.integers(8)), bool(turn.integers(2))
    angle = float(turn.uniform(-np.pi, np.pi))
    return Row(
        volume=volume,
        centre=centre,
        code=code if config.symmetries else 0,
        flip_z=flip_z and config.symmetries,
        angle=angle if config.rotation else 0.0,
        grid=elastic.draw_displacement(bend, config.elastic_nodes, config.elastic_sd_px),
        jitter=draw_jitter(
            grey,
            contrast=config.contrast,
            brightness=config.brightness,
            noise_sd=config.noise_sd,
        ),
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
    coordinates = elastic.source_coordinates((y, x), grid=row.grid, angle=row.angle, code=row.code)
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
    target: ByteArray,
    border: FloatArray,
    by: Normaliser,
) -> Patch:
    """The patch of a row, from the voxels of its box.

    Parameters
    ----------
    coordinates : (2, y, x)
        Of `source_of`.
    raw : (c, z, y', x'), any real type
        The box of `source_of` in the raw volume.
    target, border : (z, y', x') uint8, float32
        The same box there.
    by
        Normaliser of the raw volume.
    """
    seen = elastic.warp(normalise(raw, by), coordinates, order=3)
    classes = elastic.warp(target, coordinates, order=0)
    weight = elastic.warp(border, coordinates, order=1)
    step = -1 if row.flip_z else 1
    return Patch(
        raw=_half(jitter(seen, row.jitter)[:, ::step]),
        target=np.ascontiguousarray(classes[::step]),
        border=_half(weight[::step]),
    )


def _half(array: FloatArray) -> HalfArray:
    """float16; what is beyond its range becomes its largest, never infinite."""
    return np.ascontiguousarray(array.clip(-_LARGEST_HALF, _LARGEST_HALF).astype(np.float16))
