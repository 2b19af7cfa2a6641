"""Voxels of arrays to and from files and objects, by tensorstore.

A shard is written to a name of its own and renamed once it is on disk. In an array that was made
here every chunk is stored, also of zeros, so that one that is not there is a loss.
"""

import itertools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import tensorstore

from unet_core.errors import AccessError, DamageError, StoreError

Array = npt.NDArray[Any]

_REFUSED = (ValueError, KeyError, IndexError, RuntimeError, NotImplementedError, OSError)
"""What tensorstore raises, by the status of its operation."""

_MEND = (
    "copy the file again from where it is whole, or delete the store with its .ledger.jsonl and "
    "rerun the stage that makes it"
)


@dataclass(frozen=True)
class Stored:
    """An array, and where its files are."""

    name: str
    """Path or address of the array, for messages."""

    kvstore: Mapping[str, Any]
    """tensorstore's description of the folder or address."""

    metadata: Mapping[str, Any]
    """As in `zarr.json`, or `.zarray` of zarr 2."""

    shape: tuple[int, ...]
    shard: tuple[int, ...]
    """Of one file."""

    chunk: tuple[int, ...]
    complete: bool
    """Whether every chunk is stored, so that a missing one is a loss and not zeros."""

    def opened(self, use: Literal["read", "write"]) -> tensorstore.TensorStore:
        """The array; no file is asked for."""
        spec = {
            "driver": "zarr3" if self.metadata["zarr_format"] == 3 else "zarr",
            "kvstore": dict(self.kvstore),
            "metadata": dict(self.metadata),
            "assume_metadata": True,
            "fill_missing_data_reads": not self.complete,
            "store_data_equal_to_fill_value": True,
        }
        return tensorstore.open(spec, context=context(use)).result()


@cache
def context(use: Literal["read", "write"]) -> tensorstore.Context:
    """What all operations of a kind share in this process: one thread that works, no cache.

    Reading and writing have one each, so that blocks are read ahead while others are written.
    """
    patient = {"max_retries": 3, "initial_delay": "100ms", "max_delay": "2s"}
    return tensorstore.Context(
        {
            "cache_pool": {"total_bytes_limit": 0},
            "data_copy_concurrency": {"limit": 1},
            "file_io_concurrency": {"limit": 1},
            # Names are unique: who waited for a lock would wait for a writer that hangs.
            "file_io_locking": {"mode": "none"},
            "http_request_concurrency": {"limit": 8},
            "http_request_retries": patient,
            "s3_request_concurrency": {"limit": 8},
            "s3_request_retries": patient,
            "gcs_request_concurrency": {"limit": 8},
            "gcs_request_retries": patient,
        }
    )


def read_box(stored: Stored, start: Sequence[int], stop: Sequence[int]) -> Array:
    """The values from `start` up to `stop`, one of each per axis.

    Raises
    ------
    StoreError
        If a shard of it is lost; a `DamageError` if a chunk fails its checksum or cannot be
        decoded, an `AccessError` if a file cannot be read.
    """
    try:
        held = stored.opened("read")[_slices(start, stop)]
        # Not `read`: numpy's memory comes in large pages, a fifth less CPU time for 32 MB.
        values: Array = np.empty(held.shape, dtype=held.dtype.numpy_dtype)
        tensorstore.array(values, context=context("read")).write(held).result()
        return values
    except _REFUSED as error:
        raise _unread(stored, str(error), start, stop) from error


def write_box(stored: Stored, start: Sequence[int], values: Array) -> None:
    """Write `values`, whose first lies at `start`, as files that each appear whole.

    They are whole shards, up to the array's edge. Equal values give equal bytes.

    Raises
    ------
    AccessError
        If a file cannot be written.
    """
    stop = [a + n for a, n in zip(start, values.shape, strict=True)]
    held = stored.opened("write")
    files = tensorstore.KvStore.open(dict(stored.kvstore), context=context("write")).result()
    for cell in _cells(start, stop, stored.shard):
        corner = [i * s for i, s in zip(cell, stored.shard, strict=True)]
        end = [min(a + s, b) for a, s, b in zip(corner, stored.shard, stop, strict=True)]
        inside = tuple(slice(a - o, b - o) for a, b, o in zip(corner, end, start, strict=True))
        name = "/".join(["c", *map(str, cell)])
        try:
            with tensorstore.Transaction() as one:
                # Else a shard at the edge is read first, and one that is damaged stays so.
                files.with_transaction(one)[name] = None
                part = held.with_transaction(one)[_slices(corner, end)]
                part.write(values[inside], can_reference_source_data_indefinitely=True).result()
        except _REFUSED as error:
            number = _errno(str(error))
            what = os.strerror(number) if number else _first_line(str(error))
            raise AccessError(
                number,
                f"cannot write {stored.name}/{name}: {what}; what is finished is kept: make room "
                "or mend the disk, then start the job again",
            ) from error


