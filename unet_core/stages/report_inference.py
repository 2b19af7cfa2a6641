"""What the page says of how probabilities were made: in which part, and what is missing."""

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

from unet_core.io.arrays import open_level
from unet_core.io.ngff import attributes_of


def inference_of(results: Path, volume: str, model: str) -> dict[str, Any]:
    """What is special about the probabilities of one volume.

    `part`: sentences on region, mask, level and skipped share, of those that are not as by
    default; `failed`: block and error of each that could not be computed; `marker`: the file that,
    given to `snakemake --forcerun`, has them tried again.
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
    """Of the voxels of a volume, those that were computed: inside of region and mask, not empty."""
    store = results / "volumes" / volume / model / "probabilities.ome.zarr"
    if not (store / "zarr.json").exists():
        return 1.0
    unet, share = attributes_of(store)["unet"], 1.0
    if region := unet.get("region"):
        shape = open_level(results / "volumes" / volume / "raw.ome.zarr").shape[-3:]
        share = prod((stop - start) / n for (start, stop), n in zip(region, shape, strict=True))
    return share * (1 - float(unet.get("skipped", 0)))


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
    if skipped := unet.get("skipped", 0):
        told.append(f"{100 * skipped:.3g} % of its voxels lie in blocks skipped as masked or empty")
    return told


def failures(volumes: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of all volumes and models, those with blocks that failed."""
    return [
        picture["inference"]
        for volume in volumes
        for picture in volume["pictures"]
        if picture["inference"]["failed"]
    ]
