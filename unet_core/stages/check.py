"""Do the files of the sheet open, and do they fit each other and the settings? Headers only."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unet_core.config import ConvertConfig, InferConfig
from unet_core.config.extent import read_headers
from unet_core.config.sheet import IMAGES, Volume, read_sheet
from unet_core.errors import ConfigError, RawFormatError
from unet_core.io.arrays import open_level
from unet_core.io.atomic import write_json
from unet_core.io.ngff import factors_of
from unet_core.io.readers import open_raw
from unet_core.ops.downsample import level_factors
from unet_core.ops.masks import factors_between

Shape = tuple[int, ...]


def check_volumes(
    sheet: Path,
    *,
    data: Path,
    only: Sequence[str] = (),
    convert: ConvertConfig | None = None,
    infer: InferConfig | None = None,
    channels: Mapping[str, int] | None = None,
    stores: Path | None = None,
    headers: Path | None = None,
) -> None:
    """Refuse the rows of `sheet` whose files cannot become a volume, or not one as settings ask.

    Parameters
    ----------
    only
        Names, or all.
    convert, infer
        Are infer.region and infer.downsample possible in these volumes?
    channels
        That each model takes, by its name.
    stores
        Folder of what is converted already; of that no file is opened.
    headers
        JSON file that gets, for every file that was opened, ``shape`` (c, z, y, x), ``dtype`` and
        ``unit``, the voxels (z, y, x) that it stores together.

    Raises
    ------
    ConfigError
        One line per problem, naming row and column.
    """
    volumes = [v for v in read_sheet(sheet, data=data) if not only or v.name in only]
    settings = convert or ConvertConfig(), infer or InferConfig(), channels or {}
    seen: Headers = {}
    problems = [line for volume in volumes for line in _problems(volume, *settings, stores, seen)]
    if problems:
        raise ConfigError("\n".join(problems))
    if headers is not None:
        write_json(headers, {**read_headers(headers), **seen})


Headers = dict[str, dict[str, Any]]
"""Of files, by what the sheet says."""


@dataclass(frozen=True)
class _Image:
    """What is known of raw, truth or mask: from its store, or else from its file."""

    store: Path | None
    shape: Shape
    """(c, z, y, x), of a file before its sections are taken."""

    voxel_size_nm: tuple[float, float, float]

    def taken(self, sections: tuple[int, int] | None) -> Shape:
        """Voxels (z, y, x) of the volume."""
        _, z, y, x = self.shape
        if self.store is None and sections is not None:
            z = sections[1] - sections[0]
        return z, y, x


def _problems(
    volume: Volume,
    convert: ConvertConfig,
    infer: InferConfig,
    channels: Mapping[str, int],
    stores: Path | None,
    seen: Headers,
) -> list[str]:
    images, problems = {}, []
    for image in IMAGES:
        if volume.has(image):
            try:
                images[image] = _known(volume, image, stores, seen)
            except RawFormatError as error:
                problems.append(f"{image}: {error}")
    if not problems:
        problems += [*_misfits(volume, images), *_unseen(images["raw"], channels)]
    if not problems:
        problems += _beyond(volume, images, infer)
        problems += _unscored(volume, images, convert, infer)
    return [f"{volume.row}: {problem}" for problem in problems]


def _known(volume: Volume, image: str, stores: Path | None, seen: Headers) -> _Image:
    store = None if stores is None else stores / volume.name / f"{image}.ome.zarr"
    if store is not None and (store / "zarr.json").exists():
        shape = open_level(store).shape
        return _Image(store, shape if len(shape) == 4 else (1, *shape), (1.0, 1.0, 1.0))
    source = volume.source(image)
    opened = open_raw(source)
    if image != "raw":
        opened.refuse_lossy()
    seen[source] = {
        "shape": opened.shape,
        "dtype": opened.dtype.name,
        "unit": opened.unit,
        "voxel_size_nm": opened.voxel_size_nm,
    }
    size = volume.settings.voxel_size_nm or opened.voxel_size_nm or (1.0, 1.0, 1.0)
    return _Image(None, opened.shape, size)


def _misfits(volume: Volume, images: dict[str, _Image]) -> Iterator[str]:
    """What is not of one volume."""
    raw, truth, mask = images["raw"], images.get("truth"), images.get("mask")
    sections = volume.settings.sections
    if truth is not None:
        files = raw.store is None and truth.store is None
        equal = (
            raw.shape[1:] == truth.shape[1:]
            if files
            else raw.taken(sections) == truth.taken(sections)
        )
        if truth.shape[0] != 1 or not equal:
            yield (
                f"raw has {_told(raw.shape)}, truth has {_told(truth.shape)} (z y x); they must be "
                "equal voxel for voxel, and truth has one channel: correct the column raw or truth"
                f"{_helps(raw, truth)}"
            )
    if mask is not None and (
        mask.shape[0] != 1
        or factors_between(
            mask.shape[1:] if sections is None else mask.taken(sections), raw.taken(sections)
        )
        is None
    ):
        yield (
            f"raw has {_told(raw.shape)}, mask has {_told(mask.shape)} (z y x); a mask has one "
            "channel, and as many voxels as raw or fewer by whole factors: correct the column mask"
        )
    for name, image in images.items():
        there = image.shape[1]
        if image.store is None and sections is not None and sections[1] > there:
            yield (
                f"sections {sections[0]}:{sections[1]} end beyond the {there} sections of "
                f"{volume.source(name)}; the last that is possible: {sections[0]}:{there}"
            )


def _helps(raw: _Image, truth: _Image) -> str:
    """What is behind most of the truths that are not of their raw."""
    if truth.shape[0] != 1:
        return "; colours of truth become grey values, a number per class or object"
    if raw.shape[1] != truth.shape[1]:
        return "; sections that nobody annotated belong into a row of their own, of fold predict"
    return ""


def _unseen(raw: _Image, channels: Mapping[str, int]) -> Iterator[str]:
    """What no model takes: another number of channels than its own."""
    there = raw.shape[0]
    for model, taken in channels.items():
        if taken != there:
            yield (
                f"raw has {there} channel(s), model {model} takes {taken}: set model.channels to "
                f"{there} if all volumes have so many (red, green and blue are 3), or save this "
                f"one with {taken}"
            )


def _beyond(volume: Volume, images: dict[str, _Image], infer: InferConfig) -> Iterator[str]:
    """Where infer.region leaves the volume."""
    shape = images["raw"].taken(volume.settings.sections)
    for axis, n, (start, stop) in zip("zyx", shape, infer.region or (), strict=False):
        if stop > n:
            yield (
                f"infer.region asks for {start} to {stop} along {axis}, the volume has {n} voxels "
                "there; choose a region that lies in every volume of the sheet, or leave this row "
                "out"
            )


def _unscored(
    volume: Volume, images: dict[str, _Image], convert: ConvertConfig, infer: InferConfig
) -> Iterator[str]:
    """Truth that has no level of voxels as large as those that infer.downsample asks for."""
    truth, wanted = images.get("truth"), infer.downsample
    if wanted == (1, 1, 1) or truth is None or volume.fold == "predict":
        return
    if truth.store is not None:
        factors = factors_of(truth.store)
    else:
        z, y, x = truth.taken(volume.settings.sections)
        factors = level_factors(
            (z, y, x), truth.voxel_size_nm, smallest_px=convert.smallest_level_px
        )
    if wanted not in factors:
        yield (
            f"infer.downsample {list(wanted)}: the truth will have no level of such voxels to be "
            f"scored with; choose one of {', '.join(str(list(factor)) for factor in factors)}, "
            "make convert.smallest_level_px smaller for more levels, or set fold to predict"
        )


def _told(shape: Shape) -> str:
    channels = f"{shape[0]} channels of " if shape[0] > 1 else ""
    return channels + " x ".join(str(n) for n in shape[1:]) + " voxels"
