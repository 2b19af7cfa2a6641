"""Settings from raw files to patches: convert, truth, weights, augment."""

from typing import Literal

from pydantic.dataclasses import dataclass

from unet_core.config.base import STRICT, Zyx
from unet_core.errors import ConfigError

Normalise = Literal["mean_std", "percentile", "none", "imagenet", "caffe"]
"""How raw values become intensities."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ConvertConfig:
    """How volumes are stored: every store of a volume is cut like this."""

    chunk: Zyx = (16, 128, 128)
    """Voxels (z, y, x) that are compressed together."""

    shard: Zyx = (32, 512, 512)
    """Voxels (z, y, x) of one file; whole multiples of chunk. A block of work is one shard."""

    codec: Literal["zstd", "lz4", "none"] = "zstd"
    """Compression of the chunks."""

    smallest_level_px: int = 256
    """Pyramid levels are added until y and x are at most this many pixels."""

    def __post_init__(self) -> None:
        if min(*self.chunk, *self.shard) < 1:
            raise ConfigError(
                f"convert.chunk and convert.shard must be >= 1 voxel per axis, got {self.chunk} "
                f"and {self.shard}"
            )
        if any(s % c for s, c in zip(self.shard, self.chunk, strict=True)):
            nearest = tuple(-(-s // c) * c for s, c in zip(self.shard, self.chunk, strict=True))
            raise ConfigError(
                f"convert.shard {self.shard} is not a whole multiple of convert.chunk "
                f"{self.chunk}; the nearest that is: {nearest}"
            )
        if self.smallest_level_px < 1:
            raise ConfigError(
                f"convert.smallest_level_px must be >= 1 px, got {self.smallest_level_px}"
            )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class VolumeConfig:
    """What the volume sheet says of one volume besides its files."""

    voxel_size_nm: tuple[float, float, float] | None = None
    """Edge lengths (z, y, x) of a voxel, nanometres; null: what the file says."""

    sections: tuple[int, int] | None = None
    """First section and the one after the last, counted from 0; null: all."""

    def __post_init__(self) -> None:
        if self.voxel_size_nm is not None and min(self.voxel_size_nm) <= 0:
            raise ConfigError(f"voxel_size_nm must be > 0 nm, got {self.voxel_size_nm}")
        if self.sections is not None and not 0 <= self.sections[0] < self.sections[1]:
            raise ConfigError(
                f"sections must be first:stop with 0 <= first < stop, got {self.sections}"
            )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TruthConfig:
    """What the values of the truth files mean."""

    kind: Literal["instances", "binary", "semantic", "foreground"] = "instances"
    """instances: one id per object, 0 between them. binary: non-zero is inside of an object;
    objects are its connected components. semantic: the value is the class. foreground: non-zero is
    class 1, as in masks of 0 and 255."""

    objects: Literal["section", "volume"] = "section"
    """binary: components are taken per section (4-connected) or in 3-D (6-connected)."""

    ignore_label: int | None = None
    """Value (as in the file) that counts for nothing in loss and score; null: there is none."""

    @property
    def holds_classes(self) -> bool:
        """Whether truth is classes, not ids of objects."""
        return self.kind in ("semantic", "foreground")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class WeightsConfig:
    """What the network shall learn, and how strongly the loss presses on thin borders."""

    border_px: int = 1
    """Instances: voxels within this distance (in-plane pixels) of another object become border
    (class 0) in the target, so that touching objects are apart; 0 draws none."""

    border_weight: float = 10.0
    """w0, height of the border term (Ronneberger et al. 2015, eq. 2); 0 turns it off."""

    border_sigma_px: float = 5.0
    """sigma, width of the border term, in-plane pixels."""

    near_weight: float = 0.0
    """Instances: height of a further term on background, which falls with the distance to the
    nearest object (Falk et al. 2019: 0.9 beside a class weight of 0.1); 0: there is none."""

    near_sigma_px: float = 10.0
    """Width of that term, in-plane pixels."""

    distances: Literal["section", "volume"] = "section"
    """Distances to other objects are measured per section or in 3-D (with the voxel spacing, in
    units of the in-plane pixel): of the border and of both terms. volume needs ids that are the
    same in all sections."""

    affinities: tuple[Zyx, ...] = ()
    """Instances, binary: offsets (z, y, x) in voxels. Not the class of a voxel is learnt then, but
    for each offset whether the voxel and that at the offset from it are of one object. Class n of
    the network, from 1, is the n-th offset: it needs model.output sigmoid and one class more than
    there are offsets."""

    def __post_init__(self) -> None:
        self._check_affinities()
        if self.border_px < 0:
            raise ConfigError(f"weights.border_px must be >= 0 px, got {self.border_px}")
        for term in ("border", "near"):
            weight, sigma = getattr(self, f"{term}_weight"), getattr(self, f"{term}_sigma_px")
            if weight < 0:
                raise ConfigError(f"weights.{term}_weight must be >= 0, got {weight}")
            if sigma <= 0:
                raise ConfigError(
                    f"weights.{term}_sigma_px must be > 0 px, got {sigma}; to switch the {term} "
                    f"term off, set weights.{term}_weight to 0"
                )

    def _check_affinities(self) -> None:
        offsets = self.affinities
        if (0, 0, 0) in offsets or len(set(offsets)) < len(offsets):
            raise ConfigError(
                "weights.affinities must list offsets (z, y, x) other than [0, 0, 0], each once, "
                f"such as [[-1, 0, 0], [0, -1, 0], [0, 0, -1]]; got {list(map(list, offsets))}"
            )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AugmentConfig:
    """The bank of training patches: how many, how large, how deformed."""

    seed: int = 0
    """Patch i depends on seed and i alone, not on their number or on who makes it."""

    patches: int = 1000
    """Patches in the training bank."""

    validation_patches: int = 32
    """Patches in the validation bank; they are drawn like the others but not deformed."""

    patch: Zyx = (1, 572, 572)
    """Voxels (z, y, x) of a patch: what the network sees. The network's input sizes are listed by
    `unet-core describe`."""

    normalise: Normalise = "mean_std"
    """Intensities from statistics of the whole volume. mean_std: mean 0, deviation 1. percentile:
    percentiles 0.5 and 99.5 become 0 and 1. none: divided by the type's range. imagenet, caffe: as
    backbones trained on ImageNet want RGB images, by torch and by Keras."""

    elastic_sd_px: float = 10.0
    """Standard deviation (pixels) of the random displacements at the nodes; 0: no bending."""

    elastic_nodes: int = 3
    """Nodes per in-plane axis of the displacement grid; corners included."""

    symmetries: bool | Literal["left_right"] = True
    """Draw one of the eight flips and quarter turns of the section, and whether the sections come
    in reverse order. left_right: draw whether the section is mirrored left to right, alone."""

    rotation: bool = False
    """Draw a rotation by any angle besides."""

    scale: tuple[float, float] = (1.0, 1.0)
    """Sections are enlarged by a factor that is drawn uniformly from this range (mmsegmentation:
    0.5 to 2)."""

    jitter: Literal["normalised", "colours"] = "normalised"
    """What contrast and brightness change. normalised: intensities as the network sees them.
    colours: red, green and blue before they are normalised and never beyond the type's range, each
    change with a chance of a half (mmsegmentation)."""

    contrast: float = 0.1
    """Intensities are multiplied by 1 +- this, drawn uniformly per patch."""

    brightness: float = 0.1
    """Intensities are shifted by +- this (after normalising; colours: of the type's range), drawn
    uniformly per patch."""

    saturation: float = 0.0
    """jitter colours: saturation is multiplied by 1 +- this."""

    hue: float = 0.0
    """jitter colours: hue is turned by +- this share of the circle."""

    noise_sd: float = 0.0
    """Standard deviation of Gaussian noise added per voxel (after normalising)."""

    border_bias: float = 0.0
    """Chance (0 to 1) that a patch is centred on the border of an object (a voxel of class 0 beside
    one of another class) instead of anywhere; for volumes where borders or objects are rare."""

    foreground_share: float = 0.0
    """Chance (0 to 1) that a patch is centred on a voxel of a class above 0, each class that occurs
    as often as the others, instead of anywhere (nnU-Net: 0.33)."""

    background_chance: float = 1.0
    """Chance (0 to 1) that a patch placed anywhere stays where its centre is of class 0; else it is
    placed again (Falk et al. 2019: 0.1). Below 1 the centre has a class."""

    largest_share: float = 1.0
    """Where one class has this share or more of the voxels with a class, a patch is placed again,
    up to 10 times (mmsegmentation: 0.75). 1: never."""

    shard_patches: int = 16
    """Patches in one file of the bank, and in one block of work."""

    def __post_init__(self) -> None:
        if min(self.patches, self.validation_patches, self.shard_patches, *self.patch) < 1:
            raise ConfigError(
                "augment.patches, augment.validation_patches, augment.shard_patches and "
                f"augment.patch must be >= 1, got {self.patches}, {self.validation_patches}, "
                f"{self.shard_patches} and {self.patch}"
            )
        if self.seed < 0:
            raise ConfigError(f"augment.seed must be >= 0, got {self.seed}")
        if self.elastic_sd_px < 0 or self.noise_sd < 0:
            raise ConfigError(
                "augment.elastic_sd_px and augment.noise_sd must be >= 0, got "
                f"{self.elastic_sd_px} and {self.noise_sd}; 0 turns either off"
            )
        if self.elastic_nodes < 2:
            raise ConfigError(f"augment.elastic_nodes must be >= 2, got {self.elastic_nodes}")
        if not (0 <= self.contrast < 1 and self.brightness >= 0):
            raise ConfigError(
                "augment.contrast must be in [0, 1) and augment.brightness >= 0, got "
                f"{self.contrast} and {self.brightness}"
            )
        self._check_colours()
        self._check_places()

    def _check_colours(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ConfigError(
                "augment.scale must be [least, most] with 0 < least <= most, got "
                f"{list(self.scale)}; [1, 1] changes no size"
            )
        if not (0 <= self.saturation <= 1 and 0 <= self.hue <= 0.5):
            raise ConfigError(
                "augment.saturation must be in [0, 1] and augment.hue in [0, 0.5], got "
                f"{self.saturation} and {self.hue}"
            )
        if self.jitter != "colours" and (self.saturation or self.hue):
            raise ConfigError(
                f"augment.saturation {self.saturation} and augment.hue {self.hue} need "
                "augment.jitter colours; set it, or set both to 0"
            )

    def _check_places(self) -> None:
        for key in ("border_bias", "foreground_share", "background_chance"):
            if not 0 <= getattr(self, key) <= 1:
                raise ConfigError(f"augment.{key} must be in [0, 1], got {getattr(self, key)}")
        if self.border_bias + self.foreground_share > 1:
            raise ConfigError(
                "augment.border_bias and augment.foreground_share are shares of the patches and "
                f"must add up to 1 at most, got {self.border_bias} and {self.foreground_share}"
            )
        if not 0 < self.largest_share <= 1:
            raise ConfigError(f"augment.largest_share must be in (0, 1], got {self.largest_share}")
