"""Where a patch is centred: anywhere, on a border, on a class, and not where one class is all."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
from numpy.typing import NDArray

from unet_core.config import AugmentConfig
from unet_core.geometry import Box, Zyx
from unet_core.ops.boundary import IGNORED_CLASS

ByteArray = NDArray[np.uint8]

_WINDOW_PX = 128
"""Borders and classes are looked for in windows of a fixed grid of this many pixels (a chunk of
the store)."""

_TRIES = 64
"""Windows that are looked at before a patch that should show a border is placed anywhere, and
voxels before one that should not show background is."""

_TRIES_FOR_CLASS = 256
"""Windows that are looked at for one class, before another is taken."""

_REDRAWS = 10

ReadTarget = Callable[[int, Box], ByteArray]
"""Target of (volume, box), a box within the volume: (z, y, x)."""

Place = tuple[int, Zyx]
"""A volume, and a voxel (z, y, x) in it."""


@dataclass(frozen=True)
class Scene:
    """The volumes that patches are taken from."""

    shapes: Sequence[Zyx]
    """Voxels (z, y, x) of each; at least one voxel in all."""

    read_target: ReadTarget
    """Only asked where the settings say more than anywhere."""

    classes: Sequence[int] = (1,)
    """Classes above 0 that occur in them."""

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """Voxels of the first volume, of the first two, and so on: there may be thousands."""
        return np.cumsum([prod(shape) for shape in self.shapes], dtype=np.int64)


def draw_place(
    rng: np.random.Generator, config: AugmentConfig, scene: Scene, *, scale: float = 1.0
) -> Place:
    """The centre of a patch; again, a few times, where one class takes too much of it.

    `scale`: by which the patch is enlarged, so that it shows less.
    """
    place = _place(rng, config, scene)
    if config.largest_share < 1:
        z, y, x = config.patch
        shown = (z, max(1, round(y / scale)), max(1, round(x / scale)))
        for further in rng.spawn(_REDRAWS):
            if _share_of_largest(place, shown, scene) < config.largest_share:
                break
            place = _place(further, config, scene)
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


def _place(rng: np.random.Generator, config: AugmentConfig, scene: Scene) -> Place:
    # One stream per purpose, and the kind drawn first: another share of one kind leaves the
    # patches of the others where they were.
    anywhere, kind, choice = rng.spawn(3)
    on_class, again = rng.spawn(2)
    place = _any_voxel(anywhere, scene)
    drawn = kind.random()
    if drawn < config.border_bias:
        return _on_border(kind, choice, scene) or place
    if drawn < config.border_bias + config.foreground_share:
        return _on_class(on_class, scene) or place
    if config.background_chance < 1:
        return _thinned(again, place, config.background_chance, scene)
    return place


def _on_border(rng: np.random.Generator, choice: np.random.Generator, scene: Scene) -> Place | None:
    for _ in range(_TRIES):
        place = _any_voxel(rng, scene)
        box, section = _window(place, scene)
        if (voxel := _one_of(border_voxels(section), box, choice)) is not None:
            return place[0], voxel
    return None


def _on_class(rng: np.random.Generator, scene: Scene) -> Place | None:
    """A voxel of a class that is drawn first; of another one where that is not found."""
    if not scene.classes:
        return None
    windows, choice = rng.spawn(2)
    wanted = scene.classes[int(rng.integers(len(scene.classes)))]
    other: Place | None = None
    for _ in range(_TRIES_FOR_CLASS):
        place = _any_voxel(windows, scene)
        box, section = _window(place, scene)
        if (voxel := _one_of(section == wanted, box, choice)) is not None:
            return place[0], voxel
        if other is None:
            above = (section != 0) & (section != IGNORED_CLASS)
            voxel = _one_of(above, box, choice)
            other = (place[0], voxel) if voxel else None
    return other


def _thinned(rng: np.random.Generator, place: Place, chance: float, scene: Scene) -> Place:
    """`place`, or one drawn again, until it is of a class above 0 or the chance keeps it."""
    first = place
    for _ in range(_TRIES):
        volume, voxel = place
        end = (voxel[0] + 1, voxel[1] + 1, voxel[2] + 1)
        found = int(scene.read_target(volume, Box(voxel, end)).item())
        if found != IGNORED_CLASS and (found or rng.random() < chance):
            return place
        place = _any_voxel(rng, scene)
    return first


def _share_of_largest(place: Place, patch: Zyx, scene: Scene) -> float:
    """Of the voxels with a class in a patch that is not deformed; 1 where there are none."""
    volume, centre = place
    z, y, x = (c - n // 2 for c, n in zip(centre, patch, strict=True))
    box = Box((z, y, x), (z + patch[0], y + patch[1], x + patch[2])).clip(scene.shapes[volume])
    counts = np.bincount(scene.read_target(volume, box).ravel(), minlength=IGNORED_CLASS + 1)
    known = counts[:IGNORED_CLASS]
    return float(known.max() / known.sum()) if known.any() else 1.0


def _any_voxel(rng: np.random.Generator, scene: Scene) -> Place:
    number = int(rng.integers(int(scene.ends[-1])))
    volume = int(np.searchsorted(scene.ends, number, side="right"))
    shape = scene.shapes[volume]
    z, y, x = np.unravel_index(number - int(scene.ends[volume]) + prod(shape), shape)
    return volume, (int(z), int(y), int(x))


def _window(place: Place, scene: Scene) -> tuple[Box, ByteArray]:
    """The window of the grid that a voxel lies in, and its target (y, x)."""
    volume, voxel = place
    z, y, x = voxel[0], *(a // _WINDOW_PX * _WINDOW_PX for a in voxel[1:])
    box = Box((z, y, x), (z + 1, y + _WINDOW_PX, x + _WINDOW_PX)).clip(scene.shapes[volume])
    return box, scene.read_target(volume, box)[0]


def _one_of(wanted: NDArray[np.bool_], box: Box, choice: np.random.Generator) -> Zyx | None:
    """One of the pixels of a window that are wanted, if there are any."""
    found = np.flatnonzero(wanted)
    if not len(found):
        return None
    y, x = np.unravel_index(found[choice.integers(len(found))], wanted.shape)
    return box.start[0], box.start[1] + int(y), box.start[2] + int(x)
