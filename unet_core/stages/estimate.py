"""How much a run will take, before anything runs: files, disk, memory, operations, time, money."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from unet_core.config import demand
from unet_core.config.devices import Device, device
from unet_core.config.extent import Extent, described, read_headers
from unet_core.config.needs import Files, Needs
from unet_core.config.resources import DRIVER_MB
from unet_core.config.sheet import Volume
from unet_core.config.slabs import MOST_SLABS
from unet_core.config.spread import number_of_slabs
from unet_core.config.work import Work, voxels_per_piece
from unet_core.config.workflow import Workflow
from unet_core.io.ngff import voxel_size_of
from unet_core.io.readers import open_raw
from unet_core.stages.estimate_hardware import STAGES, Hardware
from unet_core.stages.estimate_plan import Limit, advised_shard, limits, ways_to_join
from unet_core.stages.estimate_stores import Store, stores_of

_LONG_S = 86400
"""Jobs longer than a day wait long, and are not allowed everywhere."""


@dataclass(kw_only=True)
class Row:
    """All jobs of one stage."""

    stage: str
    jobs: int = 0
    blocks: int = 0
    memory_mb: int = 0
    """Asked for by the largest job, of each of its nodes."""
    used_mb: float = 0
    """Expected of the largest job."""
    gpu_mb: float = 0
    flops: float = 0
    seconds: float = 0
    """Wall time with so many jobs at a time."""
    gpu_hours: float = 0
    longest_s: float = 0
    longest_minutes: float = 0
    """Asked for by the longest job."""

    def add(
        self,
        work: Work,
        jobs: int,
        rate: float | None,
        *,
        threads: int,
        gpus: int = 0,
        nodes: int = 1,
    ) -> None:
        """Count more jobs, each with this work; `threads` of each node, `gpus` of all."""
        given = {"threads": threads, "gpus": gpus // nodes}
        how = {"threads": threads, "gpus": gpus, "nodes": nodes}
        seconds = demand.seconds(work, self.stage, flops_per_s=rate, **how)
        self.jobs += jobs
        self.blocks += jobs * work.units
        asked = demand.memory_mb(work, **given) + (DRIVER_MB if nodes > 1 else 0)
        self.memory_mb = max(self.memory_mb, asked)
        self.used_mb = max(self.used_mb, demand.used_mb(work, **given))
        self.gpu_mb = max(self.gpu_mb, work.gpu_mb)
        self.flops += jobs * work.flops
        self.seconds += jobs * seconds
        self.longest_s = max(self.longest_s, seconds)
        self.longest_minutes = max(self.longest_minutes, demand.MARGIN * seconds / 60)
        self.gpu_hours += jobs * gpus * seconds / 3600


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Of a whole run."""

    volumes: int
    voxels: int
    stores: list[Store]
    rows: list[Row]
    limits: list[Limit]
    rates: dict[str, Any]
    price: float | None
    notes: list[str] = field(default_factory=list)

    @property
    def cost(self) -> float | None:
        """Of all GPUs, where there is a price."""
        hours = sum(row.gpu_hours for row in self.rows)
        return None if self.price is None else self.price * hours

    def as_json(self) -> str:
        """All figures, for programs."""
        total: dict[str, float | None] = {
            "jobs": sum(row.jobs for row in self.rows) + 1,
            "files": sum(store.files for store in self.stores),
            "disk_bytes": sum(store.disk_bytes for store in self.stores),
            "memory_mb": max(row.memory_mb for row in self.rows),
            "gpu_mb": max(row.gpu_mb for row in self.rows),
            "flops": sum(row.flops for row in self.rows),
            "seconds": sum(row.seconds for row in self.rows),
            "gpu_hours": sum(row.gpu_hours for row in self.rows),
        }
        total["cost"] = self.cost
        stores = [asdict(store) | {"disk_bytes": store.disk_bytes} for store in self.stores]
        about = {"volumes": self.volumes, "voxels": self.voxels, "total": total}
        return json.dumps(
            about
            | {"stores": stores, "stages": [asdict(row) for row in self.rows]}
            | {"limits": [asdict(limit) for limit in self.limits]}
            | {"rates": self.rates, "notes": self.notes},
            indent=1,
        )


