"""What a job holds in memory and computes, stage by stage: arithmetic, before it runs.

Memory of a worker is what its stage holds of one block, by the formulas that the stages themselves
go by. Seconds are CPU time of one thread, measured on ISBI 2012, FIB-SEM and the demo on a server
core with AVX-512; passes of networks are counted in operations instead (`config.work_net`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, prod
from typing import Any

from unet_core.config.extent import Extent, counted
from unet_core.config.networks.settings import NetworkConfig
from unet_core.geometry import Zyx

PROCESS_MB = 300
"""Of a worker that has imported everything and read nothing."""

DRIVER_MB = 250
"""Of the process that deals blocks to workers of their own."""

START_S = 1.3
"""Of a process, on its own core, until it has imported everything."""

_PICTURE_MB = 3
"""Of the page, for the picture of a volume: read, encoded, put together."""

_SECTIONS_SCORED = 4
"""Of one unit of work of score."""

_BAND_BYTES = 256 * 2**20
"""Most that a block of convert grows to where files are compressed by sections."""

_PER_MINIMUM = {"section": 60.0, "volume": 170.0}
"""Voxels for each minimum of a watershed's landscape, by objects.scope: seen on noisy sections and
on smooth volumes, at 1 px of smoothing."""

_PER_COMPONENT = 500.0
"""Voxels for each component within a block: assumed. Electron micrographs have a body for every
2000 or more, and specks."""

_PIECE_BYTES = {"watershed": 160 + 3 * 120, "threshold": 120}
"""Of the tables that join pieces, as the stage refuses them: a minimum has about three edges."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a job has to do."""

    units: int = 1
    """Parts that workers share out."""

    need_mb: float = PROCESS_MB
    """Memory of one worker with one unit, its process included."""

    spare_mb: float = 100
    """Of need_mb: what stages add for safety, and processes were not seen to take."""

    driver_mb: float = DRIVER_MB
    """Memory of the process that deals units, where there are workers besides."""

    alone_mb: float = 0
    """Memory of that process at the end, when it joins what workers have found."""

    seconds: float = 0
    """CPU time of one thread, but for passes of networks."""

    flops: float = 0
    """Operations of passes of networks: a multiplication with its addition is two."""

    gpu_mb: float = 0
    """Memory of a GPU, where passes are computed there."""

    def shared(self, parts: int) -> "Work":
        """One of several jobs that share this work evenly."""
        each = {"seconds": self.seconds / parts, "flops": self.flops / parts}
        return replace(self, units=-(-self.units // parts), **each)


def convert(sections: Mapping[str, Any], extent: Extent, image: str) -> Work:
    """Of raw, truth or mask; blocks are bands of what the file stores together."""
    shard, shape = extent.fitted[1], extent.shape
    band = tuple(map(min, _band(extent, shard), shape))
    # As the stage: beyond its own value what is counted, cast, digested and encoded.
    value = {"raw": 5.0 * extent.voxel_bytes, "truth": 24.0, "mask": 16.0}[image]
    stored = {"raw": extent.voxel_bytes, "truth": 4, "mask": 1}[image]
    unit_mb = prod(map(min, extent.unit, shape)) * extent.voxel_bytes / 1e6
    levels = prod(extent.block) * (4 * stored + 24 * extent.channels) / 1e6
    most = max(2 * unit_mb + prod(band) * value / 1e6, levels if _is_tall(sections, shape) else 0)
    rate = {"raw": 0.03 * extent.channels, "truth": 0.06, "mask": 0.03}[image]
    if image == "truth" and sections["truth"].kind == "binary":
        rate = 0.3  # components are labelled twice
    return Work(
        units=counted(shape, _band(extent, shard)),
        need_mb=PROCESS_MB + most,
        alone_mb=DRIVER_MB + (_table_mb(extent.voxels / _PER_COMPONENT) if image == "truth" else 0),
        seconds=rate * extent.voxels / 1e6,
    )


def _is_tall(sections: Mapping[str, Any], shape: Zyx) -> bool:
    return bool(max(shape[1:]) > sections["convert"].smallest_level_px)


def _band(extent: Extent, shard: Zyx) -> Zyx:
    """Voxels of one block, as `io.readers.source.band_of` has it."""
    z, y, x = shard
    most = max(1, _BAND_BYTES // (z * y * x * extent.voxel_bytes))
    height, width = (min(u, n) for u, n in zip(extent.unit[1:], extent.shape[1:], strict=True))
    wide = min(-(-width // x), most)
    high = min(-(-height // y), most // wide) if wide * x >= width else 1
    return z, y * high, x * wide


def weights(sections: Mapping[str, Any], extent: Extent) -> Work:
    """Ids, distances, labels, term and masks of a block with its halo."""
    config, (z, y, x) = sections["weights"], extent.block
    semantic = sections["truth"].holds_classes
    pairs = (
        (config.border_weight, config.border_sigma_px),
        (config.near_weight, config.near_sigma_px),
    )
    # As `ops.weight_map.border_halo` has it.
    reaches = [ceil(6 * sigma) for weight, sigma in pairs if weight]
    reach = 0 if semantic else max(config.border_px, *reaches, 0)
    deep = reach if config.distances == "volume" and not semantic else 0
    sides = (z + 2 * deep, y + 2 * reach, x + 2 * reach)
    seen, there = prod(sides), prod(map(min, sides, extent.shape))
    terms = 0 if semantic else bool(config.border_weight) + bool(config.near_weight)
    rate = 0.22 * terms or 0.03
    return Work(
        units=extent.blocks,
        need_mb=PROCESS_MB + 60 * seen / 1e6,
        spare_mb=100 + (60 * seen - 45 * there) / 1e6,
        seconds=rate * extent.voxels / 1e6 * seen / prod(extent.block),
    )


def augment(sections: Mapping[str, Any], *, channels: int, fold: str) -> Work:
    """Patches of one file, twice while it is put together, and the region of one patch."""
    config = sections["augment"]
    count = config.patches if fold == "train" else config.validation_patches
    voxels = prod(config.patch)
    offsets = len(sections["weights"].affinities)
    held = voxels * min(config.shard_patches, count) * (2 * channels + 2 + max(1, offsets))
    each = 12 * channels + 12 + 8 * bool(offsets)
    bent = fold == "train" and (config.elastic_sd_px > 0 or config.rotation)
    shown = voxels * (max(1.0, 1 / config.scale[0]) ** 2 if fold == "train" else 1)
    return Work(
        units=counted([count], [config.shard_patches]),
        need_mb=PROCESS_MB + (2 * held + 2 * shown * each) / 1e6,
        spare_mb=0,
        seconds=(0.35 if bent else 0.2) * channels * voxels * count / 1e6,
    )


def calibrate(sections: Mapping[str, Any], extents: Sequence[Extent]) -> Work:
    """Single sections under all candidates, or whole volumes under some of them."""
    config, whole = sections["calibrate"], sections["objects"].scope == "volume"
    grid = len(config.smoothing_px) * len(config.depths)
    thresholds = config.thresholds if "threshold" in config.methods else 0
    tried = thresholds + (grid if "watershed" in config.methods else 0)
    groups = -(-thresholds // 10) + (len(config.smoothing_px) if tried > thresholds else 0)
    shapes = [extent.shape for extent in extents]
    held = max(prod(shape) if whole else prod(shape[1:]) for shape in shapes)
    return Work(
        units=groups * len(shapes) if whole else sum(z for z, _, _ in shapes),
        need_mb=PROCESS_MB + 150 * held / 1e6,
        spare_mb=0,
        seconds=0.055 * tried * sum(map(prod, shapes)) / 1e6,
    )


def stitch(sections: Mapping[str, Any], extent: Extent, method: str | None = None) -> Work:
    """A block twice, and once the tables that join the pieces of all blocks, in one process.

    `method`: what calibrate has chosen; None: not known, so the one that takes more.
    """
    given = _method(sections, method)
    value, rate = (80, 0.4) if given == "watershed" else (24, 0.2)
    # Landscapes of sections are made one after another.
    spare = 20 if given == "watershed" and sections["objects"].scope == "section" else 0
    return Work(
        units=extent.blocks,
        need_mb=PROCESS_MB + value * prod(extent.block) / 1e6,
        spare_mb=100 + spare * prod(extent.block) / 1e6,
        alone_mb=DRIVER_MB + _table_mb(extent.voxels / voxels_per_piece(sections, method), given),
        seconds=rate * extent.voxels / 1e6,
    )


def voxels_per_piece(sections: Mapping[str, Any], method: str | None = None) -> float:
    """Voxels for each piece that `stitch` keeps a row of; `method` as there.

    Of minima there are fewer, the wider the landscape is smoothed: assumed by the square.
    """
    if _method(sections, method) == "threshold":
        return _PER_COMPONENT
    set_here = sections["stitch"].method == "watershed"
    smoothing_px = sections["stitch"].smoothing_px if set_here else 1.0
    each: float = _PER_MINIMUM[sections["objects"].scope] * max(1.0, smoothing_px) ** 2
    return each


def _method(sections: Mapping[str, Any], method: str | None) -> str:
    given: str = sections["stitch"].method
    return (method or "watershed") if given == "calibrated" else given


def _table_mb(pieces: float, method: str = "threshold") -> float:
    return pieces * _PIECE_BYTES[method] / 1e6


def score(sections: Mapping[str, Any], extent: Extent, *, classes: int = 1) -> Work:
    """A slab of sections as stored, and one section being counted; `classes`: stored ones."""
    config, infer = sections["score"], sections["infer"]
    z, y, x = extent.shape
    deep = min(extent.fitted[0][0], _SECTIONS_SCORED)
    held = 12 + classes * itemsize_of(infer.dtype) + 150 / _SECTIONS_SCORED
    return Work(
        units=-(-z // deep),
        need_mb=PROCESS_MB + min(deep, z) * y * x * held / 1e6,
        spare_mb=30,
        seconds=(0.125 * config.thresholds if config.isbi else 0.5) * extent.voxels / 1e6,
    )


def page(pictures: int = 0) -> Work:
    """Of montage: some sections of a volume; of report: small files and all pictures."""
    return Work(need_mb=PROCESS_MB + _PICTURE_MB * pictures, seconds=0.3)


def itemsize_of(dtype: str) -> int:
    """Bytes of a stored probability."""
    return {"uint8": 1, "float16": 2}[dtype]


def channels_of(models: Sequence[NetworkConfig]) -> int:
    """Channels of the raw volumes that networks are made for."""
    return max(model.channels for model in models)


def one_after_another(each: Sequence[Work]) -> Work:
    """Of several pieces of work in one job."""
    return Work(
        units=max(one.units for one in each),
        need_mb=max(one.need_mb for one in each),
        spare_mb=min(one.spare_mb for one in each),
        driver_mb=max(one.driver_mb for one in each),
        alone_mb=max(one.alone_mb for one in each),
        seconds=sum(one.seconds for one in each),
        flops=sum(one.flops for one in each),
        gpu_mb=max(one.gpu_mb for one in each),
    )