def _unread(stored: Stored, error: str, start: Sequence[int], stop: Sequence[int]) -> StoreError:
    """What an error of reading means, in our words."""
    name, first, last = _place(stored, error)
    where = f"{stored.name}/{name}" if name else stored.name
    voxels = f"{_told(first or start)}..{_told(last or stop)}"
    if (number := _errno(error)) is not None or _is_network(error):
        what = os.strerror(number) if number else _first_line(error)
        return AccessError(
            number,
            f"cannot read {where}, which holds the voxels {voxels}: {what}; see to the disk or "
            "the network and start the job again",
        )
    if "NOT_FOUND" in error:
        return StoreError(f"{where} is lost, and with it the voxels {voxels}: {_MEND}")
    if not _is_damage(error):
        return AccessError(
            None,
            f"cannot read {where}, which holds the voxels {voxels}: {_first_line(error)}; start "
            "the job again, with more memory (mem_mb) if that is short",
        )
    if "shard index" in error or "shard has size" in error:
        return DamageError(f"{where} is cut off or damaged at its end: {_MEND}")
    what = _first_line(error.rpartition(name)[2].strip('": ')) if name else _first_line(error)
    return DamageError(f"{where}: the chunk of the voxels {voxels} is damaged ({what}): {_MEND}")


def _place(stored: Stored, error: str) -> tuple[str, list[int] | None, list[int] | None]:
    """The file that an error names, and the first voxel of its chunk and that behind the last."""
    file = re.search(rf"/(c(?:/\d+){{{len(stored.shape)}}})(?!\d)", error)
    if file is None:
        return "", None, None
    first = [int(i) * s for i, s in zip(file[1].split("/")[1:], stored.shard, strict=True)]
    size = stored.shard
    entry = re.search(r"shard entry \{([\d, ]+)\}/", error)
    if entry and "index" not in error:
        places = map(int, entry[1].split(","))
        size = stored.chunk
        first = [a + i * c for a, i, c in zip(first, places, size, strict=True)]
    last = [min(a + n, m) for a, n, m in zip(first, size, stored.shape, strict=True)]
    return file[1], first, last


def _errno(error: str) -> int | None:
    found = re.search(r"(?:os_error_code='|OS error )(\d+)", error)
    return int(found[1]) if found else None


def _is_network(error: str) -> bool:
    codes = "UNAVAILABLE|ABORTED|DEADLINE_EXCEEDED|PERMISSION_DENIED|UNAUTHENTICATED"
    return re.search(rf"^({codes})|curl_code|http_response_code|retry attempts", error) is not None


def _is_damage(error: str) -> bool:
    """Does an error tell of what was read, and not of the reading?"""
    code = re.match(r"[A-Z_]+(?=:)", error)
    if code is None or code[0] in ("UNKNOWN", "INTERNAL", "OUT_OF_RANGE"):
        return re.search(r"decod|decompress|digest|checksum", error, re.IGNORECASE) is not None
    return code[0] in ("DATA_LOSS", "FAILED_PRECONDITION", "INVALID_ARGUMENT")


def _first_line(error: str) -> str:
    """An error without tensorstore's own words on what it was asked."""
    return re.sub(r"\s*\[[a-z_]+='.*", "", error, flags=re.DOTALL).partition("\n")[0]


def _cells(
    start: Sequence[int], stop: Sequence[int], size: Sequence[int]
) -> Iterator[tuple[int, ...]]:
    """Places of the cells of a grid that a box touches."""
    axes = (range(a // n, -(-b // n)) for a, b, n in zip(start, stop, size, strict=True))
    return itertools.product(*axes)


def _slices(start: Sequence[int], stop: Sequence[int]) -> tuple[slice, ...]:
    return tuple(map(slice, start, stop))


def _told(place: Sequence[int]) -> str:
    return f"({', '.join(map(str, place))})"
