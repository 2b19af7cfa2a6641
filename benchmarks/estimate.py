"""What a run was predicted to take against what it took: memory and time of jobs, sizes of stores.

    make demo; python benchmarks/estimate.py config/demo.yaml [--results FOLDER] [--threads 2]

The configuration files are those of the run, laid over config/config.yaml. Memory is that of all
processes of a job. Times of jobs are CPU seconds, as a run may have shared its cores with others;
that of the run is wall time. The last line is a JSON list of {name, value, target, met, against,
how}; factors are the larger of a ratio and its inverse.
"""

import argparse
import csv
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measure
import yaml

from unet_core.config import demand
from unet_core.config.expected import work_of
from unet_core.config.needs import Files, Needs
from unet_core.config.work import START_S, Work
from unet_core.config.workflow import load_workflow
from unet_core.stages.estimate import Estimate, estimate_run
from unet_core.stages.estimate_asked import estimate_asked
from unet_core.stages.estimate_hardware import Hardware
from unet_core.stages.report_given import given_in, took_in


def work_of_job(needs: Needs, stage: str, name: str, *, threads: int, names: set[str]) -> Work:
    """Predicted for the job of a benchmark file; `names`: of all, as STAGE/NAME."""
    whole = name.rpartition(".")[0] if stage == "infer_slab" else name
    slabs = sum(other.startswith(f"infer_slab/{whole}.") for other in names)
    if stage == "infer_prepare" or (stage == "infer" and slabs):
        return Work()  # the slabs have jobs of their own
    if stage == "infer_slab":
        return work_of(needs, "infer", whole, threads=threads).shared(slabs)
    return work_of(needs, stage, name, threads=threads)


@dataclass(frozen=True)
class Job:
    """One that left a benchmark file: MB and seconds, predicted and taken."""

    name: str
    asked: float
    """Without Snakemake's own share."""
    expected: float
    used: float
    cpu: float
    cpu_used: float
    wall_used: float


def jobs_of(needs: Needs, results: Path) -> Iterator[Job]:
    """With the threads and the memory that each job's log says it was given."""
    paths = sorted((results / "benchmarks").glob("*/*.tsv"))
    names = {f"{path.parent.name}/{path.stem}" for path in paths}
    for path in paths:
        stage = path.parent.name
        log = results / "logs" / stage / f"{path.stem}.log"
        told, itself = given_in(log), took_in(log)
        given = told.threads if told else 1
        with path.open(newline="") as file:
            took = list(csv.DictReader(file, delimiter="\t"))[-1]
        work = work_of_job(needs, stage, path.stem, threads=given, names=names)
        rate = demand.CPU_FLOPS.get(stage.partition("_")[0], 1.0)
        workers = demand.workers_of(work, given, 0)
        starts = START_S * (1 if workers == 1 else 1 + workers)  # a single one is the driver
        yield Job(
            name=f"{stage}/{path.stem}",
            asked=((told and told.memory_mb) or demand.LEAST_MB) - demand.SNAKEMAKE_MB,
            expected=demand.used_mb(work, threads=given),
            used=max(float(took["max_rss"]), itself.memory_mb),
            cpu=starts + work.seconds + work.flops / rate,
            cpu_used=max(float(took["cpu_time"]), itself.cpu_s),
            wall_used=float(took["s"]),
        )


def factor(one: float, other: float) -> float:
    """By how much two figures differ, whichever is the larger."""
    return max(one, other) / max(min(one, other), 1e-9)


def of_jobs(found: list[Job]) -> Iterator[measure.Row]:
    """Memory asked for, and CPU time."""
    row = "{:32} {:>8} {:>8} {:>8} {:>6}  {:>8} {:>8} {:>6}"
    heads = ("job", "asked", "expected", "used", "over", "CPU s", "took", "ratio")
    print(row.format(*heads), file=sys.stderr)
    for job in found:
        told = [f"{job.asked:.0f}", f"{job.expected:.0f}", f"{job.used:.0f}"]
        told += [f"{job.asked / job.used:.2f}", f"{job.cpu:.1f}", f"{job.cpu_used:.1f}"]
        print(row.format(job.name, *told, f"{job.cpu / job.cpu_used:.2f}"), file=sys.stderr)
    over = {job.name: job.asked / job.used for job in found}
    how = f"{len(over)} jobs; {demand.SNAKEMAKE_MB} MB of Snakemake apart"
    if over:
        most, against = max(over.values()), f"what {max(over, key=over.__getitem__)} used"
        name = "estimate: memory asked for over used, largest"
        yield measure.row(name, most, 2.0, at_least=False, against=against, how=how)
    long = {job.name: factor(job.cpu, job.cpu_used) for job in found if job.cpu_used > 10}
    if long:
        most, against = max(long.values()), f"what {max(long, key=long.__getitem__)} took"
        name, how = "estimate: CPU seconds, largest factor", f"{len(long)} jobs of more than 10 s"
        yield measure.row(name, most, 1.5, at_least=False, against=against, how=how)
    predicted, took = sum(job.cpu for job in found), sum(job.cpu_used for job in found)
    how = f"{predicted:.0f} s predicted, {took:.0f} s taken"
    name, against = "estimate: CPU seconds of the run, factor", "what all jobs took"
    yield measure.row(name, factor(predicted, took), 1.5, at_least=False, against=against, how=how)