def estimate_run(
    workflow: Workflow,
    *,
    files: Files,
    hardware: Hardware,
    extents: Mapping[str, Extent] | None = None,
) -> Estimate:
    """Everything that a run of `workflow` will take, of volumes stored, in files, or only told.

    Parameters
    ----------
    extents
        Volumes that are only described, by name.

    Raises
    ------
    RawFormatError
        If a file of a volume cannot be read.
    ConfigError
        If a setting is wrong.
    """
    hardware.check(workflow.sections["infer"].spread)
    known, sizes = _volumes(workflow, files, dict(extents or {}))
    found = _rates(workflow, hardware)

    def extent_of(flow: Workflow, volume: Volume, image: str | None = None) -> Extent:
        return known[volume.name]

    needs = Needs(workflow=workflow, extent_of=extent_of, method_of=files.method)
    rows = {stage: Row(stage=stage) for stage in STAGES}
    for stage, job in jobs_of(workflow):
        slabs = _slabs(workflow, known, stage, job)
        gpus, nodes = hardware.gpus_of(stage), hardware.nodes_of(stage)
        work = needs.work(stage, threads=hardware.threads, gpus=gpus, **job)
        rate = found.flops.get(stage) if found else None
        parts, how = slabs or 1, {"threads": hardware.threads, "gpus": gpus, "nodes": nodes}
        rows[stage].add(work.shared(parts), parts, rate, **how)
        if slabs:  # one job begins the store, one publishes it
            rows[stage].add(Work(), 2, rate, threads=1)
    for row in rows.values():
        row.seconds = max(row.longest_s, row.seconds / hardware.jobs)
    stores = stores_of(workflow, known, sizes, files.method)
    return Estimate(
        volumes=len(known),
        voxels=sum(extent.voxels for extent in known.values()),
        stores=stores,
        rows=[row for row in rows.values() if row.jobs],
        limits=limits(list(rows.values()), stores, known),
        rates=_told(found, hardware),
        price=hardware.price,
        notes=list(_notes(needs, known, rows, found)),
    )


