"""How large a volume is before anything reads its voxels: voxels, blocks, files, bytes."""

import errno
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

from unet_core.config.base import Zyx
from unet_core.config.data import ConvertConfig
from unet_core.errors import ConfigError

_DTYPE = re.compile(r"[<>|=]?(?:u?int|float|[iuf])(\d+)|[|]?b1|bool")


def itemsize(dtype: str) -> int:
    """Bytes of a value of `dtype`, named as numpy or zarr do: uint8, float32, <u2, bool.

    Raises
    ------
    ConfigError
        If it is no such name.
    """
    if not (found := _DTYPE.fullmatch(dtype)):
        raise ConfigError(f"{dtype!r} is no number type; write uint8, uint16, int16 or float32")
    if found[1] is None:
        return 1
    return int(found[1]) // (8 if "int" in dtype or "float" in dtype else 1)


@dataclass(frozen=True, kw_only=True)
class Extent:
    """A volume, and how its stores are cut."""

    shape: Zyx
    chunk: Zyx
    shard: Zyx
    channels: int = 1
    dtype: str = "uint8"

    unit: Zyx = (1, 1, 1)
    """Voxels that its file stores together, where it is not converted yet."""

    def __post_init__(self) -> None:
        if min(*self.shape, self.channels) < 1:
            raise ConfigError(
                f"a volume has >= 1 voxel per axis and >= 1 channel, got {list(self.shape)} and "
                f"{self.channels}"
            )

    @property
    def voxels(self) -> int:
        """Of one channel."""
        return prod(self.shape)

    @property
    def voxel_bytes(self) -> int:
        """Of all channels."""
        return self.channels * itemsize(self.dtype)

    @property
    def fitted(self) -> tuple[Zyx, Zyx]:
        """Chunk and shard as stored: a small volume is not padded to a large shard."""
        axes = list(zip(self.shape, self.chunk, self.shard, strict=True))
        chunk = [min(c, n) for n, c, _ in axes]
        shard = [min(-(-s // c), -(-n // c)) * c for (n, _, s), c in zip(axes, chunk, strict=True)]
        return _zyx(chunk), _zyx(shard)

    @property
    def block(self) -> Zyx:
        """Voxels of the largest block: a shard, or the volume where that is smaller."""
        return _zyx(map(min, self.fitted[1], self.shape))

    @property
    def blocks(self) -> int:
        """Blocks of work: shards, that is files of each store."""
        return counted(self.shape, self.fitted[1])

    def downsampled(self, by: Sequence[int]) -> "Extent":
        """The volume in voxels that are each of `by`, about."""
        shape, chunk, shard = (
            _zyx(-(-n // f) for n, f in zip(of, by, strict=True))
            for of in (self.shape, self.chunk, self.shard)
        )
        return replace(self, shape=shape, chunk=chunk, shard=shard)


def counted(shape: Sequence[int], box: Sequence[int]) -> int:
    """Boxes of at most `box` voxels that hold `shape`, without listing them."""
    return prod(-(-n // size) for n, size in zip(shape, box, strict=True))


def described(
    convert: ConvertConfig,
    shape: Sequence[int],
    *,
    channels: int = 1,
    dtype: str = "uint8",
    unit: Sequence[int] = (1, 1, 1),
) -> Extent:
    """A volume that is not converted yet, cut as the settings say."""
    cut = {"chunk": convert.chunk, "shard": convert.shard, "unit": _zyx(unit)}
    return Extent(shape=_zyx(shape), channels=channels, dtype=dtype, **cut)


def stored(store: Path) -> Extent | None:
    """The volume in a store that is finished; None where there is none."""
    try:
        (store / "zarr.json").stat()
        about = json.loads((store / "0/zarr.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    *leading, z, y, x = about["shape"]
    shard = about["chunk_grid"]["configuration"]["chunk_shape"]
    codec = next((c for c in about["codecs"] if c["name"] == "sharding_indexed"), None)
    chunk = codec["configuration"]["chunk_shape"] if codec else shard
    return Extent(
        shape=(z, y, x),
        channels=prod(leading),
        dtype=str(about["data_type"]),
        chunk=_zyx(chunk[-3:]),
        shard=_zyx(shard[-3:]),
    )


def read_headers(file: Path) -> Mapping[str, Any]:
    """What `unet-core check --headers` has written: source to shape, dtype and unit."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def unknown(path: Path) -> FileNotFoundError:
    """For a volume that neither a store nor a header tells of; Snakemake then asks later."""
    return FileNotFoundError(errno.ENOENT, "not made yet", str(path))


def _zyx(values: Any) -> Zyx:
    z, y, x = values
    return int(z), int(y), int(x)
