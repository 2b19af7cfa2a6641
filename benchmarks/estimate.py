"""What jobs were predicted to take against what they took, from the benchmarks of a run.

    python benchmarks/estimate.py CONFIG.yaml... [--results FOLDER] [--threads 2]

The configuration files are those of the run, laid over config/config.yaml. Memory is that of all
processes of a job; a ratio above 1 is too much predicted. Times are CPU
seconds, as a run may have shared its cores with others.
"""

import argparse
import csv
from pathlib import Path
from typing import Any

import yaml

from unet_core.config import demand
from unet_core.config.needs import Files, Needs
from unet_core.config.work import START_S, Work
from unet_core.config.workflow import load_workflow

NAMES = {
    "convert": ("volume", "image"),
    "weights": ("volume",),
    "augment": ("fold",),
    "train": ("model",),
    "calibrate": ("model",),
    "report": (),
}
"""Wildcards in the names of benchmark files; else volume and model."""


def work_of(needs: Needs, stage: str, name: str, *, threads: int, names: set[str]) -> Work:
    """Predicted for the job of a benchmark file; `names`: of all, as STAGE/NAME."""
    flow = needs.workflow
    known = zip(NAMES.get(stage, ("volume", "model")), name.split("."), strict=False)
    values: dict[str, Any] = {"threads": threads, **dict(known)}
    volume = values.pop("volume", None)
    if volume is not None:
        values["volumes"] = flow.batches.get(volume, [volume])
    if stage == "calibrate":
        values["volumes"] = flow.fold("validation")
    slabs = sum(other.startswith(f"infer_slab/{name}.") for other in names)
    if stage == "infer_prepare" or (stage == "infer" and slabs):
        return Work()  # the slabs have jobs of their own
    if stage == "infer_slab":
        parts = sum(other.startswith(f"infer_slab/{name.rpartition('.')[0]}.") for other in names)
        return needs.work("infer", **values).shared(parts)
    return needs.work(stage, **values)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("configs", nargs="+", type=Path)
    options.add_argument("--results", type=Path)
    options.add_argument("--threads", type=int, default=2)
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
    row = "{:32} {:>8} {:>8} {:>6} {:>8} {:>6}  {:>7} {:>7} {:>6}"
    print(row.format("job", "asked", "expected", "used", "over-ask", "ratio", "CPU s", "took", ""))
    paths = sorted((results / "benchmarks").glob("*/*.tsv"))
    names = {f"{path.parent.name}/{path.stem}" for path in paths}
    for path in paths:
        stage = path.parent.name
        threads = 1 if stage in ("montage", "report", "infer_prepare") else given.threads
        with path.open(newline="") as file:
            took = list(csv.DictReader(file, delimiter="\t"))[-1]
        work = work_of(needs, stage, path.stem, threads=threads, names=names)
        asked = demand.memory_mb(work, threads=threads)
        expected, used = demand.used_mb(work, threads=threads), float(took["max_rss"])
        rate = demand.CPU_FLOPS.get(stage.partition("_")[0], 1.0)
        starts = START_S * (1 + demand.workers_of(work, threads, 0))
        cpu, was = starts + work.seconds + work.flops / rate, float(took["cpu_time"])
        over = (asked - demand.SNAKEMAKE_MB) / used
        told = [f"{asked}", f"{expected:.0f}", f"{used:.0f}", f"{over:.2f}"]
        told += [f"{expected / used:.2f}", f"{cpu:.1f}", f"{was:.1f}", f"{cpu / was:.2f}"]
        print(row.format(f"{stage}/{path.stem}", *told))


if __name__ == "__main__":
    main()
