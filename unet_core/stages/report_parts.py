"""The benchmark files that speak of one job of a run, which may have been several."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unet_core.config.spread import listed
from unet_core.stages.report_given import Given, Seen, given_in, took_in


@dataclass(frozen=True)
class Part:
    """What one job of Snakemake took; None for what is unknown."""

    seconds: float | None
    cpu: float | None
    """Seconds."""

    memory: float | None
    """MB."""

    given: Given | None

    limit: float | None = None
    """Seconds that it was given."""

    def with_seen(self, seen: Mapping[str, Seen]) -> "Part":
        """With what Slurm's accounting knows of it."""
        by_slurm = seen.get(self.given.slurm_job or "") if self.given else None
        if by_slurm is None:
            return self
        memory = max((m for m in (self.memory, by_slurm.memory_mb) if m), default=None)
        limit = by_slurm.minutes and 60 * by_slurm.minutes
        return replace(self, memory=memory, limit=limit)


def parts_of(results: Path, stage: str, name: str) -> list[Part]:
    """The jobs that made what `benchmarks/STAGE/NAME.tsv` is named after.

    The probabilities of a volume in slabs were begun by one job, written by others, and
    published by the one that has the name.
    """
    files = [f"{stage}/{name}"]
    if stage == "infer":
        files = [*_in_slabs(results, name), *files]
    found = [_part(results, file) for file in files]
    return [part for part in found if part is not None]


def _in_slabs(results: Path, name: str) -> list[str]:
    """Of the slabs that the store is made in alone: others are of before that."""
    volume, _, model = name.partition(".")
    file = listed(results / "volumes" / volume / model / "probabilities.ome.zarr")
    if not file.exists():
        return []
    slabs: Sequence[str] = json.loads(file.read_text(encoding="utf-8"))["slabs"]
    return [f"infer_prepare/{name}", *(f"infer_slab/{name}.{slab}" for slab in slabs)]


def _part(results: Path, file: str) -> Part | None:
    path = results / "benchmarks" / f"{file}.tsv"
    if not path.exists():
        return None
    with path.open(encoding="utf-8", newline="") as opened:
        rows = list(csv.DictReader(opened, delimiter="\t"))
    if not rows:
        return None
    # Snakemake looks at a job every half second, later every half minute: what came between is not
    # in its figures. Workers on other nodes are in neither.
    log = results / "logs" / f"{file}.log"
    took = took_in(log)
    return Part(
        seconds=number_of(rows[-1]["s"]),
        cpu=max(number_of(rows[-1].get("cpu_time", "")) or 0.0, took.cpu_s) or None,
        memory=max(number_of(rows[-1].get("max_rss", "")) or 0.0, took.memory_mb) or None,
        given=given_in(log),
    )


def number_of(text: str) -> float | None:
    """A number of a table; None where there is none."""
    try:
        return float(text)
    except ValueError:
        return None
