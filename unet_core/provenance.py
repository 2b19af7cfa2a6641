"""What a result was made from: one name for (stage, settings, inputs), and digests of inputs.

Standard library only: the Snakefile uses this at every parse.
"""

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from glob import glob
from pathlib import Path
from typing import Any

from unet_core.config.load import canonical
from unet_core.config.versions import RESULT_VERSION
from unet_core.errors import RawFormatError

_WHOLE_SOURCE = 2**30
"""Sources of up to this many bytes in all are hashed whole: people paint truth in place."""

_WHOLE = 4 * 2**20
"""Files of larger sources of up to this many bytes are hashed whole."""

_SAMPLE = 64 * 2**10
"""Of their larger files the first, middle and last bytes are hashed, this many each."""

_ZARR_METADATA = (".zarray", ".zattrs", ".zgroup", ".zmetadata")

_MOST_SAMPLED = 64
"""Files of such a series or folder whose content is sampled; of all others the size counts."""


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


def source_digest(source: str, *, known: Path | None = None) -> str:
    """Digest of a raw source by content: blind to file times and places.

    All bytes of sources of up to 1 GiB. Of larger ones names and sizes of all files, and of at
    most 64 files, evenly spread, the content: whole up to 4 MiB, else first, middle and last
    64 KiB. A change of those that misses all samples is not seen: remove the store made of it
    and its ledger then (config/README.md).

    Parameters
    ----------
    source
        File, folder, glob, or ``FILE.h5::DATASET``.
    known
        File that remembers digests by size and time of the files, so that only what was touched
        is read again; it may be removed at any time.
    """
    files = source_files(source)
    sizes = [path.stat().st_size for path in files]
    whole = sum(sizes) <= _WHOLE_SOURCE
    step = 1 if whole else max(1, -(-len(files) // _MOST_SAMPLED))
    memory = _Memory(known)
    parts = [source.partition("::")[2].encode()]
    for number, (path, size) in enumerate(zip(files, sizes, strict=True)):
        parts += [path.name.encode() if len(files) > 1 else b"", str(size).encode()]
        if number % step == 0:
            parts.append(memory.digest(path, whole=whole).encode())
    memory.save()
    return digest_of(parts)


class _Memory:
    """Digests of files by path, size and time of the last change, kept in a JSON file."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._entries: dict[str, Any] = {}
        self._changed = False
        if path is not None:
            with suppress(OSError, ValueError):
                self._entries = dict(json.loads(path.read_text(encoding="utf-8")))

    def digest(self, path: Path, *, whole: bool) -> str:
        stat, name = path.stat(), str(path.absolute())
        state = [stat.st_size, stat.st_mtime_ns, whole]
        entry = self._entries.get(name)
        if not isinstance(entry, list) or entry[:-1] != state:
            digest = digest_of(_bytes_of(path, stat.st_size, whole))
            entry = self._entries[name] = [*state, digest]
            self._changed = True
        return str(entry[-1])

    def save(self) -> None:
        if self._path is None or not self._changed:
            return
        with suppress(OSError):  # without it digests are computed again, no more
            self._path.parent.mkdir(parents=True, exist_ok=True)
            partial = self._path.with_name(f"{self._path.name}.{os.getpid()}.partial")
            partial.write_text(json.dumps(self._entries), encoding="utf-8")
            partial.replace(self._path)


def versions() -> dict[str, str]:
    """Versions of what computes results, for the record."""
    names = ("unet-core", "numpy", "scipy", "torch", "zarr", "tensorstore")
    return {name: importlib.metadata.version(name) for name in names}


def _stray(path: Path, folder: Path) -> bool:
    """A hidden file, or one in a hidden folder, that no reader reads."""
    if path.name in _ZARR_METADATA or not path.is_relative_to(folder):
        return False
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _bytes_of(path: Path, size: int, whole: bool) -> Iterator[bytes]:
    """All bytes of a file, or samples of a large one."""
    with path.open("rb") as file:
        if whole or size <= _WHOLE:
            while chunk := file.read(_WHOLE):
                yield chunk
            return
        for offset in (0, size // 2, size - _SAMPLE):
            file.seek(offset)
            yield file.read(_SAMPLE)
