"""Slabs of a volume: parts that jobs of their own infer, named by their first voxel."""

import itertools
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

from unet_core.config.base import Zyx
from unet_core.config.extent import Extent
from unet_core.config.inference import InferConfig
from unet_core.config.load import load
from unet_core.config.sheet import Volume
from unet_core.config.slabs import MOST_SLABS, default_slab
from unet_core.config.workflow import Workflow


def slab_for(config: InferConfig, raw: Extent, *, most: int = MOST_SLABS) -> Zyx:
    """Voxels of the stored probabilities in a slab: infer.slab, or so that `most` are enough."""
    made = raw.downsampled(config.downsample)
    return config.slab or default_slab(made.shape, made.fitted[1], most=max(1, most))


def slabs_for(config: InferConfig, raw: Extent, *, most: int = MOST_SLABS) -> list[str]:
    """Names of the slabs that hold some of infer.region, in C order: the first voxel, ``z-y-x``."""
    starts = itertools.product(*_starts(config, raw, most))
    return ["-".join(map(str, start)) for start in starts]


def number_of_slabs(config: InferConfig, raw: Extent, *, most: int = MOST_SLABS) -> int:
    """How many `slabs_for` names, without listing them."""
    return prod(map(len, _starts(config, raw, most)))


def _starts(config: InferConfig, raw: Extent, most: int) -> list[list[int]]:
    """First voxels of slabs along each axis."""
    slab, shape = slab_for(config, raw, most=most), raw.downsampled(config.downsample).shape
    region = config.region or tuple((0, n) for n in raw.shape)
    return [
        [start for start in range(0, n, size) if start * by < last and (start + size) * by > first]
        for n, size, by, (first, last) in zip(shape, slab, config.downsample, region, strict=True)
    ]


def listed(store: Path) -> Path:
    """The file that keeps which slabs a store is made in."""
    return store.with_name(f"{store.name}.slabs") / "slabs.json"


@dataclass(frozen=True, kw_only=True)
class Made:
    """A finished store of probabilities."""

    slabs: tuple[str, ...]
    """That it was made in; none: in one job."""

    settings: Mapping[str, Any]
    inputs: Mapping[str, Any]

    def is_of(self, settings: Mapping[str, Any], inputs: Mapping[str, Any]) -> bool:
        """Was it made from these? `settings`: of infer; `inputs`: digests, where they are there."""
        return all(
            of.get(key, value) == value
            for of, asked in ((self.settings, settings), (self.inputs, inputs))
            for key, value in asked.items()
        )


def made_of(store: Path) -> Made | None:
    """How a store was made; None where it is not finished."""
    about = _read(store / "zarr.json").get("attributes", {}).get("provenance")
    if about is None:
        return None
    slabs = tuple(_read(listed(store)).get("slabs", ()))
    return Made(slabs=slabs, settings=about["settings"]["infer"], inputs=about["inputs"])


def digest_in(file: Path) -> str | None:
    """Digest of what a store or a network holds: from its `zarr.json`, or its `model.json`."""
    about = _read(file)
    about = about.get("attributes", about)
    content: str | None = about.get("provenance", {}).get("content")
    return content


@dataclass(frozen=True)
class Way:
    """How a volume is inferred."""

    slabs: tuple[str, ...] = ()
    """Jobs for parts of it; none: one job for the whole."""

    slab: Zyx | None = None
    """Voxels of such a part."""


@dataclass(frozen=True, kw_only=True)
class Ways:
    """How each volume is inferred by each model, the same in all processes of a run.

    A finished store stays what it was made as, so that another infer.spread or infer.slab makes
    nothing stale: Snakemake compares the files that a job was given.
    """

    workflow: Workflow
    extent_of: Callable[[Workflow, Volume], Extent]
    volumes: Path
    models: Path
    """Folders of the results."""

    kept: Path
    """Where the jobs of a run read what the process that planned them has decided."""

    def of(self, volume: str, model: str, *, planning: bool, keep: bool) -> Way:
        """Decided where `planning`, and kept for the jobs; else as kept."""
        name, known = f"{volume}/{model}", _read(self.kept)
        if not planning and name in known:
            return load(Way, known[name], section=name)
        way = self._decide(volume, model)
        if keep and known.get(name, asdict(Way())) != asdict(way):
            self.kept.parent.mkdir(exist_ok=True)
            partial = self.kept.with_suffix(f".{os.getpid()}")
            partial.write_text(json.dumps(known | {name: asdict(way)}), encoding="utf-8")
            partial.replace(self.kept)
        return way

    def _decide(self, volume: str, model: str) -> Way:
        flow, config = self.workflow, self.workflow.sections["infer"]
        if flow.volumes[volume].batch is not None:
            return Way()
        made = made_of(self.volumes / volume / model / "probabilities.ome.zarr")
        if made is not None and made.is_of(*self._asked(volume, model)):
            return Way(made.slabs, config.slab)
        if config.spread != "slabs":
            return Way()
        try:
            raw = self.extent_of(flow, flow.volumes[volume])
        except FileNotFoundError:  # nobody looked into the file: as for its resources
            return Way()
        alone = sum(each.batch is None for each in flow.volumes.values())
        most = MOST_SLABS // (alone * len(flow.predictors))
        slab = slab_for(config, raw, most=most)
        return Way(tuple(slabs_for(replace(config, slab=slab), raw)), slab)

    def _asked(self, volume: str, model: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Settings and inputs that a store is to be of, as far as they tell."""
        settings = json.loads(self.workflow.settings("infer", model=model))["infer"]
        del settings["precision"]  # kept as what auto stood for
        digests = [
            digest_in(self.models / member / "model.json")
            for member in self.workflow.members(model)
        ]
        inputs: dict[str, Any] = {
            "raw": digest_in(self.volumes / volume / "raw.ome.zarr/zarr.json")
        }
        inputs["checkpoint"] = digests[0] if len(digests) == 1 else sorted(map(str, digests))
        if self.workflow.volumes[volume].mask:
            inputs["mask"] = digest_in(self.volumes / volume / "mask.ome.zarr/zarr.json")
        return settings, inputs


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
