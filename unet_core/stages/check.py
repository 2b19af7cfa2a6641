"""Do the files of the sheet open, and do raw and truth fit each other? Headers only."""

from collections.abc import Sequence
from pathlib import Path

from unet_core.config.sheet import Volume, read_sheet
from unet_core.errors import ConfigError, RawFormatError
from unet_core.io.readers import shape_of


def check_volumes(sheet: Path, *, data: Path, only: Sequence[str] = ()) -> None:
    """Refuse the rows of `sheet` whose files cannot become a volume; `only`: names, or all.

    Raises
    ------
    ConfigError
        One line per problem, naming row and column.
    """
    volumes = [v for v in read_sheet(sheet, data=data) if not only or v.name in only]
    if problems := [problem for volume in volumes for problem in _problems(volume)]:
        raise ConfigError("\n".join(problems))


def _problems(volume: Volume) -> list[str]:
    shapes = {}
    problems = []
    for image in ("raw", "truth"):
        if not volume.has(image):
            continue
        try:
            shapes[image], _ = shape_of(volume.source(image))
        except RawFormatError as error:
            problems.append(f"{volume.row}: {image}: {error}")
    if problems:
        return problems
    raw = shapes["raw"]
    sections = raw[1]
    truth = shapes.get("truth", (1, *raw[1:]))
    if truth[0] != 1 or truth[1:] != raw[1:]:
        problems.append(
            f"{volume.row}: raw has {_told(raw)}, truth has {_told(truth)} (z y x); they must be "
            "equal voxel for voxel, and truth has one channel: correct the column raw or truth"
        )
    asked = volume.settings.sections
    if asked is not None and asked[1] > sections:
        problems.append(
            f"{volume.row}: sections {asked[0]}:{asked[1]} end beyond the {sections} sections of "
            f"{volume.raw}; the last that is possible: {asked[0]}:{sections}"
        )
    return problems


def _told(shape: tuple[int, ...]) -> str:
    channels = f"{shape[0]} channels of " if shape[0] > 1 else ""
    return channels + " x ".join(str(n) for n in shape[1:]) + " voxels"
