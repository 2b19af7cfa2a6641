"""What jobs of a run were expected to take, by the names of their benchmark files."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unet_core.config import demand
from unet_core.config.needs import Needs
from unet_core.config.work import Work

_NAMES: Mapping[str, tuple[str, ...]] = {
    "convert": ("volume", "image"),
    "weights": ("volume",),
    "augment": ("fold",),
    "train": ("model",),
    "calibrate": ("model",),
    "report": (),
}
"""Wildcards in the names of benchmark files; else volume and model."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """Of the jobs that made one result."""

    memory_mb: float
    """Of the largest, on each of its nodes."""

    seconds: float
    """Wall time of all, one after another."""


def work_of(needs: Needs, stage: str, name: str, *, threads: int = 1, gpus: int = 0) -> Work:
    """Of the result that `benchmarks/STAGE/NAME.tsv` is named after.

    Raises
    ------
    FileNotFoundError
        If a volume is not known.
    KeyError
        If the workflow has no such volume or model.
    """
    flow = needs.workflow
    known = zip(_NAMES.get(stage, ("volume", "model")), name.split("."), strict=False)
    job: dict[str, Any] = dict(known)
    volume = job.pop("volume", None)
    if volume is not None:
        job["volumes"] = flow.batches.get(volume, [volume])
    if stage == "calibrate":
        job["volumes"] = flow.fold("validation")
    return needs.work(stage, threads=threads, gpus=gpus, **job)


def expected(
    needs: Needs,
    stage: str,
    name: str,
    *,
    slabs: int = 0,
    threads: int = 1,
    gpus: int = 0,
    nodes: int = 1,
) -> Expected:
    """What was expected of the result `name` of a stage, made in so many slabs, or by one job.

    `threads` of each node, `gpus` of all. Raises as `work_of`.
    """
    parts = slabs or 1
    work = work_of(needs, stage, name, threads=threads, gpus=gpus).shared(parts)
    each = demand.seconds(work, stage, threads=threads, gpus=gpus, nodes=nodes)
    short = 2 * demand.seconds(Work(), stage, threads=1) if slabs else 0
    memory = demand.used_mb(work, threads=threads, gpus=gpus // nodes)
    return Expected(memory_mb=memory, seconds=parts * each + short)
