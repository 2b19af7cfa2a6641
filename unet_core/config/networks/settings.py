"""Settings of the network: every axis along which published U-Nets differ."""

from typing import Literal

from pydantic.dataclasses import dataclass

from unet_core.config.base import STRICT
from unet_core.errors import ConfigError

Norm = Literal["none", "batch", "instance", "group"]
Order = Literal["conv_norm_act", "conv_act_norm", "norm_conv_act", "conv_act"]

ENCODERS = (
    *(f"resnet{n}" for n in (18, 34, 50, 101, 152)),
    *(f"efficientnet-b{n}" for n in range(8)),
    "mobilenet_v2",
    "vgg16",
    "vgg16_bn",
    "keras_vgg16",
    "keras_resnet50",
    "keras_mobilenet",
)
"""Backbones that may stand in for the contracting path."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class NetworkConfig:
    """The architecture; the defaults are the network of Ronneberger et al. 2015.

    Lists of numbers per level begin with the finest.
    """

    architecture: Literal["unet", "unetpp", "deeplabv3plus", "fcn8s", "vnet"] = "unet"
    """unetpp: nested skips. The others are as published, and ignore what does not concern them."""

    dimensions: Literal[2, 3] = 2
    """2: predicts one section at a time. 3: sees and predicts volumes."""

    channels: int = 1
    """Channels of the raw volume."""

    sections: int = 1
    """Sections that a 2-D network sees to predict the middle one (2.5-D); odd. They are channels
    of its input: section s of channel c is number ``c * sections + s``."""

    classes: int = 2
    """Classes of the target; class 0 is border or background."""

    output: Literal["softmax", "sigmoid"] = "softmax"
    """softmax: one of the classes per voxel. sigmoid: every class but 0 by itself, several at a
    time or none; the network has one output less."""

    encoder: str = "plain"
    """Contracting path: plain (described by what follows), or the name of a backbone."""

    width: int = 64
    """Feature channels of the finest level; each level down doubles them."""

    widths: tuple[int, ...] | None = None
    """Feature channels per level, the deepest last; null: from width."""

    decoder_widths: tuple[int, ...] | None = None
    """Feature channels per level of the expanding path; null: those of the contracting one."""

    up_widths: tuple[int, ...] | None = None
    """Channels per level that up-sampling makes; null: those of the level it leads to."""

    depth: int | tuple[int, int, int] = 4
    """Pooling steps, or those along z, y and x: an axis with fewer is pooled on the deepest levels
    only, and on the levels above it kernels have one voxel along it."""

    strides: tuple[tuple[int, ...], ...] | None = None
    """Voxels per axis that become one below each level; null: 2, where depth says so."""

    kernels: tuple[tuple[int, ...], ...] | None = None
    """Voxels per axis of the kernels of each level, the deepest last; null: as kernel and depth."""

    convolutions: int = 2
    """Convolutions per block."""

    decoder_convolutions: int | None = None
    """Convolutions per block of the expanding path; null: as many."""

    kernel: int = 3
    """Voxels per axis of a convolution; odd."""

    padding: Literal["valid", "same"] = "valid"
    """valid: output smaller than input by twice the halo, exact tiling. same: zero-padded."""

    partial_padding: bool = False
    """same, 2-D: results at the edge of a map are scaled by how many taps of the kernel there are
    over how many lie within (partial convolution), so that zeros beyond it make none smaller."""

    norm: Norm = "none"
    """Normalisation with each convolution."""

    groups: int | None = None
    """group: how many (1 where there are fewer channels); null: 8 channels in each."""

    norm_affine: bool = True
    """A scale and a shift per channel are learnt."""

    decoder_norm: Norm | None = None
    """The same on the expanding path; null: as norm."""

    norm_eps: float = 1e-5
    """Added to variances."""

    norm_momentum: float = 0.1
    """batch: weight of the newest batch in the mean and variance that are kept."""

    order: Order = "conv_norm_act"
    """In which order a convolution, its normalisation and its activation come. conv_act: one
    normalisation, after the block."""

    decoder_order: Order | None = None
    """The same on the expanding path; null: as order."""

    conv_bias: bool | None = None
    """Convolutions add a bias; null: where no normalisation would remove it."""

    activation: Literal["relu", "leaky_relu", "prelu", "elu", "swish"] = "relu"
    """With each convolution."""

    slope: float = 0.1
    """leaky_relu: of negative values."""

    separable: bool = False
    """Convolutions but the first and those with kernels of one voxel are made of one per channel
    and one with a kernel of one voxel."""

    standardised: bool = False
    """Kernels of separable convolutions per channel are brought to mean 0 and deviation 1."""

    middle: Literal["outputs", "half_outputs"] = "outputs"
    """Channels between the convolutions of a block of the contracting path; never fewer than
    it is given."""

    decoder_middle: Literal["outputs", "half_inputs"] = "outputs"
    """Channels between the convolutions of a block of the expanding path."""

    down: Literal["pooling", "convolution"] = "pooling"
    """pooling: the largest of 2 voxels per axis. convolution: the first of each block but the
    finest steps by 2."""

    up: Literal["transposed", "nearest", "bilinear"] = "transposed"
    """Up-sampling by 2: transposed convolution, or interpolation and a convolution."""

    up_kernel: int | None = None
    """Voxels per axis of the convolution of up-sampling; null: transposed 2, else 1. 0 (not
    transposed): none, channels stay. transposed 4: padded by 1."""

    up_bias: bool = True
    """The convolution of up-sampling adds a bias."""

    up_norm: Norm = "none"
    """Normalisation after it."""

    up_activation: bool | Literal["relu"] = False
    """Activation after it; relu: this one, whatever the others are."""

    align_corners: bool = False
    """bilinear: corners stay corners. Then results depend on the size of the tile."""

    join: Literal["skip_up", "up_skip", "up_newest"] = "skip_up"
    """Order of the channels where skip and up-sampled map are put side by side. up_newest: the
    up-sampled map, then the skips of a nested network from the last to the first."""

    skip: Literal["before_pooling", "after_pooling"] = "before_pooling"
    """Which map of a level is the skip. after_pooling: every level is pooled, the block after the
    last pooling is the deepest of the expanding path (and the last of decoder_widths), and logits
    have half the voxels per axis of the input."""

    full_size: bool = True
    """after_pooling: logits are repeated, to as many as the input has."""

    fit: Literal["crop", "pad", "resize"] = "crop"
    """Where sizes differ: the skip is cropped, or the up-sampled map is padded with zeros or, by
    repeating voxels, resized (then results depend on the size of the tile)."""

    dropout: float = 0.5
    """Chance of a unit to be dropped, in training."""

    dropout_levels: tuple[int, ...] | None = None
    """Levels of the contracting path (0 the finest) with dropout; null: the deepest."""

    dropout_place: Literal["after", "between"] = "after"
    """After the block, for all that read it, or between its first two convolutions."""

    decoder_dropout: bool = False
    """between: in the blocks of the expanding path on these levels, too."""

    dropout_channels: bool = False
    """Whole channels are dropped."""

    head: Literal["plain", "narrow", "fcn", "psp", "aspp"] = "plain"
    """plain: one convolution. narrow: 3x3 to as many channels as classes, ReLU, then 1x1. fcn, psp,
    aspp: those of mmsegmentation, with its dropout of 0.1."""

    head_kernel: int = 1
    """Voxels per axis of the plain head's convolution."""

    auxiliary: float = 0.0
    """Weight of the loss of a further fcn head one level below the finest; 0: there is none."""

    supervision: Literal["none", "levels", "mean", "nodes"] = "none"
    """levels: a head on every level of the expanding path, its loss weighted by half the one's
    above, the deepest not at all. unetpp: a head on every map of the finest level; mean: the
    result is their mean. nodes: each is learnt by itself, the last is the result."""

    dilations: tuple[int, int, int] = (6, 12, 18)
    """deeplabv3plus: of the kernels of its pyramid."""

    at_once: bool = False
    """fcn8s: what is scored on the finer levels is scaled down, to train all levels at once."""

    shift: float = 0.0
    """Added to intensities before the first layer."""

    def __post_init__(self) -> None:
        for key in ("channels", "width", "convolutions"):
            if getattr(self, key) < 1:
                raise ConfigError(f"model.{key} must be >= 1, got {getattr(self, key)}")
        if self.classes < 2:
            raise ConfigError(
                f"model.classes must be >= 2, got {self.classes}: class 0 is background or border; "
                "one probability per voxel is model.output sigmoid with model.classes 2"
            )
        self._check_axes()
        if min(self.depths) < 0 or max(self.depths) < 1:
            raise ConfigError(f"model.depth must be >= 1, got {self.depth}")
        if isinstance(self.depth, tuple) and self.dimensions == 2:
            raise ConfigError(
                f"model.depth {list(self.depth)} per axis is for model.dimensions 3; give a number"
            )
        if self.partial_padding and self.dimensions == 3:
            raise ConfigError("model.partial_padding is for model.dimensions 2; set it to false")
        if self.down == "convolution" and self.padding == "valid":
            raise ConfigError(
                "model.down convolution needs model.padding same: without padding no size fits "
                "both a skip and what is put beside it"
            )
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ConfigError(f"model.kernel must be odd and >= 1, got {self.kernel}")
        self._check_sections()
        self._check_levels()
        if "group" in (self.norm, self.decoder_norm) and not self.groups and self.width % 8:
            raise ConfigError(
                f"model.norm group needs model.width as a multiple of 8, got {self.width}; or set "
                "model.groups"
            )
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"model.dropout must be in [0, 1), got {self.dropout}")
        if self.encoder != "plain" and self.encoder not in ENCODERS:
            raise ConfigError(
                f"model.encoder {self.encoder!r} is not known; there are: plain, "
                f"{', '.join(ENCODERS)}"
            )

    def _check_sections(self) -> None:
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

    def _check_axes(self) -> None:
        for key, given, count in (
            ("strides", self.strides, self.levels),
            ("kernels", self.kernels, self.levels + 1),
        ):
            if given is None:
                continue
            if not given or len(given) != count:
                raise ConfigError(
                    f"model.{key} needs {max(count, 1)} entries, one per level, got {len(given)}"
                )
            if any(len(one) != self.dimensions or min(one) < 1 for one in given):
                raise ConfigError(
                    f"model.{key} needs {self.dimensions} numbers >= 1 per level, one per axis, "
                    f"got {[list(one) for one in given]}"
                )
        if any(size % 2 == 0 for one in self.kernels or () for size in one):
            raise ConfigError("model.kernels must be odd, so that a voxel is their middle")

    def _check_levels(self) -> None:
        wanted = {
            "widths": self.levels + 1,
            "decoder_widths": self.levels,
            "up_widths": self.levels,
        }
        if self.encoder != "plain" or self.skip == "after_pooling":
            return  # other numbers of levels: the builder says which
        for key, count in wanted.items():
            given = getattr(self, key)
            if given is not None and (len(given) != count or min(given) < 1):
                raise ConfigError(
                    f"model.{key} needs {count} numbers >= 1, one per level, got {list(given)}"
                )

    @property
    def inputs(self) -> int:
        """Channels of the network's input: `sections` of every channel of the volume."""
        return self.channels * self.sections

    @property
    def outputs(self) -> int:
        """Channels of the network's logits."""
        return self.classes - (self.output == "sigmoid")

    @property
    def depths(self) -> tuple[int, ...]:
        """Pooling steps per axis of the network."""
        if self.strides is not None:
            return tuple(sum(n > 1 for n in axis) for axis in zip(*self.strides, strict=False))
        if isinstance(self.depth, tuple):
            return self.depth
        return (self.depth,) * self.dimensions

    @property
    def levels(self) -> int:
        """Levels above the deepest one."""
        return max(self.depths) if self.strides is None else len(self.strides)

    @property
    def level_widths(self) -> tuple[int, ...]:
        """Feature channels per level, the finest first."""
        return self.widths or tuple(self.width * 2**level for level in range(self.levels + 1))

    def steps(self, level: int) -> tuple[int, ...]:
        """Voxels per axis that become one between `level` and the one below it."""
        if self.strides is not None:
            return self.strides[level]
        return tuple(2 if level >= self.levels - depth else 1 for depth in self.depths)

    def taps(self, level: int) -> tuple[int, ...]:
        """Voxels per axis of the kernels of a level."""
        if self.kernels is not None:
            return self.kernels[level]
        return tuple(self.kernel if level >= self.levels - d else 1 for d in self.depths)
