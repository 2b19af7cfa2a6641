"""Which patch comes from where and is deformed how: one row per patch, drawn before any is made.

Row i depends on the seed, the fold, i and the volumes alone: not on how many patches there are, on
who makes them or in which order.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from unet_core.config import AugmentConfig
from unet_core.geometry import Box, Zyx
from unet_core.ops import elastic, symmetry
from unet_core.ops.boundary import IGNORED_CLASS
from unet_core.ops.intensity import Jitter, Normaliser, draw_jitter, jitter, normalise

FloatArray = NDArray[np.float32]
ByteArray = NDArray[np.uint8]
HalfArray = NDArray[np.float16]

Fold = Literal["train", "validation"]

_FOLD_CODES: dict[Fold, int] = {"train": 0, "validation": 1}

_WINDOW_PX = 128
"""Borders are looked for in windows of a fixed grid of this many pixels (a chunk of the store)."""

_TRIES = 64
"""Windows that are looked at before a patch that should show a border is placed anywhere."""

_LARGEST_HALF = float(np.finfo(np.float16).max)

ReadTarget = Callable[[int, Box], ByteArray]
"""Target of (volume, box), a box within the volume: (z, y, x)."""


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
    shapes: Sequence[Zyx],
    read_target: ReadTarget,
) -> Row:
    """Row `index` of the plan.

    Parameters
    ----------
    config
        Of `config_of(..., fold)`.
    shapes
        Voxels (z, y, x) of the volumes, at least one voxel in all.
    read_target
        Only asked where `config.border_bias` > 0.
    """
    drawn = np.random.default_rng([config.seed, _FOLD_CODES[fold], index])
    # One stream per purpose, and every draw made whether it is used or not: switching one kind of
    # deformation on or off leaves all else as it was.
    place, turn, bend, grey = drawn.spawn(4)
    volume, centre = _place(place, shapes, config.border_bias, read_target)
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


def _place(
    rng: np.random.Generator, shapes: Sequence[Zyx], border_bias: float, read_target: ReadTarget
) -> tuple[int, Zyx]:
    """A voxel of all volumes, or one on the border of an object: (volume, (z, y, x))."""
    anywhere, on_border, choice = rng.spawn(3)
    place = _any_voxel(anywhere, shapes)
    if on_border.random() >= border_bias:
        return place
    for _ in range(_TRIES):
        volume, voxel = _any_voxel(on_border, shapes)
        box = _window(voxel, shapes[volume])
        found = np.flatnonzero(border_voxels(read_target(volume, box)[0]))
        if len(found):
            y, x = np.unravel_index(found[choice.integers(len(found))], box.shape[1:])
            return volume, (voxel[0], box.start[1] + int(y), box.start[2] + int(x))
    return place


def border_voxels(target: ByteArray) -> NDArray[np.bool_]:
    """Pixels (y, x) of class 0 with a 4-neighbour of another class, neither of them ignored."""
    on = np.zeros(target.shape, bool)
    empty, full = target == 0, (target != 0) & (target != IGNORED_CLASS)
    on[1:] |= empty[1:] & full[:-1]
    on[:-1] |= empty[:-1] & full[1:]
    on[:, 1:] |= empty[:, 1:] & full[:, :-1]
    on[:, :-1] |= empty[:, :-1] & full[:, 1:]
    return on


def _any_voxel(rng: np.random.Generator, shapes: Sequence[Zyx]) -> tuple[int, Zyx]:
    ends = np.cumsum([prod(shape) for shape in shapes])
    number = int(rng.integers(int(ends[-1])))
    volume = int(np.searchsorted(ends, number, side="right"))
    within = number - int(ends[volume]) + prod(shapes[volume])
    z, y, x = np.unravel_index(within, shapes[volume])
    return volume, (int(z), int(y), int(x))


def _window(voxel: Zyx, shape: Zyx) -> Box:
    z, y, x = voxel[0], *(a // _WINDOW_PX * _WINDOW_PX for a in voxel[1:])
    return Box((z, y, x), (z + 1, y + _WINDOW_PX, x + _WINDOW_PX)).clip(shape)


def _half(array: FloatArray) -> HalfArray:
    """float16; what is beyond its range becomes its largest, never infinite."""
    return np.ascontiguousarray(array.clip(-_LARGEST_HALF, _LARGEST_HALF).astype(np.float16))
