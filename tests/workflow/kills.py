"""Stages as processes that are killed: a small project, what each has done, what it has made."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tifffile

from tests.workflow.conftest import REPOSITORY
from unet_core.config.workflow import load_workflow
from unet_core.net.checkpoint import read_state
from unet_core.ops.phantom import make_phantom

CONFIG: dict[str, Any] = {
    "volumes": "sheet.tsv",
    "models": ["mini.yaml"],
    "convert": {"chunk": [1, 32, 32], "shard": [2, 32, 32], "smallest_level_px": 64},
    "truth": {"kind": "binary"},
    "augment": {
        "patches": 60,
        "validation_patches": 4,
        "patch": [1, 60, 60],
        "shard_patches": 1,
    },
    "infer": {"tile_px": 16, "precision": "float32"},
}
PRESET = {
    "model": {"width": 4, "depth": 2, "norm": "batch", "dropout": 0.2},
    "train": {"steps": 120, "batch": 2, "optimiser": "adamw", "validate_every": 4},
}

STORES = {
    "convert raw": "raw.ome.zarr",
    "convert truth": "truth.ome.zarr",
    "weights": "weights.ome.zarr",
    "augment": "train.zarr",
    "augment validation": "validation.zarr",
    "infer": "probabilities.ome.zarr",
    "stitch": "labels.ome.zarr",
    "stitch watershed": "basins.ome.zarr",
}
FILES = {"calibrate": "calibration.json", "score": "scores.json"}
"""Stages whose result is one file; while they work, they keep a store of their own beside it."""
STAGES = [*STORES, "train", *FILES]
STAGES.remove("augment validation")
TRAINED = ("best.pt", "model.json", "history.csv")


@dataclass(frozen=True)
class Project:
    """A small volume, and every stage's result of a run that nobody disturbed."""

    folder: Path
    settings: dict[str, str]
    """Stage to what the rules give as `--config`."""
    logs: dict[str, str]
    seconds: dict[str, float]

    def command(self, stage: str, out: Path, threads: int) -> list[str]:
        """The command line of the rules; inputs are those of the undisturbed run."""
        made = self.folder / "undisturbed"

        def store(name: str) -> str:
            return str(made / STORES[name] / "zarr.json")

        inputs = {
            "convert raw": ["--raw", str(self.folder / "raw.tif")],
            "convert truth": ["--raw", str(self.folder / "truth.tif"), "--truth"],
            "weights": ["--truth", store("convert truth")],
            "augment": ["--raw", store("convert raw"), "--weights", store("weights")],
            "train": ["--patches", store("augment")],
            "infer": ["--raw", store("convert raw"), "--checkpoint", str(made / "best.pt")],
            "stitch": ["--probabilities", store("infer")],
            "calibrate": ["--probabilities", store("infer"), "--truth", store("convert truth")],
        }
        inputs["score"] = [*inputs["calibrate"], "--labels", store("stitch")]
        name = stage if stage in inputs else stage.split()[0]
        given = list(inputs[name])
        if name == "augment":
            given += ["--fold", "validation" if "validation" in stage else "train"]
        if name == "train":
            given += ["--validation", store("augment validation")]
        return [
            *(sys.executable, "-m", "unet_core.cli", stage.split()[0]),
            *("--config", self.settings[stage], *given, "--out", str(declared(stage, out))),
            *("--threads", str(threads), "--memory-mb", "8000"),
        ]

    def start(self, stage: str, out: Path, *, threads: int = 1) -> subprocess.Popen[bytes]:
        """The stage in a session of its own; its log is the file `log` beside `out`."""
        with out.with_name("log").open("w") as log:
            return subprocess.Popen(
                self.command(stage, out, threads),
                stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                start_new_session=True,
            )

    def finish(self, stage: str, out: Path, *, threads: int = 1) -> str:
        """Run the stage to its end; returns its log."""
        process = self.start(stage, out, threads=threads)
        code = process.wait(300)
        log = out.with_name("log").read_text()
        assert code == 0, log
        return log


def write_inputs(folder: Path) -> None:
    """A phantom with its truth, and all that a workflow on it needs."""
    raw, truth = make_phantom((8, 160, 160), 0)
    for name, image in (("raw", raw), ("truth", truth.astype("uint16"))):
        tifffile.imwrite(folder / f"{name}.tif", image, photometric="minisblack", tile=(32, 32))
    header = "name\traw\ttruth\tfold\tvoxel_size_nm\tsections\n"
    row = f"v\t{folder}/raw.tif\t{folder}/truth.tif\ttrain\t50,4,4\t\n"
    (folder / "sheet.tsv").write_text(header + row)
    (folder / "mini.yaml").write_text(json.dumps(PRESET))
    config = {**CONFIG, "volumes": str(folder / "sheet.tsv")}
    config["models"] = [str(folder / "mini.yaml")]
    (folder / "overlay.yaml").write_text(json.dumps(config))
    (folder / "config").mkdir()
    shutil.copy(REPOSITORY / "config/config.yaml", folder / "config")


def undisturbed(folder: Path) -> Project:
    asked = load_workflow(json.loads((folder / "overlay.yaml").read_text()), presets=folder)
    stitch = json.loads(asked.settings("stitch"))
    settings = {
        "convert raw": asked.settings("convert", volume="v", image="raw"),
        "convert truth": asked.settings("convert", volume="v", image="truth"),
        "weights": asked.settings("weights"),
        "augment": asked.settings("augment", fold="train"),
        "augment validation": asked.settings("augment", fold="validation"),
        "train": asked.settings("train", model="mini"),
        "infer": asked.settings("infer"),
        "calibrate": asked.settings("calibrate"),
        "score": asked.settings("score"),
        "stitch": json.dumps(stitch),
        "stitch watershed": json.dumps(stitch | {"stitch": {"method": "watershed"}}),
    }
    project = Project(folder, settings, {}, {})
    out = folder / "undisturbed"
    out.mkdir()
    for stage in ("convert raw", "convert truth", "weights", "augment", "augment validation"):
        measure(project, stage, out)
    for stage in ("train", "infer", "stitch", "stitch watershed", *FILES):
        measure(project, stage, out)
    return project


