"""What the page says of how probabilities were made: in which part, and what is missing."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unet_core.geometry import Box, blocks, fine
from unet_core.io.arrays import open_level, shard_of
from unet_core.io.ngff import attributes_of


def inference_of(results: Path, volume: str, model: str) -> dict[str, Any]:
    """What is special about the probabilities of one volume.

    `part`: sentences on region, mask, level, windows and skipped share, of those that are not as
    by default; `failed`: block and error of each that could not be computed; `marker`: the file
    that, given to `snakemake --forcerun`, has them tried again.
    """
    store = results / "volumes" / volume / model / "probabilities.ome.zarr"
    unet = attributes_of(store)["unet"]
    failed = [{"block": name, "error": error} for name, error in unet.get("failed", {}).items()]
    return {
        "volume": volume,
        "model": model,
        "part": list(_part(unet)),
        "failed": failed,
        "marker": str((store / "zarr.json").relative_to(results.parent)),
    }


def share_computed(results: Path, volume: str, model: str) -> float:
    """Of the voxels of a volume, those that were computed.

    They are inside of region and mask, not empty, and not in blocks that failed.
    """
    store = results / "volumes" / volume / model / "probabilities.ome.zarr"
    if not (store / "zarr.json").exists():
        return 1.0
    unet = attributes_of(store)["unet"]
    z, y, x = open_level(results / "volumes" / volume / "raw.ome.zarr").shape[-3:]
    within = Box((0, 0, 0), (z, y, x))
    if region := unet.get("region"):
        (z0, z1), (y0, y1), (x0, x1) = region
        within = within.intersection(Box((z0, y0, x0), (z1, y1, x1)))
    computed = within.size * (1 - float(unet.get("skipped", 0)))
    if failed := unet.get("failed"):
        made = open_level(store)
        for block in blocks(made.shape[-3:], block=shard_of(made)):
            if block.name in failed:
                step = unet.get("downsample", (1, 1, 1))
                computed -= fine(block.write, step).intersection(within).size
    return max(0.0, computed / (z * y * x))


def _part(unet: Mapping[str, Any]) -> list[str]:
    told = []
    if region := unet.get("region"):
        axes = ", ".join(
            f"{axis} {start} to {stop}" for axis, (start, stop) in zip("zyx", region, strict=True)
        )
        told.append(f"only the region {axes} was computed")
    if unet.get("mask"):
        told.append("only voxels inside the mask were computed")
    if (step := unet.get("downsample", [1, 1, 1])) != [1, 1, 1]:
        told.append(f"one voxel is the mean of {' x '.join(map(str, step))} (z y x) of raw")
    told += _windows(unet)
    if skipped := unet.get("skipped", 0):
        told.append(f"{100 * skipped:.3g} % of its voxels lie in blocks skipped as masked or empty")
    return told


def _windows(unet: Mapping[str, Any]) -> list[str]:
    found = unet.get("windows") or []
    each = [one for one in (found if isinstance(found, list) else [found]) if one]
    told = dict.fromkeys(
        f"windows of {' x '.join(map(str, one['size']))} voxels (z y x), at most "
        f"{' x '.join(map(str, one['stride']))} apart, were averaged by {one['weight']}"
        + (f": no exact tiling ({why})" if (why := one["because"]) else "")
        for one in each
    )
    return list(told)


def failures(volumes: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of all volumes and models, those with blocks that failed."""
    return [
        picture["inference"]
        for volume in volumes
        for picture in volume["pictures"]
        if picture["inference"]["failed"]
    ]
