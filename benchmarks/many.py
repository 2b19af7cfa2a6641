"""Many small volumes: one process with a list against a process for each.

    python -m benchmarks.many [--volumes 20] [--rounds 3]

Volumes of one section of 256 x 256, the paper's network at base 16, one thread. Both start from
raw stores and end with the finished stores of probabilities, through the command line. The last
line is a JSON list: each ratio with its parts.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import Rounds, Row, cost_of, row

import numpy as np  # isort: skip  (after benchmarks.measure: it sets the threads)

from unet_core.config import NetworkConfig
from unet_core.io.arrays import array_digest, create_array
from unet_core.io.ledger import building
from unet_core.io.ngff import multiscale
from unet_core.net.checkpoint import Checkpoint, write_checkpoint
from unet_core.net.initial import initialise
from unet_core.net.network import Network

SHAPE = (1, 1, 256, 256)
TARGET = 8.0
"""Of the ratio of CPU seconds for 20 volumes and more."""

PARTS = {
    "python": "pass",
    "settings": "import unet_core.config",
    "torch": "import torch",
    "stage": "import unet_core.stages.infer_volumes",
}
"""What a process has imported after each part of its start; each holds those before it."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--volumes", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measured(Path(folder), asked.volumes, asked.rounds)
    print(json.dumps(found))


def measured(folder: Path, count: int, rounds: int) -> list[Row]:
    """The rows."""
    model = NetworkConfig(width=16)
    network = initialise(Network.of(model), seed=0)
    write_checkpoint(folder / "best.pt", Checkpoint(model, "mean_std", network.state_dict()))
    rng = np.random.default_rng(0)
    for n in range(count):
        write_raw(folder / f"{n}/raw.ome.zarr", rng.integers(0, 255, SHAPE, dtype=np.uint8))
    everything = list(range(count))
    variants = {
        "a process each": lambda: [infer(folder, [n]) for n in everything],
        "a list": lambda: infer(folder, everything),
        "a list, found done": lambda: infer(folder, everything, anew=False),
    }
    taken = Rounds(variants, rounds=rounds, warm=False)
    told = {
        "against": "a process for each volume",
        "how": f"{count} volumes of 1 x 256 x 256, base 16, through the command line",
    }
    rows = [
        taken.ratio(
            f"{name}: {of} seconds of {count} processes over those of one process",
            lambda seconds, variant=variant: seconds["a process each"] / seconds[variant],  # type: ignore[misc]
            TARGET if count >= 20 and of == "cpu" else None,
            of=of,  # type: ignore[arg-type]
            **told,
        )
        for name, variant in (("list", "a list"), ("list found done", "a list, found done"))
        for of in ("cpu", "wall")
    ]
    first, more = (
        taken.seconds("a process each") / count,
        taken.seconds("a list") - taken.seconds("a process each") / count,
    )
    rows.append(
        row(
            "start: share of the CPU seconds of a process with one small volume",
            1 - more / (count - 1) / first,
            None,
            against="the whole process",
            how="1 - what a further volume of a list costs / what a process with one costs",
            process_s=round(first, 2),
            further_volume_s=round(more / (count - 1), 3),
            parts_s=started(rounds),
        )
    )
    return rows


def started(rounds: int) -> dict[str, float]:
    """Median CPU seconds of processes that end after each part of the start."""
    times: dict[str, list[float]] = {name: [] for name in PARTS}
    for _ in range(rounds):
        for name, code in PARTS.items():
            times[name].append(cost_of(lambda code=code: run(sys.executable, "-c", code)).cpu)  # type: ignore[misc]
    return {name: round(float(np.median(seconds)), 2) for name, seconds in times.items()}


def infer(folder: Path, names: list[int], *, anew: bool = True) -> None:
    """`unet-core infer` with these volumes."""
    outs = [folder / f"{n}/probabilities.ome.zarr" for n in names]
    for out in outs:
        if anew:
            shutil.rmtree(out, ignore_errors=True)
            out.with_name(out.name + ".ledger.jsonl").unlink(missing_ok=True)
    run(
        *(str(Path(sys.executable).with_name("unet-core")), "infer"),
        *("--raw", *(str(folder / f"{n}/raw.ome.zarr") for n in names)),
        *("--out", *map(str, outs), "--checkpoint", str(folder / "best.pt")),
        *("--threads", "1", "--memory-mb", "4000"),
    )


def run(*command: str) -> None:
    """Run a command; its output is shown where it fails."""
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        sys.exit(done.stdout)


def write_raw(store: Path, values: np.ndarray) -> None:
    """A finished raw store of (c, z, y, x) values."""
    statistics = [
        {
            "count": channel.size,
            "mean": float(channel.mean()),
            "sd": float(channel.std()),
            "min": float(channel.min()),
            "max": float(channel.max()),
            "percentiles": np.percentile(channel, np.linspace(0, 100, 1001)).tolist(),
        }
        for channel in values
    ]
    inputs = {"file": array_digest(values)}
    with building(store, stage="convert", settings={}, inputs=inputs) as build:
        z, y, x = values.shape[1:]
        create_array(
            build.store,
            "0",
            shape=values.shape,
            dtype=values.dtype,
            chunk=(z, y, x),
            shard=(z, y, x),
        )[:] = values
        build.tick("copy", "all", digest=array_digest(values), note=None)
        build.publish(
            ome=multiscale("raw", axes="czyx", voxel_size_nm=(50, 4, 4)),
            unet={"statistics": statistics},
        )


if __name__ == "__main__":
    main()
