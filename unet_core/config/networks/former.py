"""Sizes and reach of plain networks, from their settings."""

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

from unet_core.config.base import Zyx
from unet_core.errors import ConfigError


class Former:
    """Where `Geometry` is not asked yet."""

    depth: Any
    dimensions: Any
    convolutions: int
    up: str
    padding: str
    norm: str
    sections: int

    @property
    def stride_px(self) -> int:
        """2^depth: the network commutes with shifts by multiples of this, and with no others."""
        return int(2**self.depth)

    @property
    def valid_halo_px(self) -> int:
        """Voxels per side that the network loses when it is run without padding.

        ``c (3 * 2^d - 2)`` for d poolings and c convolutions of 3 voxels per block; bilinear
        up-sampling loses one voxel more per side and level: ``2^d - 1``.
        """
        lost = self.convolutions * (3 * self.stride_px - 2)
        return lost + (self.stride_px - 1 if self.up == "bilinear" else 0)

    @property
    def tile_halo_px(self) -> int:
        """Voxels per side to read around a tile that starts and ends on multiples of stride_px.

        Read so and run without padding, the network yields the tile and a few voxels per side
        more, to be cropped: the pooling grid then is that of the whole volume seen at once,
        which is the grid of a zero-padded network too. A voxel this far from such a tile changes
        its result, one farther away does not.
        """
        beyond = self.convolutions + (1 if self.up == "bilinear" else 0)
        return self.valid_halo_px + beyond % self.stride_px

    @property
    def halo_px(self) -> int:
        """Voxels per side that a pass with the network's own padding needs around what is kept.

        valid: what the network loses. same: the least multiple of stride_px at which tiles on
        multiples of stride_px agree exactly with the whole volume.
        """
        if self.padding == "valid":
            return self.valid_halo_px
        return -(-self.tile_halo_px // self.stride_px) * self.stride_px

    @property
    def reach_px(self) -> int:
        """Nothing farther away than this many voxels per axis changes the result of a voxel.

        From ``valid_halo_px`` to this, by where on the pooling grid the voxel lies.
        """
        return self.valid_halo_px + self.stride_px - 1

    @property
    def is_local(self) -> bool:
        """Nothing beyond reach_px changes a result; not so where the tile's mean enters."""
        return self.norm in ("none", "batch")

    def input_sizes(self) -> Iterator[int]:
        """Sizes per axis that the network accepts, rising without end."""
        if self.padding == "same":
            yield from count(self.stride_px, self.stride_px)
        # s = 2^d b + 2c (2^(d+1) - 1), b voxels at the bottom, as long as an output is left
        least = self.stride_px + 2 * self.convolutions * (2 * self.stride_px - 1)
        yield from (s for s in count(least, self.stride_px) if s > 2 * self.valid_halo_px)

    def output_size(self, size: int) -> int:
        """Voxels per axis that `size` voxels yield; ConfigError where `size` is not accepted."""
        if size != (nearest := self.nearest_input_size(size)):
            raise ConfigError(
                f"the network does not accept {size} voxels per axis; the nearest size it does: "
                f"{nearest} (`unet-core describe` lists them)"
            )
        return size if self.padding == "same" else size - 2 * self.valid_halo_px

    def nearest_input_size(self, size: int) -> int:
        """The accepted size that is closest to `size`; of two equally close, the larger."""
        least = next(self.input_sizes())
        steps = (2 * (size - least) + self.stride_px) // (2 * self.stride_px)
        return least + max(steps, 0) * self.stride_px

    def nearest_patch(self, patch: Sequence[int]) -> Zyx:
        """The voxels (z, y, x) closest to `patch` that the network accepts."""
        z, y, x = (self.nearest_input_size(size) for size in patch)
        return (self.sections if self.dimensions == 2 else z, y, x)
