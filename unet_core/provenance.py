"""What a result was made from: one name for (stage, settings, inputs), and digests of inputs.

Standard library only: the Snakefile uses this at every parse.
"""

import hashlib
import importlib.metadata
import json
from collections.abc import Iterable, Iterator, Mapping
from glob import glob
from pathlib import Path
from typing import Any

from unet_core.config.load import canonical
from unet_core.config.versions import RESULT_VERSION
from unet_core.errors import RawFormatError

_WHOLE = 4 * 2**20
"""Files of up to this many bytes are hashed whole."""

_SAMPLE = 64 * 2**10
"""Of larger files the first, middle and last bytes are hashed, this many each."""

_ZARR_METADATA = (".zarray", ".zattrs", ".zgroup", ".zmetadata")

_MOST_SAMPLED = 64
"""Files of a series or a folder whose content is sampled; of all others the size counts."""


def fingerprint(stage: str, settings: Mapping[str, Any], inputs: Mapping[str, Any]) -> str:
    """Name of a piece of work: equal exactly when stage, version, settings and contents are.

    Parameters
    ----------
    stage
        Key of `RESULT_VERSION`.
    settings
        Section name to configuration dataclass (or JSON-able value).
    inputs
        Role to content digest, or to a list of them.
    """
    parts = {
        "stage": stage,
        "version": RESULT_VERSION[stage],
        "settings": plain(settings),
        "inputs": dict(inputs),
    }
    return digest_of([canonical(parts).encode()])


def record(stage: str, settings: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What every result says of its making: stage, fingerprint, settings, inputs, versions."""
    return {
        "stage": stage,
        "fingerprint": fingerprint(stage, settings, inputs),
        "settings": plain(settings),
        "inputs": dict(inputs),
        "versions": versions(),
    }


def plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as JSON types, all defaults filled in."""
    return {name: json.loads(canonical(value)) for name, value in settings.items()}


def digest_of(parts: Iterable[bytes | memoryview]) -> str:
    """Digest of a sequence of byte strings (BLAKE2b, 128 bits, hexadecimal)."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def source_files(source: str) -> list[Path]:
    """The files behind a raw or truth source, in name order: a file, a folder or a glob.

    ``FILE.h5::DATASET`` names the file alone. Hidden files of a folder are no part of it (file
    managers and network file systems leave them there), but for the metadata of zarr 2.

    Raises
    ------
    RawFormatError
        If there is none.
    """
    name = source.split("::")[0]
    path = Path(name)
    if path.is_file():
        return [path]
    found = path.rglob("*") if path.is_dir() else (Path(p) for p in glob(name))  # noqa: PTH207
    files = sorted(p for p in found if p.is_file() and not _stray(p, path))
    if not files:
        raise RawFormatError(
            f"{name}: no such file, folder or series; give a path that exists, or a glob in "
            "quotes that matches at least one file"
        )
    return files


def source_digest(source: str) -> str:
    """Digest of a raw source, cheap enough for every parse and blind to file times.

    Names and sizes of all files; content whole up to 4 MiB, of larger files first, middle and
    last 64 KiB; of folders and series with more than 64 files, 64 files evenly spread. A change
    that keeps all sizes and misses all samples is not seen: remove the store made of it and its
    ledger then (config/README.md).
    """
    files = source_files(source)
    step = max(1, -(-len(files) // _MOST_SAMPLED))
    parts = [source.partition("::")[2].encode()]
    for number, path in enumerate(files):
        size = path.stat().st_size
        parts += [path.name.encode() if len(files) > 1 else b"", str(size).encode()]
        if number % step == 0:
            parts += _samples(path, size)
    return digest_of(parts)


def versions() -> dict[str, str]:
    """Versions of what computes results, for the record."""
    names = ("unet-core", "numpy", "scipy", "torch", "zarr", "numcodecs")
    return {name: importlib.metadata.version(name) for name in names}


def _stray(path: Path, folder: Path) -> bool:
    """A hidden file, or one in a hidden folder, that no reader reads."""
    if path.name in _ZARR_METADATA or not path.is_relative_to(folder):
        return False
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _samples(path: Path, size: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        if size <= _WHOLE:
            yield file.read()
            return
        for offset in (0, size // 2, size - _SAMPLE):
            file.seek(offset)
            yield file.read(_SAMPLE)
