"""The volume sheet: one row per volume, tab-separated, refused row by row in the user's terms."""

import csv
import difflib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from glob import has_magic, iglob
from pathlib import Path

from unet_core.config.data import VolumeConfig
from unet_core.config.load import load
from unet_core.errors import ConfigError

FOLDS = ("train", "validation", "test", "predict")
"""What a volume is for; predict: labels are made, nothing is trained, chosen or scored on it."""

COLUMNS = ("name", "raw", "truth", "fold", "voxel_size_nm", "sections", "mask", "batch")
REQUIRED = ("name", "raw", "fold")

IMAGES = ("raw", "truth", "mask")
"""Columns that name files; each is converted to a store of its own."""

MOST_OF_BATCH = 200
"""Volumes of one batch: the names of all its stores stand in one command."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_EMPTY = ("", "-")


@dataclass(frozen=True, kw_only=True)
class Volume:
    """One row of the sheet."""

    name: str
    """Names the volume's folder below results/volumes."""

    raw: str
    """File, folder or glob of a series, or FILE.h5::DATASET; where it lies, variables expanded."""

    truth: str | None
    """Like raw; None where nobody annotated the volume."""

    mask: str | None
    """Like raw; where it is not 0 the volume is computed; None: everywhere."""

    fold: str
    """One of FOLDS."""

    settings: VolumeConfig
    """Voxel size and sections."""

    batch: str | None
    """Volumes of one batch are inferred by one job; None: by a job of its own."""

    row: str
    """Where the row stands, for messages: ``config/volumes.tsv, line 2 (ring)``."""

    def has(self, image: str) -> bool:
        """The row has files of `image`, one of IMAGES."""
        return getattr(self, image) is not None

    def source(self, image: str) -> str:
        """The files of `image`, one of IMAGES; ConfigError where the column is empty."""
        found: str | None = getattr(self, image)
        if found is None:
            raise ConfigError(f"{self.row}: column {image} is empty")
        return found

    def absent(self, image: str) -> list[str]:
        """The files of `image`, one of IMAGES, where none is there, else nothing."""
        return [self.source(image)] if missing(self.source(image)) else []


def read_sheet(path: Path, *, data: Path) -> tuple[Volume, ...]:
    """All volumes of the sheet `path`, in its order.

    Lines that are empty or start with # are skipped. Relative files are looked for in `data`.

    Raises
    ------
    ConfigError
        Naming the line, the volume and the column: what was given, what is needed.
    """
    if not path.is_file():
        raise ConfigError(
            f"volumes: no file {path}; write one row per volume there, tab-separated, with the "
            f"columns {', '.join(COLUMNS)} (config/README.md), or name another file"
        )
    volumes: dict[str, Volume] = {}
    for where, cells in _rows(path):
        volume = _volume(where, cells, data)
        if (first := volumes.get(volume.name)) is not None:
            raise ConfigError(f"{volume.row}: this name is taken by {first.row}; rename one")
        volumes[volume.name] = volume
    if not volumes:
        raise ConfigError(f"{path} has no row; write one row per volume")
    _check_batches(volumes)
    return tuple(volumes.values())


def missing(source: str) -> bool:
    """No file, folder or series is at `source`."""
    name = source.partition("::")[0]
    return not (Path(name).exists() or (has_magic(name) and any(iglob(name))))  # noqa: PTH207


def _rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    header: list[str] | None = None
    with path.open(encoding="utf-8-sig", newline="") as file:
        for number, cells in enumerate(csv.reader(file, delimiter="\t"), start=1):
            cells = [cell.strip() for cell in cells]
            if not any(cells) or cells[0].startswith("#"):
                continue
            where = f"{path}, line {number}"
            if header is None:
                header = cells
                _check_header(where, header)
                continue
            if len(cells) > len(header):
                raise ConfigError(
                    f"{where}: {len(cells)} cells, but the header has {len(header)} columns; "
                    "cells are separated by one tab each"
                )
            yield where, dict(zip(header, cells, strict=False))


