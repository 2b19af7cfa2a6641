"""The sections of a source that become a volume, and how large a part of it one block reads."""

from dataclasses import dataclass
from functools import lru_cache

from unet_core.geometry import Box, Zyx
from unet_core.io.readers import open_raw
from unet_core.io.readers.raw import Array, RawVolume

_BLOCK_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Source:
    """Some sections of a raw source; picklable, opened once per process."""

    name: str
    """As `open_raw` takes it."""

    content: str
    """Its digest."""

    first: int
    """Section of the file that is section 0 of the volume."""

    def read(self, box: Box) -> Array:
        """The voxels of a box of the volume: (c, z, y, x), as in the file."""
        return _opened(self.name, self.content).read(box.shift((self.first, 0, 0)))


@lru_cache(maxsize=2)
def _opened(name: str, content: str) -> RawVolume:
    """By content too, for a file may be written anew."""
    return open_raw(name)


def band_of(opened: RawVolume, shape: Zyx, shard: Zyx) -> Zyx:
    """Voxels (z, y, x) of one block: whole shards, as wide as what the file stores together.

    A section that is compressed whole is decoded once per block that it crosses, so blocks grow
    along x, then y, while they stay below 256 MiB. Depends on the file and the shard alone, never
    on resources, so that a run with other resources goes on with the same blocks.

    Parameters
    ----------
    shape
        Of the volume (z, y, x).
    """
    z, y, x = shard
    voxel_bytes = opened.shape[0] * opened.dtype.itemsize
    most = max(1, _BLOCK_BYTES // (z * y * x * voxel_bytes))
    height, width = (min(u, n) for u, n in zip(opened.unit[1:], shape[1:], strict=True))
    wide = min(-(-width // x), most)
    high = min(-(-height // y), most // wide) if wide * x >= width else 1
    return z, y * high, x * wide
