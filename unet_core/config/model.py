"""Settings of the network and of inference."""

from collections.abc import Iterator, Sequence
from itertools import count, pairwise
from typing import Literal

from pydantic.dataclasses import dataclass

from unet_core.config.base import STRICT, Zyx
from unet_core.errors import ConfigError

Region = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""Per axis (z, y, x) the first voxel and the one after the last."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class UNetConfig:
    """The architecture; the defaults are the network of Ronneberger et al. 2015."""

    dimensions: Literal[2, 3] = 2
    """2: predicts one section at a time. 3: sees and predicts volumes."""

    channels: int = 1
    """Channels of the raw volume."""

    sections: int = 1
    """Sections that a 2-D network sees to predict the middle one (2.5-D); odd. They are channels
    of its input: section s of channel c is number ``c * sections + s``."""

    classes: int = 2
    """Classes of the target; class 0 is border or background."""

    width: int = 64
    """Feature channels of the finest level; each level down doubles them."""

    depth: int = 4
    """Pooling steps."""

    convolutions: int = 2
    """3x3 convolutions per block."""

    padding: Literal["valid", "same"] = "valid"
    """valid: output smaller than input by twice the halo, exact tiling. same: zero-padded."""

    norm: Literal["none", "batch", "instance", "group"] = "none"
    """Normalisation after each convolution (group: 8 channels per group)."""

    activation: Literal["relu", "leaky_relu"] = "relu"
    """After each convolution; leaky: slope 0.1."""

    up: Literal["transposed", "nearest", "bilinear"] = "transposed"
    """Up-sampling by 2: transposed 2x2 convolution, or a 1x1 convolution and interpolation."""

    dropout: float = 0.5
    """Chance of a unit to be dropped at the end of the contracting path (after the deepest
    block), in training."""

    def __post_init__(self) -> None:
        low = {
            "channels": (self.channels, 1),
            "classes": (self.classes, 2),
            "width": (self.width, 1),
            "depth": (self.depth, 1),
            "convolutions": (self.convolutions, 1),
        }
        for key, (value, least) in low.items():
            if value < least:
                raise ConfigError(f"model.{key} must be >= {least}, got {value}")
        if self.sections < 1 or self.sections % 2 == 0:
            raise ConfigError(
                f"model.sections must be odd and >= 1, so that one is the middle, got "
                f"{self.sections}; the next that is: {max(1, self.sections + 1)}"
            )
        if self.sections > 1 and self.dimensions == 3:
            raise ConfigError(
                f"model.sections {self.sections} is for networks with model.dimensions 2; one with "
                "3 sees all sections of its patches: set model.sections to 1"
            )
        if self.norm == "group" and self.width % 8:
            raise ConfigError(
                f"model.norm group needs model.width as a multiple of 8, got {self.width}"
            )
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"model.dropout must be in [0, 1), got {self.dropout}")

    @property
    def inputs(self) -> int:
        """Channels of the network's input: `sections` of every channel of the volume."""
        return self.channels * self.sections

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


@dataclass(frozen=True, kw_only=True, config=STRICT)
class InferConfig:
    """How the network is laid over a volume."""

    tile_px: int | Literal["auto"] = "auto"
    """Voxels per side that one forward pass yields, a multiple of 2^depth; the network sees this
    plus its halo. auto: what a short trial finds fastest within the memory (with model.norm
    instance or group 512, in 3-D 128: there the result depends on it). Else memory and speed alone
    do."""

    dtype: Literal["uint8", "float16"] = "uint8"
    """Of the stored probabilities; uint8: 0..255 stand for 0..1."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the convolutions; auto: bfloat16 where the device computes it natively."""

    averaging: Literal["none", "symmetries"] = "none"
    """symmetries: mean of the probabilities over the eight flips and quarter turns (8x the
    work)."""

    region: Region | None = None
    """First voxel and the one after the last along z, y and x: nothing else is computed. null: the
    whole volume."""

    classes: tuple[int, ...] | None = None
    """Classes whose probabilities are stored; null: all but 0."""

    downsample: Zyx = (1, 1, 1)
    """Voxels (z, y, x) whose mean probability is stored as one voxel."""

    on_error: Literal["stop", "skip-and-report"] = "stop"
    """What becomes of a volume with blocks that cannot be computed (say, of a damaged raw chunk).
    stop: the others are computed, the job fails, and the next run tries what is missing.
    skip-and-report: the volume is finished without them, and the report names them."""

    spread: Literal["job", "slabs", "nodes"] = "job"
    """How a volume with a job of its own is spread. job: one job on one node. slabs: a job for each
    slab, and each starts as soon as a GPU is free. nodes: one job on as many nodes as the profile
    gives the rule infer. The result is the same."""

    slab: Zyx | None = None
    """Voxels (z, y, x) of the stored probabilities that one job of spread slabs makes; null: at
    least 8 thousand million, and as many as leave few jobs."""

    def __post_init__(self) -> None:
        if self.tile_px != "auto" and self.tile_px < 1:
            raise ConfigError(f"infer.tile_px must be auto or >= 1 px, got {self.tile_px}")
        for axis, (start, stop) in zip("zyx", self.region or (), strict=False):
            if not 0 <= start < stop:
                raise ConfigError(
                    f"infer.region along {axis} must be [first, after the last] with 0 <= first < "
                    f"after, in voxels, got [{start}, {stop}]"
                )
        if self.classes is not None and not (
            self.classes and self.classes[0] >= 0 and all(a < b for a, b in pairwise(self.classes))
        ):
            raise ConfigError(
                "infer.classes must list at least one class, each once and rising, such as [1, 2], "
                f"or be null for all but 0; got {list(self.classes)}"
            )
        if self.slab is not None and min(self.slab) < 1:
            raise ConfigError(
                f"infer.slab must be >= 1 voxel per axis (z, y, x) or null, got {list(self.slab)}"
            )
        if min(self.downsample) < 1:
            raise ConfigError(
                "infer.downsample must be >= 1 voxel per axis (z, y, x), got "
                f"{list(self.downsample)}; [1, 1, 1] keeps every voxel"
            )

    def stored(self, classes: int) -> tuple[int, ...]:
        """Classes whose probabilities are stored, in order, of a network that has `classes`."""
        return tuple(range(1, classes)) if self.classes is None else self.classes