def _check_header(where: str, header: list[str]) -> None:
    for column in header:
        if column not in COLUMNS:
            near = difflib.get_close_matches(column, COLUMNS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known columns: {', '.join(COLUMNS)}"
            raise ConfigError(f"{where}: unknown column {column!r}; {hint}")
    if twice := {column for column in header if header.count(column) > 1}:
        raise ConfigError(f"{where}: column {min(twice)} stands there twice")
    if lacking := [column for column in REQUIRED if column not in header]:
        raise ConfigError(
            f"{where}: column {lacking[0]} is missing; the header, separated by tabs, is "
            f"{' '.join(COLUMNS)}"
        )


def _volume(where: str, cells: Mapping[str, str], data: Path) -> Volume:
    def cell(column: str) -> str:
        value = cells.get(column, "")
        return "" if value in _EMPTY else value

    name = cell("name")
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{where}: name {name!r} cannot name a folder; use letters, digits, - and _, "
            "starting with a letter or digit"
        )
    row = f"{where} ({name})"
    fold, raw, truth, mask = cell("fold"), cell("raw"), cell("truth"), cell("mask")
    batch = cell("batch")
    if fold not in FOLDS:
        raise ConfigError(f"{row}: fold {fold!r} is none of {', '.join(FOLDS)}")
    if not raw:
        raise ConfigError(f"{row}: column raw is empty; give a file, a folder or a series")
    if fold != "predict" and not truth:
        raise ConfigError(
            f"{row}: fold {fold} needs truth, but column truth is empty; give its file, or set "
            "fold to predict"
        )
    if batch and not _NAME.fullmatch(batch):
        raise ConfigError(
            f"{row}: batch {batch!r} cannot name a job; use letters, digits, - and _, starting "
            "with a letter or digit"
        )
    return Volume(
        name=name,
        raw=locate(raw, data, row=row),
        truth=locate(truth, data, row=row) if truth else None,
        mask=locate(mask, data, row=row) if mask else None,
        fold=fold,
        settings=_settings(row, cell("voxel_size_nm"), cell("sections")),
        batch=batch or None,
        row=row,
    )


def locate(text: str, data: Path, *, row: str) -> str:
    """`text` with ``~`` and ``$VARIABLES`` expanded; relative paths are below `data`.

    Raises
    ------
    ConfigError
        If a variable is not set; `row` says where.
    """
    expanded = os.path.expandvars(os.path.expanduser(text))  # noqa: PTH111
    if unknown := re.search(r"\$\{?\w+\}?", expanded):
        raise ConfigError(
            f"{row}: {text} needs the environment variable {unknown[0]}, which is not set; set "
            "it, or write the path itself"
        )
    return str(data / expanded)


def _check_batches(volumes: Mapping[str, Volume]) -> None:
    batches: dict[str, list[Volume]] = {}
    for volume in volumes.values():
        if volume.batch is not None:
            batches.setdefault(volume.batch, []).append(volume)
    for name, members in batches.items():
        told = f"{members[0].row}: batch {name}"
        # Logs and benchmarks of jobs are named after volumes and batches.
        if (same := volumes.get(name)) is not None:
            raise ConfigError(f"{told} has the name of a volume ({same.row}); rename one of them")
        if len(members) > MOST_OF_BATCH:
            raise ConfigError(
                f"{told} has {len(members)} volumes, a command takes at most {MOST_OF_BATCH}; "
                "spread them over several batches"
            )
        # All labels wait for those of fold validation, and are looked at again after them.
        validating = [volume for volume in members if volume.fold == "validation"]
        if validating and len(validating) < len(members):
            other = next(volume for volume in members if volume.fold != "validation")
            raise ConfigError(
                f"{validating[0].row}: batch {name} holds volumes of fold validation and others, "
                f"such as {other.row}; give those of fold validation a batch of their own"
            )


def _settings(row: str, voxel_size_nm: str, sections: str) -> VolumeConfig:
    settings: dict[str, list[float] | list[int]] = {}
    try:
        if voxel_size_nm:
            settings["voxel_size_nm"] = [float(part) for part in voxel_size_nm.split(",")]
        if sections:
            settings["sections"] = [int(part) for part in sections.split(":")]
    except ValueError:
        settings = {"sections": []}
    lengths = {"voxel_size_nm": 3, "sections": 2}
    if any(len(value) != lengths[key] for key, value in settings.items()):
        raise ConfigError(
            f"{row}: voxel_size_nm is three numbers z,y,x, such as 50,4,4, and sections is "
            f"first:stop, such as 0:24 (or both empty); got {voxel_size_nm!r} and {sections!r}"
        )
    try:
        return load(VolumeConfig, settings, section=row)
    except ConfigError as error:
        raise ConfigError(f"{row}: {error}") from None
