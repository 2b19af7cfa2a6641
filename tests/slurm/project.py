"""A small project, from raw files to the report, and its runs on the sandbox."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.slurm.sandbox import PATIENCE_S, Sandbox

REPOSITORY = Path(__file__).parents[2]

VOLUMES = {
    "learn": ("train", "0:4"),
    "choose": ("validation", "4:6"),
    "judge": ("test", "6:8"),
    "tell": ("predict", "2:4"),
}
"""Name to fold and sections of one phantom; only the fold predict has no truth."""

SHAPE = (8, 96, 96)
OVERLAY: dict[str, Any] = {
    "data": "raw files",
    "models": ["least.yaml"],
    "convert": {"chunk": [2, 32, 32], "shard": [2, 64, 64], "smallest_level_px": 64},
    "augment": {"patches": 8, "validation_patches": 2, "patch": [1, 92, 92]},
    "model": {"width": 4, "depth": 2, "padding": "valid", "norm": "batch", "dropout": 0.0},
    "train": {"steps": 10, "batch": 2, "validate_every": 5, "optimiser": "adamw"},
}
"""Laid over config/config.yaml: seconds for each stage, several blocks for each volume."""

HASTE = {"slurm-init-seconds-before-status-checks": "2", "latency-wait": "5"}
"""Keys of the slurm profile that tests set otherwise: jobs are short, the file system is local."""


@dataclass(frozen=True)
class Project:
    """A working directory laid out like the repository, with a sheet and data of its own."""

    folder: Path
    slurm: Sandbox

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def command(
        self, *arguments: str, profile: Sequence[str] = ("--profile", "slurm")
    ) -> list[str]:
        """The literal command line of a user, without its overlay where `arguments` name one."""
        return ["snakemake", *profile, "--configfile", "overlay.yaml", *arguments]

    def snakemake(
        self,
        *arguments: str,
        profile: Sequence[str] = ("--profile", "slurm"),
        environment: Mapping[str, str] = {},
        patience_s: int = PATIENCE_S,
    ) -> subprocess.CompletedProcess[str]:
        """Run Snakemake; after `patience_s` its jobs are cancelled and the folder is unlocked."""
        command = self.command(*arguments, profile=profile)
        run = subprocess.run(
            ["timeout", "-k", "10", str(patience_s), *command],
            cwd=self.folder,
            env={**self.slurm.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if run.returncode in (124, 137, -9):  # timeout(1) kills itself with its group
            self.slurm.scancel()
            self.unlock()
        return run

    @contextmanager
    def started(
        self, *arguments: str, profile: Sequence[str] = ("--profile", "slurm")
    ) -> Iterator[subprocess.Popen[str]]:
        """Snakemake in the background, to be disturbed; what it says goes to snakemake.out.

        It is the leader of its own process group, and killed at the end of the block.
        """
        command = self.command(*arguments, profile=profile)
        with (self.folder / "snakemake.out").open("a") as out:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.slurm.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, 9)
                process.wait()
                self.slurm.scancel()

    @property
    def said(self) -> str:
        """What the runs of `started` have printed."""
        return (self.folder / "snakemake.out").read_text()

    def unlock(self) -> None:
        """Take the lock away that a killed Snakemake has left in the folder."""
        command = self.command("--unlock", profile=["--executor", "local", "--cores", "1"])
        self.slurm.run("env", "-C", str(self.folder), *command)

    def profile(self, **keys: str) -> None:
        """Set keys of the slurm profile, `_` for `-`."""
        path = self.folder / "profiles/slurm/config.yaml"
        names = {name.replace("_", "-"): value for name, value in keys.items()}
        kept = [line for line in path.read_text().splitlines() if line.split(":")[0] not in names]
        path.write_text("\n".join([*kept, *(f"{k}: {v}" for k, v in names.items())]) + "\n")

    def sheet(self, volumes: Mapping[str, tuple[str, ...]]) -> None:
        """Write config/volumes.tsv: name to fold, sections of the phantom and, maybe, batch."""
        rows = ["name\traw\ttruth\tfold\tvoxel_size_nm\tsections\tbatch"]
        for name, (fold, sections, *batch) in volumes.items():
            truth = "-" if fold == "predict" else "truth.tif"
            cells = (name, "raw.tif", truth, fold, "50,4,4", sections, *(batch or ["-"]))
            rows.append("\t".join(cells))
        self.write("config/volumes.tsv", "\n".join(rows) + "\n")


def new_project(
    folder: Path,
    slurm: Sandbox,
    *,
    volumes: Mapping[str, tuple[str, ...]] = VOLUMES,
    shape: tuple[int, int, int] = SHAPE,
    **changes: Any,
) -> Project:
    """A project of parts of one phantom of this `shape`.

    `changes` are laid over `OVERLAY`, section by section. Rules and profiles are copies of the
    repository's, in its layout, with the lines of the site filled in.
    """
    project = Project(folder, slurm)
    for name in ("workflow", "profiles", "config"):
        shutil.copytree(REPOSITORY / name, folder / name)
    (folder / "slurm").symlink_to("profiles/slurm")
    path = folder / "profiles/slurm/config.yaml"
    path.write_text(filled(path.read_text()))
    project.profile(**HASTE)
    overlay = dict(OVERLAY)
    for key, value in changes.items():
        overlay[key] = {**overlay.get(key, {}), **value} if isinstance(value, dict) else value
    project.write("overlay.yaml", json.dumps(overlay))
    project.write("least.yaml", "{}\n")
    project.sheet(volumes)
    phantom = [sys.executable, "-m", "unet_core.cli", "phantom", "--shape", *map(str, shape)]
    subprocess.run([*phantom, "--out", str(folder / "raw files")], check=True, capture_output=True)
    return project


def filled(profile: str) -> str:
    """The shipped profile with account and partitions of the sandbox."""
    text = profile.replace("slurm_account: CHANGE", "slurm_account: lab")
    text = text.replace("slurm_partition: CHANGE # site: with GPUs", "slurm_partition: gpu")
    return text.replace("slurm_partition: CHANGE", "slurm_partition: cpu")
