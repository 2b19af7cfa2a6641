"""Sharded zarr arrays: create, read beyond the edge, write whole shards. The one place for it."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

from unet_core.errors import StoreError
from unet_core.geometry import Box, Zyx, whole_shards
from unet_core.io.remote import Location, Url
from unet_core.io.transfer import Stored, read_box, write_box
from unet_core.provenance import digest_of

Array = npt.NDArray[Any]
ZarrArray: TypeAlias = "zarr.Array[Any]"
Codec = Literal["zstd", "lz4", "none"]

_AXES = {3: "zyx", 4: "czyx", 5: "nczyx"}

_COMPLETE: dict[str, Any] = {"unet": {"complete": True}}
"""Attributes of an array of which every chunk is stored, so that a missing one is no zeros."""


class Remote(MemoryStore):
    """The metadata of an array at an address."""

    def __init__(self, store: Url, name: str) -> None:
        text = store.text(f"{name}/zarr.json").encode()
        buffer = default_buffer_prototype().buffer
        super().__init__({"zarr.json": buffer.from_bytes(text)}, read_only=True)
        self.address = f"{store}/{name}"
        self.kvstore = store.kvstore(name)


def open_level(
    store: Location, level: int | str = 0, *, mode: Literal["r", "r+"] = "r"
) -> ZarrArray:
    """The array `level` of a store, finished or still growing.

    Raises
    ------
    StoreError
        If there is no such array, or `store` is an address and `mode` is not "r".
    """
    try:
        if isinstance(store, Path):
            array = zarr.open_array(store / str(level), mode=mode)
        elif mode == "r":
            array = zarr.open_array(Remote(store, str(level)), mode="r")
        else:
            raise StoreError(f"{store} can be read and not written; write to a folder")
    except FileNotFoundError:
        raise StoreError(
            f"{store} has no array {str(level)!r}; rerun the stage that makes {store.name}"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{store}/{level}/zarr.json is not the metadata of an array ({error}); delete {store} "
            "with its .ledger.jsonl and rerun the stage that makes it"
        ) from None
    # Chunks of zeros are stored too: one that is not there is lost, see `_COMPLETE`.
    return array.with_config({"write_empty_chunks": True})


def create_array(
    store: Path,
    name: str,
    *,
    shape: Sequence[int],
    dtype: npt.DTypeLike,
    chunk: Sequence[int],
    shard: Sequence[int],
    codec: Codec = "zstd",
    axes: str | None = None,
    complete: bool = True,
) -> ZarrArray:
    """Create `store/name`, or open it where a run that died has left it.

    Parameters
    ----------
    shape
        (z, y, x), (c, z, y, x) or (n, c, z, y, x).
    chunk, shard
        Per axis, or (z, y, x) alone: then an axis before z has chunks of 1 and shards of all.
        Clipped to the shape, so that a small volume is not padded to a large shard.
    axes
        Names of the axes, one letter each; default by their number: zyx, czyx, nczyx.
    complete
        Every shard gets a file, so that one that is not there is lost; else it is zeros.
    """
    chunk, shard = _fit(shape, chunk, shard)
    compressors: dict[Codec, list[Any]] = {
        "zstd": [ZstdCodec(level=_LEVELS.get(np.dtype(dtype).name, 1))],
        "lz4": [BloscCodec(cname="lz4", clevel=1, shuffle="shuffle")],
        "none": [],
    }
    if (store / name / "zarr.json").exists():
        return open_level(store, name, mode="r+")
    zarr.create_array(
        str(store / name),
        shape=tuple(shape),
        dtype=dtype,
        chunks=tuple(chunk),
        shards=tuple(shard),
        # Without a checksum a flipped bit of a compressed chunk mostly decodes, to other voxels.
        compressors=[*compressors[codec], Crc32cCodec()],
        fill_value=0,
        dimension_names=list(axes or _AXES[len(shape)]),
        attributes=_COMPLETE if complete else {},
    )
    return open_level(store, name, mode="r+")


_LEVELS = {"uint64": 3}
"""Of zstd, by number type. In labels, whose numbers of 8 bytes are mostly zeros, level 1 finds the
wrong repeats: it takes longer, and they are two to four times as large."""


def shard_of(array: ZarrArray) -> Zyx:
    """Voxels (z, y, x) of one file of `array`: the block of work of who writes it."""
    z, y, x = (array.shards or array.chunks)[-3:]
    return z, y, x


def chunk_of(array: ZarrArray) -> Zyx:
    """Voxels (z, y, x) that `array` compresses together."""
    z, y, x = array.chunks[-3:]
    return z, y, x


def cut_of(array: ZarrArray) -> dict[str, Any]:
    """`chunk` and `shard` of `array`: arguments of `create_array`, to cut another store alike.

    Part of the inputs of who does: the content of a store does not depend on its cut, but names
    of blocks mean other voxels where it is another.
    """
    return {"chunk": chunk_of(array), "shard": shard_of(array)}


def read(array: ZarrArray, box: Box, *, channel: int | None = None) -> Array:
    """The voxels of `box`, which lies in the volume: (..., z, y, x).

    Parameters
    ----------
    channel
        Along the axis before z, which is then left out: others are not decoded.

    Raises
    ------
    StoreError
        If a chunk of it is damaged or a shard is lost; an `AccessError` if a file cannot be read.
    """
    leading = array.shape[:-3]
    start, stop = [0] * len(leading), list(leading)
    if channel is not None:
        start[-1], stop[-1] = channel, channel + 1
    voxels = read_box(stored(array), [*start, *box.start], [*stop, *box.stop])
    return voxels if channel is None else voxels[..., 0, :, :, :]


def read_mirrored(array: ZarrArray, box: Box) -> Array:
    """The voxels of `box`, mirrored about the outermost voxels where it leaves the volume.

    The edge voxel itself is not repeated; an axis of one voxel repeats it. Boxes may lie several
    times the volume's size outside.
    """
    return mirrored(partial(read, array), box, array.shape[-3:])


def mirrored(read: Callable[[Box], Array], box: Box, shape: Sequence[int]) -> Array:
    """What `read_mirrored` gives, of a volume of `shape` whose boxes `read` reads."""
    takes = [
        _mirror(np.arange(a, b), n) for a, b, n in zip(box.start, box.stop, shape, strict=True)
    ]
    lows = [int(take.min()) for take in takes]
    (z0, y0, x0), (z1, y1, x1) = lows, [int(take.max()) + 1 for take in takes]
    seen = read(Box((z0, y0, x0), (z1, y1, x1)))
    for axis, (take, low) in enumerate(zip(takes, lows, strict=True), start=-3):
        if not np.array_equal(take - low, np.arange(seen.shape[axis])):
            seen = np.take(seen, take - low, axis=axis)
    return seen


def write_block(array: ZarrArray, box: Box, data: Array) -> str:
    """Write the voxels of `box`, whole shards only, and return their digest.

    Raises
    ------
    StoreError
        If `box` holds part of a shard (two workers would write one file), or `data` is of
        another shape or type than the array's region.
    """
    shard = shard_of(array)
    z, y, x = array.shape[-3:]
    if not whole_shards(box, shard=shard, shape=(z, y, x)):
        raise StoreError(
            f"block {box.start}..{box.stop} does not hold whole shards {shard} of "
            f"{array.store_path}: two workers would write one file; cut blocks by shard_of(array)"
        )
    wanted = (*array.shape[:-3], *box.shape)
    if data.shape != wanted or data.dtype != array.dtype:
        raise StoreError(
            f"block {box.start} of {array.store_path} takes {wanted} {array.dtype}, got "
            f"{data.shape} {data.dtype}"
        )
    write_box(stored(array), [0] * (data.ndim - 3) + list(box.start), data)
    return array_digest(data)


def stored(array: ZarrArray) -> Stored:
    """Where the voxels of `array` are, and how they are stored."""
    metadata: dict[str, Any] = dict(array.metadata.to_dict())
    attributes: Any = metadata.pop("attributes", {})
    store: Any = array.store
    remote = isinstance(store, Remote)
    name = store.address if remote else str(Path(store.root, array.path).absolute())
    return Stored(
        name=name,
        kvstore=store.kvstore if remote else {"driver": "file", "path": f"{name}/"},
        metadata=metadata,
        shape=array.shape,
        shard=array.shards or array.chunks,
        chunk=array.chunks,
        complete=attributes.get("unet") == _COMPLETE["unet"],
    )


def array_digest(data: Array) -> str:
    """Digest of an array's values, shape and type."""
    header = f"{data.dtype.str}{data.shape}".encode()
    return digest_of([header, np.ascontiguousarray(data).data.cast("B")])


def _mirror(index: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.int64]:
    if n == 1:
        return np.zeros_like(index)
    period = 2 * (n - 1)
    folded = np.abs(index) % period
    mirrored: npt.NDArray[np.int64] = np.minimum(folded, period - folded)
    return mirrored


def _fit(
    shape: Sequence[int], chunk: Sequence[int], shard: Sequence[int]
) -> tuple[list[int], list[int]]:
    leading = list(shape[: len(shape) - len(chunk)])
    chunk = [1] * len(leading) + list(chunk)
    shard = leading + list(shard)
    chunk = [min(c, max(1, n)) for c, n in zip(chunk, shape, strict=True)]
    shard = [
        min(-(-s // c), -(-max(1, n) // c)) * c for s, c, n in zip(shard, chunk, shape, strict=True)
    ]
    return chunk, shard
