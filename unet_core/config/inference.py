"""Settings of inference."""

from itertools import pairwise
from typing import Literal

from pydantic.dataclasses import dataclass

from unet_core.config.base import STRICT, Zyx
from unet_core.errors import ConfigError

Region = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""Per axis (z, y, x) the first voxel and the one after the last."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class InferConfig:
    """How the network is laid over a volume."""

    tile_px: int | Literal["auto"] = "auto"
    """Voxels per side that are computed at a time, which decides memory and speed alone. A network
    that is tiled exactly yields them in one pass, sees them plus its halo, and needs a multiple of
    its stride; auto is what a short trial finds fastest within the memory. Of one in windows, the
    windows that touch them are summed, and those that others share computed again; auto: many
    windows."""

    window: int | tuple[int, ...] | None = None
    """Voxels that the network yields at a time at places of one grid, results being averaged where
    windows overlap: one number, or one per axis that it sees ([z,] y, x). With model.padding same
    it sees just these. null: exact tiles where the network allows them, else windows of the patches
    it was trained on."""

    window_stride: int | tuple[int, ...] | None = None
    """Voxels from one window to the next, given like window; null: two thirds of a window, with
    window_weight gaussian half of it."""

    window_weight: Literal["count", "gaussian"] = "count"
    """count: all windows count alike, and the last is pulled back inside (mmsegmentation).
    gaussian: voxels at a window's middle count most (standard deviation: an eighth of it), and
    windows are spread evenly (nnU-Net)."""

    dtype: Literal["uint8", "float16"] = "uint8"
    """Of the stored probabilities; uint8: 0..255 stand for 0..1."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the convolutions; auto: bfloat16 where the device computes it natively."""

    averaging: Literal["none", "mirrors", "turns", "symmetries"] = "none"
    """Mean over the network's results for views of its input. mirrors: flipped along all axes that
    it sees (4, in 3-D 8 passes). turns: the 4 quarter turns of a section. symmetries: all 8 flips
    and quarter turns of a section."""

    averaged: Literal["probabilities", "logits"] = "probabilities"
    """What is averaged over windows and views; over networks it is always probabilities."""

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
        self._check_windows()
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

    def _check_windows(self) -> None:
        for key in ("window", "window_stride"):
            given = getattr(self, key)
            sizes = given if isinstance(given, tuple) else (given or 0,) * 2
            if given is not None and (len(sizes) not in (2, 3) or min(sizes) < 1):
                raise ConfigError(
                    f"infer.{key} must be null, a number >= 1, or one per axis ([z,] y, x), in "
                    f"voxels, got {list(sizes) if sizes is given else given}"
                )

    def views(self, dimensions: int) -> int:
        """Passes over one input whose results are averaged, of a network of so many dimensions."""
        if self.averaging == "mirrors":
            return 4 if dimensions == 2 else 8
        return {"none": 1, "turns": 4, "symmetries": 8}[self.averaging]

    def stored(self, classes: int) -> tuple[int, ...]:
        """Classes whose probabilities are stored, in order, of a network that has `classes`."""
        return tuple(range(1, classes)) if self.classes is None else self.classes
