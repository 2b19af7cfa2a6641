"""What a store of `unet-core infer` holds: which class where, and which voxels were computed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from unet_core.errors import ConfigError, StoreError
from unet_core.geometry import Box, Zyx, fine
from unet_core.io.arrays import Array, ZarrArray, mirrored, open_level, read, shard_of
from unet_core.io.masks import Mask, any_of, read_mask
from unet_core.io.ngff import attributes_of, content_of


@dataclass(frozen=True)
class Probabilities:
    """A finished store of probabilities; picklable, opens nothing until it is asked."""

    store: Path

    classes: tuple[int, ...]
    """Class of each channel."""

    total: int
    """Classes of the network, class 0 included."""

    downsample: Zyx
    """Raw voxels (z, y, x) that one voxel stands for."""

    region: Box | None
    """Voxels of the store that were asked for; None: all."""

    masked: str | None
    """Content of the mask (of raw's voxels) outside of which nothing was computed."""

    mask: Path | None
    """Its store, where it was given."""

    failed: tuple[Box, ...]
    """Voxels of the store that could not be computed."""

    sigmoid: bool
    """Every class above 0 was predicted by itself: they need not add up to 1 or less."""

    @property
    def is_whole(self) -> bool:
        """Every voxel was computed."""
        return self.region is None and self.masked is None and not self.failed

    def channel(self, number: int) -> int:
        """The channel of a class.

        Raises
        ------
        ConfigError
            If that class is not stored.
        """
        if number not in self.classes:
            raise ConfigError(
                f"objects.foreground is class {number}, {self.store} has the classes "
                f"{', '.join(map(str, self.classes))}; choose one of these, or add {number} to "
                "infer.classes"
            )
        return self.classes.index(number)

    def channels(self, numbers: Sequence[int]) -> list[int]:
        """Those of several classes; ConfigError as `channel`."""
        return [self.channel(number) for number in numbers]

    @property
    def ranked(self) -> list[int] | None:
        """Channels of classes 1, 2, …; None: not all are stored."""
        every = range(1, self.total)
        return self.channels(every) if set(every) <= set(self.classes) else None

    def computed(self, box: Box) -> Mask | None:
        """Which voxels of a box of the store were computed, (z, y, x); None: all."""
        if self.is_whole:
            return None
        inside = self._unmasked(box)
        if self.region is not None:
            asked = np.zeros(box.shape, bool)
            asked[_within(self.region, box)] = True
            inside &= asked
        for failed in self.failed:
            inside[_within(failed, box)] = False
        return inside

    @property
    def facts(self) -> dict[str, Any]:
        """What of it counts besides its voxels, for the inputs of who reads it; {} if whole.

        Raises
        ------
        StoreError
            If its mask was not given.
        """
        if self.is_whole:
            return {}
        if self.masked is not None and self.mask is None:
            raise StoreError(
                f"{self.store} was computed within a mask that is not given (--mask); give the "
                "one of its volume, or infer again with the mask there is now"
            )
        return {
            "computed": {
                "region": None if self.region is None else [self.region.start, self.region.stop],
                "mask": self.masked,
                "failed": [[failed.start, failed.stop] for failed in self.failed],
            }
        }

    def _unmasked(self, box: Box) -> Mask:
        if self.mask is None:
            return np.ones(box.shape, bool)
        shape = open_level(self.mask).shape
        inside = read_mask(self.mask, fine(box, self.downsample).clip(shape))
        return any_of(inside, self.downsample)


def open_probabilities(store: Path, masks: Sequence[Path] = ()) -> Probabilities:
    """A finished store of `unet-core infer`; of `masks` the one that it was computed within.

    Raises
    ------
    StoreError
        If `store` is no such store.
    """
    unet, level = attributes_of(store)["unet"], open_level(store)
    shape = level.shape
    names = unet.get("channels")
    if names is None or len(shape) != 4 or len(names) != shape[0]:
        raise StoreError(f"{store} holds no probabilities; make it with `unet-core infer`")
    z, y, x = unet.get("downsample", (1, 1, 1))
    region, masked = unet.get("region"), unet.get("mask")
    return Probabilities(
        store=store,
        classes=tuple(int(str(name).removeprefix("class ")) for name in names),
        total=int(unet["classes"]),
        downsample=(z, y, x),
        region=None if region is None else _stored(region, (z, y, x)).clip(shape[-3:]),
        masked=masked,
        mask=next((mask for mask in masks if content_of(mask) == masked), None),
        failed=tuple(_shard_at(name, level) for name in unet.get("failed", ())),
        sigmoid=_by_itself(unet.get("model")),
    )


def read_foreground(source: Probabilities, box: Box, classes: Sequence[int]) -> Array:
    """Probability, as stored, of a class or the mean of several: (z, y, x).

    Mirrored about the outermost voxels where `box` leaves the volume.
    """
    level = open_level(source.store)
    parts = [
        mirrored(partial(read, level, channel=channel), box, level.shape[-3:])
        for channel in source.channels(classes)
    ]
    if len(parts) == 1:
        return parts[0]
    mean = np.mean(parts, axis=0, dtype=np.float32)
    whole = parts[0].dtype.kind == "u"
    return (np.floor(mean + np.float32(0.5)) if whole else mean).astype(parts[0].dtype)


def _by_itself(models: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None) -> bool:
    """Whether the network, or one of an ensemble, has model.output sigmoid."""
    every = models if isinstance(models, Sequence) else [models or {}]
    return any(model.get("output") == "sigmoid" for model in every)


def _stored(region: Sequence[Sequence[int]], downsample: Zyx) -> Box:
    """Stored voxels that hold any voxel of a region of raw."""
    pairs = list(zip(region, downsample, strict=True))
    return _box([a // f for (a, _), f in pairs], [-(-b // f) for (_, b), f in pairs])


def _shard_at(name: str, level: ZarrArray) -> Box:
    """The block of a name, which is its first voxel."""
    start = [int(a) for a in name.split("-")]
    stop = [a + n for a, n in zip(start, shard_of(level), strict=True)]
    return _box(start, stop).clip(level.shape[-3:])


def _within(part: Box, box: Box) -> tuple[slice, slice, slice]:
    return part.intersection(box).relative_to(box.start).slices


def _box(start: Sequence[int], stop: Sequence[int]) -> Box:
    (z0, y0, x0), (z1, y1, x1) = start, stop
    return Box((z0, y0, x0), (z1, y1, x1))
