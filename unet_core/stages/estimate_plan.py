"""Bounds that a run is held against: jobs of Snakemake, their memory and time, files per TB."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Protocol

from unet_core.config.base import Zyx
from unet_core.config.demand import MOST_JOB_MB, MOST_JOB_MINUTES, MOST_MB
from unet_core.config.extent import Extent, counted
from unet_core.config.work import stitch
from unet_core.stages.estimate_stores import Store

MOST_JOBS = 5000
"""Jobs that Snakemake plans in tens of seconds; each start of it plans them all."""

MOST_FILES_PER_TB = 20_000
"""Files of all stores per 10^12 bytes of raw: file systems count files, and backups walk them."""

_SMALL_BYTES = 10**11
"""Raw volumes below this have so few files that their number does not matter."""

_STORES = 3.2
"""Stores of a volume that is predicted: raw with its pyramid, probabilities, labels."""

_LARGEST: Zyx = (128, 1024, 1024)
"""Shard up to which one grows of itself, as multiples of chunk; a block of it takes 3 to 11 GB."""


class Counted(Protocol):
    """Jobs of a stage, and what the largest asks for."""

    jobs: int
    memory_mb: int
    longest_minutes: float


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A figure and what it should not exceed."""

    name: str
    value: float
    most: float

    @property
    def met(self) -> bool:
        """It does not."""
        return self.value <= self.most


def limits(
    rows: Sequence[Counted], stores: Sequence[Store], known: Mapping[str, Extent]
) -> list[Limit]:
    """Jobs, memory and time of one; files per terabyte where there is so much."""
    memory = max(row.memory_mb for row in rows) / 1000
    days = max(row.longest_minutes for row in rows) / (24 * 60)
    found = [
        Limit(name="jobs", value=sum(row.jobs for row in rows) + 1, most=MOST_JOBS),
        Limit(name="GB of memory of a job", value=memory, most=MOST_JOB_MB / 1000),
        Limit(name="days of a job", value=days, most=MOST_JOB_MINUTES / (24 * 60)),
    ]
    raw = sum(extent.voxels * extent.voxel_bytes for extent in known.values())
    if raw >= _SMALL_BYTES:
        files = sum(store.files for store in stores)
        per_tb = files / (raw / 1e12)
        found.append(Limit(name="files per TB of raw", value=per_tb, most=MOST_FILES_PER_TB))
    return found


def ways_to_join(sections: Mapping[str, Any], extent: Extent) -> list[str]:
    """What to set so that a node holds the tables of `stitch`, each with the GB that are left.

    One after the other until a usual node (`demand.MOST_MB`) would do; the last is to make objects
    part by part.
    """
    infer, ways = sections["infer"], []
    coarse = [max(1, by) for by in infer.downsample]
    coarse[1:] = [max(4, by) for by in coarse[1:]]
    steps: list[tuple[str, str, dict[str, Any]]] = [
        ("set stitch.method to threshold", "stitch", {"method": "threshold"}),
        (f"then infer.downsample to {coarse}", "infer", {"downsample": tuple(coarse)}),
    ]
    asked = dict(sections)
    for told, section, changes in steps:
        changed = replace(asked[section], **changes)
        if changed == asked[section]:
            continue
        asked[section] = changed
        made = extent.downsampled(asked["infer"].downsample)
        held_mb = stitch(asked, made).alone_mb
        ways.append(f"{told} ({max(1, held_mb / 1000):,.0f} GB)")
        if held_mb <= MOST_MB:
            return ways
    made = extent.downsampled(asked["infer"].downsample)
    depth = int(extent.shape[0] * MOST_MB / stitch(asked, made).alone_mb)
    part = f"rows of at most {depth} sections" if depth else "parts smaller than a section"
    ways.append(
        f"then cut the volume in the sheet (sections) into {part}, whose objects are not joined "
        f"({MOST_MB / 1000:.0f} GB)"
    )
    return ways


def advised_shard(extent: Extent) -> Zyx:
    """The shard (z, y, x) to set for a volume: its own, or one with fewer files.

    Whole multiples of the chunk, doubled along the shortest edge (in chunks) while there are more
    than MOST_FILES_PER_TB files of all stores, at most to `_LARGEST` and then along z.
    """
    shard = list(extent.shard)
    raw = extent.voxels * extent.voxel_bytes
    if raw < _SMALL_BYTES:
        return extent.shard
    most = MOST_FILES_PER_TB * raw / 1e12
    while _STORES * counted(extent.shape, shard) > most:
        growing = [
            axis
            for axis in range(3)
            if shard[axis] < extent.shape[axis] and 2 * shard[axis] <= _LARGEST[axis]
        ]
        if growing:
            axis = min(growing, key=lambda axis: shard[axis] / _LARGEST[axis])
            shard[axis] *= 2
        elif prod(shard) >= 2 * prod(_LARGEST) or shard[0] >= extent.shape[0]:
            break
        else:
            shard[0] += extent.chunk[0]
    z, y, x = shard
    return z, y, x
