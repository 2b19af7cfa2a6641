"""Files of sharded arrays, read and written chunk by chunk in the thread that asks.

A shard is one file: its chunks, each compressed by itself, then a table of where they lie, then
the CRC-32C of the table (zarr 3, codec ``sharding_indexed``). Chunks of zeros alone are not stored.
"""

import itertools
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias
from uuid import uuid4

import google_crc32c
import numpy as np
import numpy.typing as npt
from numcodecs.blosc import Blosc
from numcodecs.zstd import Zstd

from unet_core.errors import AccessError, StoreError
from unet_core.io.atomic import replacing

Array = npt.NDArray[Any]
Slices: TypeAlias = tuple[slice, ...]

_ABSENT = 2**64 - 1
"""Offset and length of a chunk that is not stored."""

_SHUFFLES = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}


class Source(Protocol):
    """One file, here or on an object store."""

    def tail(self, size: int) -> bytes:
        """Its last `size` bytes, or all where it has fewer."""

    def parts(self, ranges: Sequence[tuple[int, int]]) -> Iterable[bytes]:
        """The bytes at each (offset, length), in order; fewer where the file ends."""


@contextmanager
def opened(folder: Path, name: str) -> Iterator["File"]:
    """The file `name` below `folder`."""
    with (folder / name).open("rb", buffering=0) as file:
        yield File(file.fileno())


@dataclass(frozen=True)
class File:
    """A file that is open under a number."""

    number: int

    def tail(self, size: int) -> bytes:
        """Its last `size` bytes, or all where it has fewer."""
        return os.pread(self.number, size, max(0, os.fstat(self.number).st_size - size))

    def parts(self, ranges: Sequence[tuple[int, int]]) -> Iterator[bytes]:
        """The bytes at each (offset, length), in order; fewer where the file ends."""
        for offset, length in ranges:
            yield os.pread(self.number, length, offset)


class Codec(Protocol):
    """A compressor of `numcodecs`."""

    def encode(self, buf: Any) -> bytes:
        """Compress."""

    def decode(self, buf: Any) -> bytes:
        """Decompress."""


