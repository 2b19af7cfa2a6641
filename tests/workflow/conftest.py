"""A finished workflow of five volumes and two models, made by a stand-in of `unet-core`."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]

FOLDS = {"a": "train", "b": "train", "c": "validation", "d": "test", "e": "predict"}
CONFIG: dict[str, Any] = {"models": ["one.yaml", "two.yaml"], "augment": {"patch": [1, 188, 188]}}
PRESET = "model: {depth: 2, width: 8}\ntrain: {steps: 10}\n"


@dataclass(frozen=True)
class Project:
    """A working directory with its own sheet and data; rules and config.yaml are the real ones."""

    folder: Path

    def snakemake(self, *arguments: str, real: bool = False) -> subprocess.CompletedProcess[str]:
        """Run the command line; `real`: with the real unet-core, else with its stand-in."""
        overlay = self.folder / "overlay.yaml"
        if not overlay.exists():
            overlay.write_text(json.dumps(CONFIG))
        return snakemake(self.folder, "--configfile", str(overlay), *arguments, real=real)

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def sheet(self, rows: Sequence[Sequence[str]], name: str = "config/volumes.tsv") -> None:
        header = ("name", "raw", "truth", "fold", "voxel_size_nm", "sections", "mask")
        header = header[: max(map(len, rows))]
        self.write(name, "\n".join("\t".join(row) for row in (header, *rows)) + "\n")

    def plan(self, **changes: Any) -> set[str]:
        """Jobs that a dry run would start."""
        return plans([(self, changes)])[0]


def snakemake(folder: Path, *arguments: str, real: bool = True) -> subprocess.CompletedProcess[str]:
    """The workflow's command line, in `folder`; `real`: with the real unet-core."""
    return subprocess.run(
        [
            *(sys.executable, "-m", "snakemake", "--cores", "2"),
            *("--snakefile", str(REPOSITORY / "workflow/Snakefile")),
            *arguments,
        ],
        cwd=folder,
        env=environment(real=real),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


LOCAL = ("--profile", str(REPOSITORY / "profiles/local"))
"""What users of one machine say besides."""


def environment(*, real: bool = False) -> dict[str, str]:
    path = [*([] if real else [str(HERE / "bin")]), str(Path(sys.executable).parent)]
    return {**os.environ, "PATH": os.pathsep.join([*path, os.environ["PATH"]])}


def plans(cases: Sequence[tuple[Project, dict[str, Any]]]) -> list[set[str]]:
    """For each project and change of its configuration, the jobs a dry run would start."""
    asked = [
        {"folder": str(project.folder), "config": merged(CONFIG, changes)}
        for project, changes in cases
    ]
    run = subprocess.run(
        [sys.executable, str(HERE / "plans.py")],
        input=json.dumps(asked),
        env=environment(),
        text=True,
        capture_output=True,
    )
    assert run.returncode == 0, run.stderr
    return [set(jobs) for jobs in json.loads(run.stdout)]


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`changes` laid over `base`, section by section."""
    both = dict(base)
    for key, value in changes.items():
        inner = both.get(key)
        both[key] = {**inner, **value} if isinstance(inner, dict) else value
    return both


def rows(**changed: dict[str, str]) -> list[list[str]]:
    """The sheet's rows, some cells `changed`."""
    table = []
    for name, fold in FOLDS.items():
        row = {
            "raw": f"data/{name}.raw",
            "truth": "-" if fold == "predict" else f"data/{name}.truth",
            "fold": fold,
            "voxel_size_nm": "50,4,4",
            "sections": "",
        }
        table.append([name, *(row | changed.get(name, {})).values()])
    return table


def new_project(folder: Path) -> Project:
    project = Project(folder)
    project.write("config/config.yaml", (REPOSITORY / "config/config.yaml").read_text())
    for model in ("one", "two"):
        project.write(f"{model}.yaml", PRESET)
    for name in FOLDS:
        project.write(f"data/{name}.raw", f"raw of {name}")
        project.write(f"data/{name}.truth", f"truth of {name}")
    project.sheet(rows())
    return project


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """All results are there and up to date; tests leave it as it is."""
    project = new_project(tmp_path_factory.mktemp("workflow") / "finished")
    run = project.snakemake()
    assert run.returncode == 0, run.stdout
    return project


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    """A copy of the finished project, times kept, to be changed."""
    shutil.copytree(finished.folder, tmp_path / "copy")
    return Project(tmp_path / "copy")


@pytest.fixture
def fresh(tmp_path: Path) -> Callable[[], Project]:
    """A project without results."""
    return lambda: new_project(tmp_path / "fresh")
