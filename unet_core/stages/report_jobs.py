"""What the jobs of a run took, from the benchmark files of Snakemake."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from unet_core.figures.flow import STAGES
from unet_core.io.arrays import open_level
from unet_core.stages.report_expected import Predict, unpredicted
from unet_core.stages.report_given import Seen, accounted
from unet_core.stages.report_inference import share_computed
from unet_core.stages.report_parts import Part, parts_of


def jobs_of(
    results: Path, volumes: Sequence[Mapping[str, Any]], predict: Predict = unpredicted
) -> list[dict[str, Any]]:
    """One mapping per job that left a benchmark, in stage order; `volumes`: of the manifest.

    `stage`, `name`, `jobs` (of Snakemake: several for a volume in slabs), `seconds` and `cpu`
    (seconds, of all of them), `expected` (an `Expected`), `memory` (MB, of the largest), `asked`
    (MB that this one was given), `of_memory` and `of_time` (the most that one used of what was
    asked for), `amount` (what was done: of inference without what was skipped or failed) and
    `rate` (per second of one job); None for what is unknown. Time limits are known of jobs of Slurm
    alone. Of a job that went on after an interruption Snakemake knows the last part alone.
    """
    jobs = list(_benchmarked(results, volumes))
    given = [part.given for job in jobs for part in job["parts"]]
    seen = accounted([each.slurm_job for each in given if each and each.slurm_job])
    return [_compared(job, seen, predict) for job in jobs]


def _compared(job: dict[str, Any], seen: Mapping[str, Seen], predict: Predict) -> dict[str, Any]:
    """The job with what it was expected to take, and given, beside what it took."""
    parts: list[Part] = [part.with_seen(seen) for part in job.pop("parts")]
    largest = max(parts, key=lambda part: part.memory or 0)
    asked = largest.given.memory_mb if largest.given else None
    longest = max(parts, key=lambda part: (part.seconds or 0) / (part.limit or math.inf))
    return job | {
        "expected": predict(job["stage"], job["name"], parts),
        "memory": largest.memory,
        "asked": asked,
        "of_memory": _share(largest.memory, asked),
        "of_time": _share(longest.seconds, longest.limit),
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
            parts = parts_of(results, stage, path.stem)
            if not parts:
                continue
            seconds = _sum(part.seconds for part in parts)
            counts: Mapping[str, float] = voxels
            if stage == "infer":
                each = (voxels[of] * share_computed(results, of, model) for of in inferred[job])
                counts = {job: sum(each)}
            amount, unit = _amount(results, stage, path.stem, counts)
            rate = f"{amount / seconds:.3g} {unit}/s" if amount and seconds else None
            yield {
                "stage": stage,
                "name": path.stem,
                "jobs": len(parts),
                "seconds": seconds,
                "cpu": _sum(part.cpu for part in parts),
                "amount": f"{amount:.4g} {unit}" if amount else None,
                "rate": rate,
                "parts": parts,
            }


def times_of(jobs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Number of jobs and their time in all, per stage that ran."""
    told = {}
    for stage in STAGES:
        of = [job for job in jobs if job["stage"] == stage]
        if of:
            number, seconds = sum(job["jobs"] for job in of), sum(job["seconds"] or 0 for job in of)
            told[stage] = f"{number} job{'s' if number > 1 else ''} · {duration(seconds)}"
    if told:
        told.setdefault("report", "this page")
    return told


def duration(seconds: float) -> str:
    """Seconds as a person reads them."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


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