def of_run(estimate: Estimate, found: list[Job]) -> measure.Row:
    """Wall time, one job after another; true of a run that had the machine for itself."""
    predicted = sum(stage.seconds for stage in estimate.rows)
    took = sum(job.wall_used for job in found)
    how = f"{predicted:.0f} s predicted, {took:.0f} s taken, one job after another"
    name, against = "estimate: wall time of the run, factor", "the sum over its jobs"
    return measure.row(name, factor(predicted, took), 1.5, at_least=False, against=against, how=how)


def of_stores(estimate: Estimate, results: Path) -> Iterator[measure.Row]:
    """Bytes on disk and files of every kind of store."""
    for store in estimate.stores:
        folders = [
            folder
            for folder in results.rglob(f"{store.kind}.ome.zarr")
            if (folder / "zarr.json").exists()
        ]
        if store.kind == "patches":
            folders = list((results / "patches").glob("*.zarr"))
        files = [path for each in folders for path in each.rglob("*") if path.is_file()]
        count = len(files) + sum(map(has_ledger, folders))
        size = sum(path.stat().st_size for path in files if path.name != "zarr.json")
        how = f"{store.disk_bytes:.4g} bytes predicted, {size:.4g} written, in {store.count} stores"
        name, against = f"estimate: bytes of {store.kind}, factor", "what is on disk"
        most = factor(store.disk_bytes, size)
        yield measure.row(name, most, 1.5, at_least=False, against=against, how=how)
        name, how = f"estimate: files of {store.kind}, factor", f"{store.files} and {count}"
        most = factor(store.files, count)
        yield measure.row(name, most, 1.0, at_least=False, against=against, how=how)


def has_ledger(store: Path) -> bool:
    return store.with_name(f"{store.name}.ledger.jsonl").exists()


def of_a_petabyte() -> Iterator[measure.Row]:
    """Planning of what is only described."""
    told = {"models": ["small"], "infer": {"spread": "slabs"}}
    told |= {"convert": {"shard": [160, 1024, 1024]}}
    asked: dict[str, Any] = {"presets": Path("config/models"), "headers": Path("none")}
    began = time.perf_counter()
    shape = (100_000, 100_000, 100_000)
    found = estimate_asked([], told, hardware=Hardware(gpus=8), shape=shape, **asked)
    took = time.perf_counter() - began
    how, against = "100,000^3 voxels, described; shards as advised, slabs", "the bound"
    yield measure.row(
        "estimate: seconds to plan a petabyte", took, 30.0, at_least=False, against=against, how=how
    )
    for limit in found.limits:
        if limit.name in ("jobs", "files per TB of raw"):
            name = f"estimate: {limit.name} of a petabyte"
            value = limit.value
            yield measure.row(
                name, value, limit.most, at_least=False, against=against, how=how, digits=5
            )


def main() -> int:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("configs", nargs="+", type=Path)
    options.add_argument("--results", type=Path)
    options.add_argument("--threads", type=int, default=2, help="of the run (default 2)")
    given = options.parse_args()
    config: dict[str, Any] = {}
    for path in (Path("config/config.yaml"), *given.configs):
        for key, value in yaml.safe_load(path.read_text()).items():
            both = isinstance(value, dict) and isinstance(config.get(key), dict)
            config[key] = {**config[key], **value} if both else value
    results = given.results or Path(config["pathvars"]["results"])
    flow = load_workflow(config, presets=Path("config/models"))
    files = Files(results=results, headers=Path(".snakemake/unet-headers.json"))
    needs = Needs(workflow=flow, extent_of=files.extent, method_of=files.method)
    jobs = list(jobs_of(needs, results))
    estimate = estimate_run(flow, files=files, hardware=Hardware(threads=given.threads))
    rows = [*of_jobs(jobs), of_run(estimate, jobs), *of_stores(estimate, results)]
    rows += of_a_petabyte()
    print(json.dumps(rows))
    return 1 if any(row["met"] is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
