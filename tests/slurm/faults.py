"""Volumes that jobs of a real Slurm infer while a test makes things go wrong."""

import json
import os
import re
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from tests.slurm.project import Project, new_project
from tests.slurm.sandbox import Sandbox
from tests.stages.test_infer import checkpoint_file, noise, raw_store
from unet_core.config import InferConfig, NetworkConfig, Resources
from unet_core.stages.infer import infer_probabilities

MODEL = NetworkConfig(width=16, depth=2)
INFER: dict[str, Any] = {"tile_px": 128, "precision": "float32"}
BLOCKS = 24
EDGE = 256

RULES = ["infer", "infer_prepare", "infer_slab"]
"""What may run."""

CHEAP: dict[str, str | int] = {"slurm_partition": "cpu", "mem_mb": 2500, "runtime": 10, "gpu": 0}


def written(store: Path) -> dict[str, bytes]:
    """Every file of a store, by name."""
    files = (path for path in store.rglob("*") if path.is_file())
    return {str(path.relative_to(store)): path.read_bytes() for path in files}


@dataclass(frozen=True)
class Scene:
    """Volumes with the same raw data and a network; only `infer` is left to do of them."""

    project: Project
    volumes: tuple[str, ...]

    @property
    def slurm(self) -> Sandbox:
        return self.project.slurm

    def store(self, volume: str) -> Path:
        return self.project.results / f"volumes/{volume}/least/probabilities.ome.zarr"

    def targets(self, *volumes: str) -> list[str]:
        """Arguments of `snakemake` that ask for these volumes, by default for all."""
        stores = [self.store(name) for name in volumes or self.volumes]
        folder = self.project.folder
        return ["--", *(str(store.relative_to(folder) / "zarr.json") for store in stores)]

    def profile(self, infer: Mapping[str, str | int | None], **keys: Any) -> None:
        """Set resources of the rule and keys of the profile, `_` for `-`.

        None: the resource that the rule asks for itself.
        """
        path = self.project.folder / "profiles/slurm/config.yaml"
        profile = yaml.safe_load(path.read_text())
        profile |= {"set-threads": {"infer": 1}, "allowed-rules": RULES}
        profile |= {name.replace("_", "-"): value for name, value in keys.items()}
        given = {**CHEAP, **infer}
        profile["set-resources"] = {"infer": {k: v for k, v in given.items() if v is not None}}
        path.write_text(yaml.safe_dump(profile))

    def blocks(self, volume: str) -> list[str]:
        """Names of the blocks that the ledger has."""
        ledger = self.store(volume).with_name(f"{self.store(volume).name}.ledger.jsonl")
        text = ledger.read_text() if ledger.exists() else ""
        found = re.findall(r'^\{"step": "infer", "name": "([^"]+)".*\}$', text, re.MULTILINE)
        return [str(name) for name in found]

    def hold(self, *volumes: str, count: int = 2) -> dict[str, int]:
        """Stop each stage when it has done so many blocks, as a node that stands still would.

        Returns the processes by volume.
        """
        held: dict[str, int] = {}

        def all_are() -> bool:
            for volume in volumes:
                if volume not in held and len(self.blocks(volume)) >= count:
                    held[volume] = self.signal(volume, signal.SIGSTOP)
            return len(held) == len(volumes)

        self.slurm.until(all_are, f"{count} blocks of {', '.join(volumes)}")
        return held

    def spread(self, how: str, **infer: Any) -> None:
        """Set infer.spread, and other settings of infer."""
        overlay = json.loads((self.project.folder / "overlay.yaml").read_text())
        overlay["infer"] = {**INFER, "spread": how, **infer}
        self.project.write("overlay.yaml", json.dumps(overlay))

    def job(self, volume: str) -> int:
        """Number of the job of a volume that waits or runs."""
        (job,) = {
            each.job
            for each in self.slurm.squeue()
            if f"_{volume}_" in each.comment and each.state != "COMPLETING"
        }
        return job

    def owner(self, volume: str) -> dict[str, Any]:
        """Who writes the store, as its lock says."""
        store = self.store(volume)
        owner: dict[str, Any] = json.loads(store.with_name(f"{store.name}.lock").read_text())
        return owner

    def signal(self, volume: str, number: signal.Signals) -> int:
        """Signal the process that writes the store; returns its number."""
        pid = int(self.owner(volume)["pid"])
        os.kill(pid, number)
        return pid

    def log(self, volume: str) -> str:
        """What the stage says; what its job was before is overwritten."""
        path = self.project.results / f"logs/infer/{volume}.least.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def job_log(self, volume: str, job: int) -> str:
        """What Snakemake says in a job; kept of jobs that failed."""
        folder = self.project.folder / f"logs/slurm/rule_infer/{volume}_least"
        return (folder / f"{job}.log").read_text()

    def job_logs(self, volume: str) -> list[str]:
        """Those of all jobs of a volume that failed."""
        folder = self.project.folder / f"logs/slurm/rule_infer/{volume}_least"
        return [path.read_text() for path in sorted(folder.iterdir())]

    def stand_in(self, script: str) -> None:
        """Let jobs find this shell script as unet-core, with the real one as `{unet_core}`."""
        real = Path(sys.executable).with_name("unet-core")
        path = self.project.folder / "bin/unet-core"
        path.parent.mkdir(exist_ok=True)
        path.write_text("#!/bin/bash\n" + script.replace("{unet_core}", str(real)))
        path.chmod(0o755)

    def resumed(self, volume: str) -> int:
        """Blocks that the last job of a volume has found done."""
        return int(re.findall(r"infer: resumed (\d+), computed", self.log(volume))[-1])

    def check(self, *volumes: str) -> None:
        """They have the bytes of a run that nobody disturbed, and nothing else is left."""
        expected = written(self.project.folder / "undisturbed.ome.zarr")
        for volume in volumes or self.volumes:
            store = self.store(volume)
            assert written(store) == expected, volume
            ledger = f"{store.name}.ledger.jsonl"
            assert {path.name for path in store.parent.iterdir()} == {store.name, ledger}


def new_scene(
    folder: Path,
    slurm: Sandbox,
    *volumes: str,
    environment: Mapping[str, str] = {},
    model: NetworkConfig = MODEL,
    **infer: str | int | None,
) -> Scene:
    """A scene of these volumes; `environment` of the jobs, `infer`: resources of the rule."""
    sheet = {"learn": ("train", "0:4"), **dict.fromkeys(volumes, ("predict", "0:4"))}
    path = os.pathsep.join([str(folder / "bin"), slurm.environment["PATH"]])
    slurm = replace(slurm, environment={**slurm.environment, **environment, "PATH": path})
    project = new_project(folder, slurm, volumes=sheet, infer=INFER)
    values = noise((1, BLOCKS, EDGE, EDGE))
    raw = raw_store(folder / "raw.ome.zarr", values, (1, EDGE, EDGE), chunk=(1, 64, 64))
    for volume in volumes:
        store = project.results / f"volumes/{volume}/raw.ome.zarr"
        store.parent.mkdir(parents=True)
        store.symlink_to(raw)
    network = project.results / "models/least"
    network.mkdir(parents=True)
    checkpoint_file(network / "best.pt", model)
    (network / "model.json").write_text("{}")
    infer_probabilities(
        InferConfig(**INFER),
        raw=raw,
        checkpoint=network / "best.pt",
        out=folder / "undisturbed.ome.zarr",
        resources=Resources(),
    )
    scene = Scene(project, volumes)
    scene.profile(infer)
    return scene
