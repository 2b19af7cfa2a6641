"""What every job of a workflow needs: its volumes as stored, as their files say, or as told."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from unet_core.config import demand, work, work_net
from unet_core.config.extent import Extent, described, read_headers, stored, unknown
from unet_core.config.sheet import Volume
from unet_core.config.work import Work
from unet_core.config.workflow import Workflow
from unet_core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Files:
    """Where to look for how large volumes are."""

    results: Path
    headers: Path
    """Written by `unet-core check`: of files that are not converted yet."""

    def extent(self, workflow: Workflow, volume: Volume, image: str | None = None) -> Extent:
        """Of the volume as it is stored, or else as its file says; of `image`, as its file says.

        Raises
        ------
        FileNotFoundError
            If nothing tells, naming what would.
        """
        if image is not None and (told := self._told(workflow, volume, image)) is not None:
            return told
        group = self.results / "volumes" / volume.name / "raw.ome.zarr/zarr.json"
        found = self._stored(group) or self._told(workflow, volume, "raw")
        if found is None:
            raise unknown(group)
        return found

    def _told(self, workflow: Workflow, volume: Volume, image: str) -> Extent | None:
        """What the header of a file says."""
        told = _headers(self.headers, _changed(self.headers)).get(volume.source(image))
        if told is None:
            return None
        channels, z, y, x = told["shape"]
        if volume.settings.sections is not None:
            first, stop = volume.settings.sections
            z = max(1, min(stop, z) - first)
        told = {"channels": channels, "dtype": told["dtype"], "unit": told["unit"]}
        return described(workflow.sections["convert"], (z, y, x), **told)

    def _stored(self, group: Path) -> Extent | None:
        when = _changed(group)
        return None if when is None else _stored(group.parent, when)

    def method(self, model: str) -> str | None:
        """How objects are made, where calibrate has chosen."""
        try:
            path = self.results / "models" / model / "calibration.json"
            chosen: str = json.loads(path.read_text(encoding="utf-8"))["best"]["method"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return chosen


def _changed(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


@lru_cache(maxsize=10_000)
def _stored(store: Path, when: int) -> Extent | None:
    return stored(store)


@lru_cache(maxsize=1)
def _headers(file: Path, when: int | None) -> Mapping[str, Any]:
    return read_headers(file)


@dataclass(frozen=True, kw_only=True)
class Needs:
    """Work of the jobs of a workflow."""

    workflow: Workflow
    extent_of: Callable[[Workflow, Volume, str | None], Extent]
    """As `Files.extent`."""

    method_of: Callable[[str], str | None] = lambda model: None

    def work(
        self,
        stage: str,
        *,
        volumes: Sequence[str] = (),
        image: str = "raw",
        fold: str = "train",
        model: str = "",
        threads: int = 1,
        gpus: int = 0,
    ) -> Work:
        """Of one job, named by its wildcards; of several volumes the sum, and the largest memory.

        Raises
        ------
        FileNotFoundError
            If a volume is not known yet.
        """
        flow = self.workflow
        sections = flow.sections
        if stage == "augment":
            net = work.channels_of([each.model for each in flow.models.values()])
            return work.augment(sections, channels=net, fold=fold)
        if stage == "train":
            return work_net.train(sections, flow.models[model], gpus=gpus)
        if stage in ("montage", "report"):
            pictures = len(flow.volumes) * len(flow.predictors) if stage == "report" else 0
            return work.page(pictures)
        source = image if stage == "convert" else None
        extents = [self.extent_of(flow, flow.volumes[name], source) for name in volumes]
        if stage == "convert":
            return work.convert(sections, extents[0], image)
        if stage == "weights":
            return work.weights(sections, extents[0])
        nets = [flow.models[member].model for member in flow.members(model)]
        infer = sections["infer"]
        if stage == "infer":
            each = [
                work_net.infer(sections, nets, one, threads=threads, gpus=gpus) for one in extents
            ]
            return work.one_after_another(each)
        made = [extent.downsampled(infer.downsample) for extent in extents]
        if stage == "calibrate":
            return work.calibrate(sections, made)
        if stage == "stitch":
            return work.stitch(sections, made[0], self.method_of(model))
        if stage == "score":
            stored = len(infer.stored(nets[0].classes))
            return work.score(sections, made[0], classes=stored)
        raise ConfigError(f"no stage {stage}")

    def memory_mb(self, stage: str, *, threads: int, gpus: int = 0, **job: Any) -> int:
        """Memory (MB) to ask for at the first attempt; `threads` and `gpus` of a node."""
        found = self.work(stage, threads=threads, gpus=gpus, **job)
        return demand.memory_mb(found, threads=threads, gpus=gpus)

    def driver_mb(self, stage: str, *, threads: int, gpus: int = 0, **job: Any) -> int:
        """Memory (MB) to ask for at the first attempt where the workers are jobs of their own."""
        return demand.driver_mb(self.work(stage, threads=threads, gpus=gpus, **job))

    def minutes(
        self, stage: str, *, threads: int, gpus: int = 0, nodes: int = 1, **job: Any
    ) -> int:
        """Run time (minutes) to ask for at the first attempt; `threads` of each node."""
        found = self.work(stage, threads=threads, gpus=gpus, **job)
        return demand.minutes(found, stage, threads=threads, gpus=gpus, nodes=nodes)
