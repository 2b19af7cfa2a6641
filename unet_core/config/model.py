"""Settings of the network, of its training and of inference."""

from collections.abc import Iterator
from itertools import count
from typing import Literal

from pydantic.dataclasses import dataclass

from unet_core.config.base import STRICT
from unet_core.errors import ConfigError


@dataclass(frozen=True, kw_only=True, config=STRICT)
class UNetConfig:
    """The architecture; the defaults are the network of Ronneberger et al. 2015."""

    dimensions: Literal[2, 3] = 2
    """2: sees one section at a time. 3: sees volumes."""

    channels: int = 1
    """Channels of the raw volume."""

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
        if self.norm == "group" and self.width % 8:
            raise ConfigError(
                f"model.norm group needs model.width as a multiple of 8, got {self.width}"
            )
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"model.dropout must be in [0, 1), got {self.dropout}")

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
        which is the grid of a zero-padded network too.
        """
        beyond = self.convolutions + (1 if self.up == "bilinear" else 0)
        return self.valid_halo_px + beyond % self.stride_px

    @property
    def halo_px(self) -> int:
        """Voxels per side that a tile's result depends on.

        valid: what the network loses. same: the least multiple of stride_px at which tiles on
        multiples of stride_px agree exactly with the whole volume.
        """
        if self.padding == "valid":
            return self.valid_halo_px
        return -(-self.tile_halo_px // self.stride_px) * self.stride_px

    @property
    def is_local(self) -> bool:
        """Nothing beyond halo_px changes a result; not so where the tile's mean enters."""
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


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TrainConfig:
    """The recipe; the defaults are those of Ronneberger et al. 2015 where it states them."""

    seed: int = 0
    """Of initial weights, order of patches and dropout."""

    steps: int = 30000
    """Optimiser steps."""

    batch: int = 1
    """Patches per step."""

    optimiser: Literal["sgd", "adam", "adamw"] = "sgd"
    """How gradients become steps."""

    learning_rate: float = 1e-3
    """At the start (after warm-up)."""

    momentum: float = 0.99
    """Of sgd."""

    weight_decay: float = 0.0
    """L2 (sgd, adam) or decoupled (adamw)."""

    schedule: Literal["constant", "cosine", "poly"] = "constant"
    """Of the learning rate over all steps, to 0; poly: (1 - step/steps)^0.9."""

    warmup_steps: int = 0
    """Steps over which the learning rate rises from 0."""

    class_weights: Literal["inverse_frequency", "uniform"] | tuple[float, ...] = "inverse_frequency"
    """w_c of the loss: N / (K N_c) over the whole training bank, 1 for all, or one per class."""

    clip_norm: float | None = None
    """Largest norm of the gradient; null: not clipped."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the convolutions; auto: bfloat16 where the device computes it natively."""

    validate_every: int = 500
    """Steps between validations; after each, the state is saved, and the best is kept."""

    def __post_init__(self) -> None:
        for key in ("steps", "batch", "validate_every"):
            if getattr(self, key) < 1:
                raise ConfigError(f"train.{key} must be >= 1, got {getattr(self, key)}")
        for key in ("learning_rate", "momentum", "weight_decay", "warmup_steps"):
            if getattr(self, key) < 0:
                raise ConfigError(f"train.{key} must be >= 0, got {getattr(self, key)}")
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise ConfigError(f"train.clip_norm must be > 0 or null, got {self.clip_norm}")
        if not isinstance(self.class_weights, str) and min(self.class_weights, default=-1) < 0:
            raise ConfigError(
                f"train.class_weights must be >= 0 and one per class, got {self.class_weights}"
            )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class InferConfig:
    """How the network is laid over a volume."""

    tile_px: int = 512
    """Voxels per side that one forward pass yields, a multiple of 2^depth; the network sees this
    plus its halo. The result does not depend on it; memory and speed do."""

    dtype: Literal["uint8", "float16"] = "uint8"
    """Of the stored probabilities; uint8: 0..255 stand for 0..1."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the convolutions; auto: bfloat16 where the device computes it natively."""

    averaging: Literal["none", "symmetries"] = "none"
    """symmetries: mean of the probabilities over the eight flips and quarter turns (8x the
    work)."""

    def __post_init__(self) -> None:
        if self.tile_px < 1:
            raise ConfigError(f"infer.tile_px must be >= 1 px, got {self.tile_px}")