def jobs_of(workflow: Workflow) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every job of a run but `all`, as the rules have them: its stage and its wildcards."""
    for name, volume in workflow.volumes.items():
        for image in ("raw", "truth", "mask"):
            if volume.has(image):
                yield "convert", {"volumes": [name], "image": image}
    for name in workflow.fold("train", "validation"):
        yield "weights", {"volumes": [name]}
    if workflow.fold("train"):
        for fold in ("train", "validation"):
            if workflow.fold(fold):
                yield "augment", {"fold": fold}
        for model in workflow.models:
            yield "train", {"model": model}
    for model in workflow.predictors:
        for names in workflow.batches.values():
            yield "infer", {"volumes": names, "model": model}
        if workflow.calibrating:
            yield "calibrate", {"volumes": workflow.calibrating, "model": model}
        for name, volume in workflow.volumes.items():
            if volume.batch is None:
                yield "infer", {"volumes": [name], "model": model}
            yield "stitch", {"volumes": [name], "model": model}
            yield "montage", {"volumes": [name], "model": model}
            if name in workflow.scored:
                yield "score", {"volumes": [name], "model": model}
    if workflow.fold("train"):
        yield "report", {}


def _slabs(
    workflow: Workflow, known: Mapping[str, Extent], stage: str, job: Mapping[str, Any]
) -> int:
    """Jobs that each make a slab of a volume, as the rules have them; 0: one job makes it whole."""
    infer = workflow.sections["infer"]
    if stage != "infer" or infer.spread != "slabs":
        return 0
    (name, *_) = job["volumes"]
    if workflow.volumes[name].batch is not None:
        return 0
    alone = sum(volume.batch is None for volume in workflow.volumes.values())
    most = MOST_SLABS // (alone * len(workflow.predictors))
    return number_of_slabs(infer, known[name], most=most)


def _volumes(
    workflow: Workflow, files: Files, known: dict[str, Extent]
) -> tuple[dict[str, Extent], dict[str, Sequence[float]]]:
    """How large each volume and its voxels are: as told, stored, or as the header says."""
    sizes: dict[str, Sequence[float]] = {}
    headers = read_headers(files.headers)
    for name, volume in workflow.volumes.items():
        size = volume.settings.voxel_size_nm
        if name not in known:
            store = files.results / "volumes" / name / "raw.ome.zarr"
            if (store / "zarr.json").exists():
                known[name] = files.extent(workflow, volume)
                size = size or voxel_size_of(store)
            else:
                told = headers.get(volume.source("raw")) or _header(volume.source("raw"))
                size = size or told.get("voxel_size_nm")
                known[name] = _described(workflow, volume, told)
        sizes[name] = size or (1.0, 1.0, 1.0)
    return known, sizes


def _header(source: str) -> dict[str, Any]:
    opened = open_raw(source)
    about = {"shape": opened.shape, "dtype": opened.dtype.name, "unit": opened.unit}
    return about | {"voxel_size_nm": opened.voxel_size_nm}


def _described(workflow: Workflow, volume: Volume, told: Mapping[str, Any]) -> Extent:
    channels, z, y, x = told["shape"]
    if volume.settings.sections is not None:
        first, stop = volume.settings.sections
        z = max(1, min(stop, z) - first)
    keys = {"channels": channels, "dtype": told["dtype"], "unit": told["unit"]}
    return described(workflow.sections["convert"], (z, y, x), **keys)


def _rates(workflow: Workflow, hardware: Hardware) -> Device | None:
    if hardware.measured:
        from unet_core.net.trial import flops_per_s  # torch, which nothing else here needs

        patch = workflow.sections["augment"].patch
        model = next(iter(workflow.models.values())).model
        flops = flops_per_s(model, patch, gpus=min(1, hardware.gpus))
        source = "measured here, one pass and one step of the first model"
        return Device(name="this machine", flops=flops, memory_mb=0, source=source)
    return device(hardware.device) if hardware.device else None


def _told(found: Device | None, hardware: Hardware) -> dict[str, Any]:
    """Rates that times are of, and where they are from."""
    if found is not None:
        return {"device": found.name, "flops_per_s": found.flops, "source": found.source}
    rates = demand.GPU_FLOPS if hardware.gpus else demand.CPU_FLOPS
    source = "any GPU since 2017, not measured" if hardware.gpus else "a core with AVX-512"
    return {"device": None, "flops_per_s": rates, "source": source}


def _notes(
    needs: Needs,
    known: Mapping[str, Extent],
    rows: Mapping[str, Row],
    found: Device | None,
) -> Iterator[str]:
    """What somebody should do before the run."""
    workflow = needs.workflow
    if found is not None and found.is_gpu:
        for row in rows.values():
            if row.gpu_mb > found.memory_mb:
                yield (
                    f"{row.stage} takes about {row.gpu_mb:.0f} MB of a GPU, {found.name} has "
                    f"{found.memory_mb:.0f}: make augment.patch or train.batch smaller (train) or "
                    "set infer.tile_px (infer)"
                )
    for name, extent in known.items():
        wanted = advised_shard(extent)
        if wanted != extent.shard:
            yield (
                f"{name}: set convert.shard to {list(wanted)} (now {list(extent.shard)}): fewer "
                "and larger files, and blocks that need more memory each"
            )
    infer = rows["infer"]
    if infer.longest_s > _LONG_S and workflow.sections["infer"].spread == "job":
        yield (
            f"infer takes {infer.longest_s / 3600:.0f} hours as one job: set infer.spread to slabs "
            "for many shorter ones"
        )
    for row in rows.values():
        if row.longest_minutes > demand.MOST_JOB_MINUTES and row.stage != "infer":
            yield (
                f"{row.stage} takes {row.longest_s / 86400:.0f} days as one job: give it more "
                "threads or, in the profile, several nodes; or cut the volume into rows of the "
                "sheet (sections)"
            )
    if (stitch := rows["stitch"]).memory_mb > demand.MOST_MB:
        each = min(
            voxels_per_piece(workflow.sections, needs.method_of(model))
            for model in workflow.predictors
        )
        largest = max(known.values(), key=lambda extent: extent.voxels)
        yield (
            "stitch joins all objects of a volume in one process, about "
            f"{stitch.used_mb / 1e3:,.0f} GB at a piece for every {each:.0f} voxels: "
            f"{'; '.join(ways_to_join(workflow.sections, largest))}"
        )