def measure(project: Project, stage: str, out: Path) -> None:
    began = time.monotonic()
    project.logs[stage] = project.finish(stage, out)
    project.seconds[stage] = time.monotonic() - began


def finished(stage: str, out: Path) -> Counter[str]:
    """Blocks by step that the ledger has; of training the steps that are saved."""
    if stage == "train":
        last = out / "last.pt"
        return Counter(train=read_state(last)["training"]["steps_done"] if last.exists() else 0)
    steps: Counter[str] = Counter()
    for line in ledger_lines(stage, out)[1:]:
        try:
            steps[json.loads(line)["step"]] += 1
        except json.JSONDecodeError:
            continue  # torn by the kill
    return steps


def declared(stage: str, out: Path) -> Path:
    """The file that says that the stage is done."""
    if stage == "train":
        return out / "best.pt"
    return out / FILES[stage] if stage in FILES else out / STORES[stage] / "zarr.json"


def ledger_lines(stage: str, out: Path) -> list[str]:
    if stage in FILES:
        ledger = out / FILES[stage].replace(".json", ".work.ledger.jsonl")
    else:
        ledger = out / f"{STORES[stage]}.ledger.jsonl"
    return ledger.read_text().splitlines() if ledger.exists() else []


def progress(stage: str, out: Path) -> int:
    """Lines of the ledger, or saves of the training, so far."""
    if stage != "train":
        return max(0, len(ledger_lines(stage, out)) - 1)
    history = out / "history.csv"
    return len(history.read_text().splitlines()) - 1 if history.exists() else 0


def whole(project: Project, stage: str) -> int:
    """Progress of a run that nobody disturbed: its blocks, or the saves of its training."""
    if stage == "train":
        return progress(stage, project.folder / "undisturbed")
    return sum(computed for _, computed in told(stage, project.logs[stage]).values())


def told(stage: str, log: str) -> dict[str, tuple[int, int]]:
    """What the log says by step: how many were resumed, how many computed."""
    if stage == "train":
        resumed = re.search(r"resumed at step (\d+)", log)
        done = int(resumed[1]) if resumed else 0
        return {"train": (done, PRESET["train"]["steps"] - done)}
    found = re.findall(r"INFO (.+): resumed (\d+), computed (\d+)", log)
    return {step: (int(kept), int(new)) for step, kept, new in found}


def results(stage: str, out: Path) -> dict[str, bytes]:
    """Every file that the stage declares or that lies in its store, by name."""
    if stage == "train":
        return {name: (out / name).read_bytes() for name in TRAINED}
    if stage in FILES:
        return {FILES[stage]: declared(stage, out).read_bytes()}
    store = out / STORES[stage]
    files = (path for path in store.rglob("*") if path.is_file())
    return {str(path.relative_to(store)): path.read_bytes() for path in files}


def beside(stage: str) -> set[str]:
    """All that may lie in the folder when the stage is done."""
    if stage == "train":
        return {*TRAINED, "last.pt"}
    return {FILES[stage]} if stage in FILES else {STORES[stage], f"{STORES[stage]}.ledger.jsonl"}


def check_rerun(project: Project, stage: str, out: Path) -> None:
    """Run `stage` to its end: nothing finished is done again, and the result is the reference."""
    kept = finished(stage, out)
    log = project.finish(stage, out)
    total = told(stage, project.logs[stage])
    assert {step: resumed for step, (resumed, _) in total.items()} == dict.fromkeys(total, 0)
    expected = {step: (kept[step], n - kept[step]) for step, (_, n) in total.items()}
    assert told(stage, log) == expected
    assert results(stage, out) == results(stage, project.folder / "undisturbed")
    assert {path.name for path in out.iterdir()} == beside(stage)


def signalled(
    process: subprocess.Popen[bytes], number: signal.Signals, moment: Callable[[], bool]
) -> int:
    """Signal the whole group at a `moment`; returns how the process ended, maybe before."""
    try:
        while not moment():
            if process.poll() is not None:
                return process.returncode
            time.sleep(0.001)
        os.killpg(process.pid, number)
        return process.wait(60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(60)


def kill(
    project: Project, stage: str, out: Path, rng: random.Random, *, threads: int, by: str
) -> None:
    """Start `stage` and kill it, after a random number of blocks or a random time."""
    total = whole(project, stage)
    for _ in range(9):
        wanted, delay = (
            rng.randrange(min(progress(stage, out), total - 1), total),
            rng.uniform(0, 0.02),
        )
        deadline = time.monotonic() + rng.uniform(0, project.seconds[stage])
        process = project.start(stage, out, threads=threads)

        def moment(wanted: int = wanted, delay: float = delay, deadline: float = deadline) -> bool:
            if by == "time":
                return time.monotonic() > deadline
            return progress(stage, out) >= wanted and time.sleep(delay) is None

        if signalled(process, signal.SIGKILL, moment) == -signal.SIGKILL:
            return
        assert process.returncode == 0, out.with_name("log").read_text()
        shutil.rmtree(out)  # it was quicker than this process looked
        out.mkdir()
    pytest.fail(f"{stage} always ended before it was killed")
