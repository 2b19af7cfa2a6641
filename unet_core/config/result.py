"""Settings from probabilities to the report: calibrate, stitch, score, report."""

from typing import Literal

from pydantic.dataclasses import dataclass

from unet_core.config.base import STRICT
from unet_core.errors import ConfigError

Method = Literal["threshold", "watershed"]
Scope = Literal["section", "volume"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ObjectsConfig:
    """What an object is; read by calibrate, stitch and score."""

    foreground: int | tuple[int, ...] = 1
    """Class whose objects are made and scored. Several (model.output sigmoid): the mean of their
    probabilities stands for one; of affinities list those of the nearest offsets."""

    scope: Scope = "section"
    """section: connected within a section (4-connected). volume: in 3-D (6-connected)."""

    min_size_vx: int = 20
    """Objects with fewer voxels, counted over the whole volume, become 0 (threshold) or join the
    neighbour across the lowest border (watershed)."""

    def __post_init__(self) -> None:
        if min(self.classes, default=0) < 1 or self.min_size_vx < 0:
            raise ConfigError(
                "objects.foreground must be a class >= 1 or a list of such, and "
                f"objects.min_size_vx >= 0; got {self.foreground} and {self.min_size_vx}"
            )

    @property
    def classes(self) -> tuple[int, ...]:
        """Those of foreground."""
        return self.foreground if isinstance(self.foreground, tuple) else (self.foreground,)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CalibrateConfig:
    """What is tried on the validation volumes to choose how `stitch` makes objects."""

    methods: tuple[Method, ...] = ("threshold", "watershed")
    """Ways to objects that compete."""

    thresholds: int = 60
    """Thresholds of the grid, evenly spaced in logit from 0.002 to 0.998: denser near 0 and 1."""

    smoothing_px: tuple[float, ...] = (0.0, 1.0, 2.0, 3.0)
    """watershed: Gaussian smoothing of the probability before, in-plane pixels."""

    depths: tuple[float, ...] = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
    """watershed: basins shallower than this (on the probability's scale of 0 to 1) are merged."""

    measure: Literal["v_rand", "adapted_rand"] = "v_rand"
    """What is maximised: V_rand after border thinning, per section (ISBI 2012), or
    1 - adapted Rand error of objects in the scope of objects.scope."""

    def __post_init__(self) -> None:
        if not self.methods:
            raise ConfigError("calibrate.methods is empty; list threshold, watershed or both")
        if self.thresholds < 50:
            raise ConfigError(
                f"calibrate.thresholds must be >= 50, got {self.thresholds}: scores change "
                "steeply near 0 and 1"
            )
        if "watershed" in self.methods and not (self.smoothing_px and self.depths):
            raise ConfigError(
                "calibrate.smoothing_px and calibrate.depths need a value each for watershed; "
                "or take watershed out of calibrate.methods"
            )
        if min(self.smoothing_px, default=0) < 0 or not all(0 <= d <= 1 for d in self.depths):
            raise ConfigError(
                "calibrate.smoothing_px must be >= 0 px and calibrate.depths in [0, 1], got "
                f"{self.smoothing_px} and {self.depths}"
            )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class StitchConfig:
    """How probabilities become objects with one id over the whole volume."""

    method: Literal["calibrated", "threshold", "watershed"] = "calibrated"
    """calibrated: what did best on the validation volumes; the settings below then count only
    where no volume of fold validation has truth."""

    threshold: float = 0.5
    """threshold: voxels with a probability above are inside (compared as stored)."""

    smoothing_px: float = 1.0
    """watershed: Gaussian smoothing of the probability before, in-plane pixels."""

    depth: float = 0.05
    """watershed: basins shallower than this (scale 0 to 1) are merged."""

    def __post_init__(self) -> None:
        if not (0 <= self.threshold <= 1 and 0 <= self.depth <= 1):
            raise ConfigError(
                f"stitch.threshold and stitch.depth must be in [0, 1], got {self.threshold} and "
                f"{self.depth}"
            )
        if self.smoothing_px < 0:
            raise ConfigError(f"stitch.smoothing_px must be >= 0 px, got {self.smoothing_px}")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ScoreConfig:
    """Which scores are made of the volumes with truth."""

    isbi: bool = True
    """The ISBI 2012 set: V_rand and V_info after border thinning, Rand, pixel and warping error,
    per section, with the curve over thresholds."""

    thresholds: int = 11
    """Thresholds of the ISBI curve, evenly spaced from 0 to 1 (11 is the challenge's grid)."""

    iou_thresholds: tuple[float, ...] = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
    """Overlaps from which two objects count as matched, for average precision and F1."""

    def __post_init__(self) -> None:
        if self.thresholds < 2:
            raise ConfigError(f"score.thresholds must be >= 2, got {self.thresholds}")
        if not all(0.5 <= t <= 1 for t in self.iou_thresholds):
            raise ConfigError(
                f"score.iou_thresholds must be in [0.5, 1], got {self.iou_thresholds}: below 0.5 "
                "an object could match two others"
            )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ReportConfig:
    """What the page shows."""

    title: str = "U-Net segmentation"
    """Heading of the page."""

    sections: int = 3
    """Sections shown per volume, evenly spread."""

    width_px: int = 640
    """Width of one picture of a montage, pixels."""

    def __post_init__(self) -> None:
        if self.sections < 1 or not 64 <= self.width_px <= 4096:
            raise ConfigError(
                "report.sections must be >= 1 and report.width_px in 64..4096, got "
                f"{self.sections} and {self.width_px}"
            )