@dataclass(frozen=True)
class Layout:
    """How an array is cut into shards and chunks, and how these are stored."""

    name: str
    """Path or address of the array, for messages."""

    shape: tuple[int, ...]
    shard: tuple[int, ...]
    chunk: tuple[int, ...]
    dtype: np.dtype[Any]
    """Little-endian."""

    codec: Codec | None
    checked: bool
    """Whether the CRC-32C of its bytes follows each chunk."""

    complete: bool
    """Whether every shard has a file, so that a missing one is a loss and not zeros."""

    folder: Path | None
    """Of the array, None at an address, where nothing is written."""

    opened: Callable[[str], AbstractContextManager[Source]]
    """Opens a file of the array by its name below the array; FileNotFoundError if absent."""

    threads: int = 1
    """Shards read at a time: more than 1 where a request mostly waits."""

    @property
    def grid(self) -> tuple[int, ...]:
        """Chunks of a shard, per axis."""
        return tuple(s // c for s, c in zip(self.shard, self.chunk, strict=True))

    def file(self, cell: Sequence[int]) -> str:
        """Name of the shard at a place in the grid of shards."""
        return "/".join(["c", *map(str, cell)])


def compressor(spec: Sequence[Any]) -> tuple[Codec | None, bool]:
    """The compressor, and whether checksums follow, that the metadata of an array's chunks name.

    Raises
    ------
    KeyError
        If they name others than are written here.
    """
    names = [entry["name"] for entry in spec]
    if names[:1] != ["bytes"] or names[1:] not in _KNOWN:
        raise KeyError(names)
    found: Codec | None = None
    for entry in spec[1:]:
        settings = entry.get("configuration", {})
        if entry["name"] == "zstd":
            found = Zstd(level=settings["level"], checksum=settings["checksum"])
        elif entry["name"] == "blosc":
            shuffle = _SHUFFLES[settings["shuffle"]]
            found = Blosc(settings["cname"], settings["clevel"], shuffle, settings["blocksize"])
    return found, "crc32c" in names


_KNOWN = [[*codec, *crc] for codec in ([], ["zstd"], ["blosc"]) for crc in ([], ["crc32c"])]


def read_box(layout: Layout, start: Sequence[int], stop: Sequence[int]) -> Array:
    """The values from `start` up to `stop`, one of each per axis.

    Raises
    ------
    StoreError
        If a chunk of it is damaged or a shard is lost; an `AccessError` if a file cannot be read.
    """
    shape = [b - a for a, b in zip(start, stop, strict=True)]
    out = np.empty(shape, dtype=layout.dtype)
    cells = list(_cells(start, stop, layout.shard))

    def fill(cell: tuple[int, ...]) -> None:
        _read_shard(layout, cell, start, out)

    if layout.threads > 1 and len(cells) > 1:
        with ThreadPoolExecutor(layout.threads) as pool:
            list(pool.map(fill, cells))
    else:
        for cell in cells:
            fill(cell)
    return out


def write_box(layout: Layout, start: Sequence[int], values: Array) -> None:
    """Write `values`, whose first lies at `start`, as files that each appear whole.

    They are whole shards, up to the array's edge. Equal values give equal bytes.

    Raises
    ------
    AccessError
        If a file cannot be written.
    StoreError
        If the array is at an address.
    """
    if layout.folder is None:
        raise StoreError(f"{layout.name} can be read and not written; write to a folder")
    stop = [a + n for a, n in zip(start, values.shape, strict=True)]
    for cell in _cells(start, stop, layout.shard):
        corner = [i * s for i, s in zip(cell, layout.shard, strict=True)]
        end = [min(a + s, b) for a, s, b in zip(corner, layout.shard, stop, strict=True)]
        path = layout.folder / layout.file(cell)
        try:
            # A writer that was given up for hung may wake while another writes the same file.
            with replacing(path, mark=uuid4().hex) as partial, partial.open("wb") as file:
                for part in _encoded(layout, values[_slices(corner, end, start)]):
                    file.write(part)
        except OSError as error:
            raise AccessError(
                error.errno,
                f"cannot write {path}: {error.strerror or error}; what is finished is kept: make "
                "room or mend the disk, then start the job again",
            ) from error


def _read_shard(layout: Layout, cell: tuple[int, ...], start: Sequence[int], out: Array) -> None:
    """Copy into `out`, whose first value lies at `start`, what it shares with a shard."""
    corner = [i * s for i, s in zip(cell, layout.shard, strict=True)]
    low = [max(0, a - b) for a, b in zip(start, corner, strict=True)]
    high = [
        min(s, a + n - b) for s, a, n, b in zip(layout.shard, start, out.shape, corner, strict=True)
    ]
    chunks = list(_cells(low, high, layout.chunk))
    boxes = [_within(layout, corner, chunk, start, out.shape) for chunk in chunks]
    name = layout.file(cell)
    try:
        with layout.opened(name) as source:
            table = _table(layout, source, name)
            stored = []
            for chunk, (into, of) in zip(chunks, boxes, strict=True):
                offset, length = (int(n) for n in table[chunk])
                if offset == _ABSENT:
                    out[into] = 0
                else:
                    stored.append((into, of, offset, length))
            data = source.parts([(offset, length) for _, _, offset, length in stored])
            for (into, of, _, length), part in zip(stored, data, strict=True):
                out[into] = _decoded(layout, part, length, name, into, start)[of]
    except FileNotFoundError:
        if layout.complete:
            raise StoreError(
                f"{layout.name}/{name} is lost, and with it the voxels from {_told(corner)} on: "
                f"{_MEND}"
            ) from None
        for into, _ in boxes:
            out[into] = 0
    except StoreError:
        raise
    except OSError as error:
        raise AccessError(
            error.errno,
            f"cannot read {layout.name}/{name}, which holds the voxels from {_told(corner)} on: "
            f"{error.strerror or error}; see to the disk or the network and start the job again",
        ) from error


_MEND = (
    "copy the file again from where it is whole, or delete the store with its .ledger.jsonl and "
    "rerun the stage that makes it"
)


def _table(layout: Layout, source: Source, name: str) -> npt.NDArray[np.uint64]:
    """Offset and length of every chunk of a shard, by its place in it."""
    size = 16 * int(np.prod(layout.grid)) + 4
    tail = source.tail(size)
    if len(tail) < size or google_crc32c.value(tail[:-4]) != struct.unpack("<I", tail[-4:])[0]:
        raise StoreError(f"{layout.name}/{name} is cut off or damaged at its end: {_MEND}")
    return np.frombuffer(tail[:-4], "<u8").reshape(*layout.grid, 2)


def _decoded(
    layout: Layout, part: bytes, length: int, name: str, into: Slices, start: Sequence[int]
) -> Array:
    """The values of one chunk."""
    try:
        if len(part) != length:
            raise ValueError("the file ends within it")
        if layout.checked:
            part, check = part[:-4], part[-4:]
            # Before the decompressor, which may crash on what is not its own.
            if google_crc32c.value(part) != struct.unpack("<I", check)[0]:
                raise ValueError("its checksum is another")
        raw = part if layout.codec is None else layout.codec.decode(part)
        return np.frombuffer(raw, layout.dtype).reshape(layout.chunk)
    except (ValueError, RuntimeError, struct.error) as error:
        first = [a + place.start for a, place in zip(start, into, strict=True)]
        last = [a + place.stop for a, place in zip(start, into, strict=True)]
        raise StoreError(
            f"{layout.name}/{name}: the chunk of the voxels {_told(first)}..{_told(last)} is "
            f"damaged ({error}): {_MEND}"
        ) from error


def _encoded(layout: Layout, values: Array) -> Iterator[bytes | memoryview]:
    """The bytes of a shard, chunk by chunk; only the part of it that lies in the array is given."""
    table = np.full((*layout.grid, 2), _ABSENT, dtype="<u8")
    offset = 0
    for chunk in _cells([0] * values.ndim, values.shape, layout.chunk):
        corner = [i * c for i, c in zip(chunk, layout.chunk, strict=True)]
        end = [a + c for a, c in zip(corner, layout.chunk, strict=True)]
        part = np.ascontiguousarray(values[_slices(corner, end, [0] * len(end))], layout.dtype)
        if not part.reshape(-1).view("u1").any():  # by bits: -0.0 is stored
            continue
        if part.shape != layout.chunk:
            padded = np.zeros(layout.chunk, layout.dtype)
            padded[tuple(map(slice, part.shape))] = part
            part = padded
        data = part.data.cast("B") if layout.codec is None else layout.codec.encode(part)
        yield data
        length = len(data)
        if layout.checked:
            yield struct.pack("<I", google_crc32c.value(bytes(data)))
            length += 4
        table[chunk] = offset, length
        offset += length
    yield table.tobytes()
    yield struct.pack("<I", google_crc32c.value(table.tobytes()))


def _cells(
    start: Sequence[int], stop: Sequence[int], size: Sequence[int]
) -> Iterator[tuple[int, ...]]:
    """Places of the cells of a grid that a box touches."""
    axes = (range(a // n, -(-b // n)) for a, b, n in zip(start, stop, size, strict=True))
    return itertools.product(*axes)


def _within(
    layout: Layout,
    corner: Sequence[int],
    chunk: Sequence[int],
    start: Sequence[int],
    shape: Sequence[int],
) -> tuple[Slices, Slices]:
    """Where in the values read a chunk of the shard at `corner` goes, and which part of it."""
    first = [a + i * c for a, i, c in zip(corner, chunk, layout.chunk, strict=True)]
    low = [max(a, b) for a, b in zip(first, start, strict=True)]
    high = [min(a + c, b + n) for a, c, b, n in zip(first, layout.chunk, start, shape, strict=True)]
    return _slices(low, high, start), _slices(low, high, first)


def _slices(start: Sequence[int], stop: Sequence[int], origin: Sequence[int]) -> Slices:
    return tuple(slice(a - o, b - o) for a, b, o in zip(start, stop, origin, strict=True))


def _told(place: Sequence[int]) -> str:
    return f"({', '.join(map(str, place))})"
