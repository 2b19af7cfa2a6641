"""What the jobs of a run took, from the benchmark files of Snakemake."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from unet_core.figures.flow import STAGES
from unet_core.io.arrays import open_level
from unet_core.stages.report_given import Given, Seen, accounted, given_in
from unet_core.stages.report_inference import share_computed


def jobs_of(results: Path, volumes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One mapping per job that left a benchmark, in stage order; `volumes`: of the manifest.

    `stage`, `name`, `seconds`, `cpu` (seconds), `memory` (MB), `asked` (MB that the job was given),
    `of_memory` and `of_time` (used of what was asked for), `amount` (what was done: of inference
    without what was skipped) and `rate` (per second); None for what is unknown. Time limits are
    known of jobs of Slurm alone. Of a job that went on after an interruption Snakemake knows the
    last part alone.
    """
    jobs = list(_benchmarked(results, volumes))
    numbers = [job["given"].slurm_job for job in jobs if job["given"]]
    seen = accounted([number for number in numbers if number])
    return [_compared(job, seen) for job in jobs]


def _compared(job: dict[str, Any], seen: Mapping[str, Seen]) -> dict[str, Any]:
    """The job with what it was given beside what it took."""
    given: Given | None = job.pop("given")
    by_slurm = seen.get(given.slurm_job or "") if given else None
    used, asked = job["memory"], given.memory_mb if given else None
    if by_slurm and by_slurm.memory_mb:
        used = max(used or 0, by_slurm.memory_mb)
    limit = by_slurm.minutes if by_slurm else None
    return job | {
        "memory": used,
        "asked": asked,
        "of_memory": _share(used, asked),
        "of_time": _share(job["seconds"], limit and 60 * limit),
    }


def _share(used: float | None, asked: float | None) -> str | None:
    return f"{100 * used / asked:.0f} %" if used and asked else None


def _benchmarked(results: Path, volumes: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    voxels: dict[str, int] = {}
    inferred: dict[str, list[str]] = {}
    for volume in volumes:
        raw = open_level(results / "volumes" / volume["name"] / "raw.ome.zarr")
        voxels[volume["name"]] = raw.size // raw.shape[0]
        inferred.setdefault(volume.get("batch", volume["name"]), []).append(volume["name"])
    for stage in STAGES:
        for path in sorted((results / "benchmarks" / stage).glob("*.tsv")):
            job, _, model = path.stem.partition(".")
            if stage == "infer" and job not in inferred:
                continue  # of before its volume was of a batch, or of another
            with path.open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file, delimiter="\t"))
            if not rows:
                continue
            seconds = number_of(rows[-1]["s"])
            counts: Mapping[str, float] = voxels
            if stage == "infer":
                each = (voxels[of] * share_computed(results, of, model) for of in inferred[job])
                counts = {job: sum(each)}
            amount, unit = _amount(results, stage, path.stem, counts)
            rate = f"{amount / seconds:.3g} {unit}/s" if amount and seconds else None
            yield {
                "stage": stage,
                "name": path.stem,
                "seconds": seconds,
                "cpu": number_of(rows[-1].get("cpu_time", "")),
                "memory": number_of(rows[-1].get("max_rss", "")),
                "amount": f"{amount:.4g} {unit}" if amount else None,
                "rate": rate,
                "given": given_in(results / "logs" / stage / f"{path.stem}.log"),
            }


def times_of(jobs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Number of jobs and their time in all, per stage that ran."""
    told = {}
    for stage in STAGES:
        times = [job["seconds"] or 0 for job in jobs if job["stage"] == stage]
        if times:
            count = f"{len(times)} job{'s' if len(times) > 1 else ''}"
            told[stage] = f"{count} · {duration(sum(times))}"
    if told:
        told.setdefault("report", "this page")
    return told


def duration(seconds: float) -> str:
    """Seconds as a person reads them."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def number_of(text: str) -> float | None:
    """A number of a table; None where there is none."""
    try:
        return float(text)
    except ValueError:
        return None


def _amount(
    results: Path, stage: str, name: str, voxels: Mapping[str, float]
) -> tuple[float | None, str]:
    """How much a job did, and of what: steps, patches or voxels of its volumes."""
    if stage == "train":
        model = results / "models" / name / "model.json"
        if model.exists():
            return json.loads(model.read_text(encoding="utf-8")).get("steps"), "steps"
    if stage == "augment" and (results / "patches" / f"{name}.zarr" / "raw").exists():
        return open_level(results / "patches" / f"{name}.zarr", "raw").shape[0], "patches"
    # calibrate and report are named after models, and speak of many volumes.
    count = voxels.get(name.split(".")[0]) if stage not in ("calibrate", "report") else None
    return (count / 1e6 if count else None), "Mvoxel"
