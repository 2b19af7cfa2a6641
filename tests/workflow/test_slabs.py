"""A volume in slabs by Snakemake: killed, changed, and spread another way; the same bytes."""

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.workflow.conftest import REPOSITORY, environment
from tests.workflow.kills import signalled, write_inputs
from unet_core.config.extent import Extent
from unet_core.config.spread import Way, Ways
from unet_core.config.workflow import load_workflow

pytestmark = pytest.mark.slow

STORE = "results/volumes/v/mini/probabilities.ome.zarr"
SLABS = ["0-0-0", "0-64-0", "0-128-0"]
SPREAD = {"spread": "slabs", "slab": [8, 64, 160]}


def command(*arguments: str, **infer: Any) -> list[str]:
    return [
        *(sys.executable, "-m", "snakemake", "--cores", "2", "--rerun-incomplete"),
        *("--snakefile", str(REPOSITORY / "workflow/Snakefile")),
        *("--configfile", "overlay.yaml", "--config", f"infer={json.dumps(infer)}"),
        *("--until", "infer", *arguments),
    ]


def snakemake(folder: Path, *arguments: str, **infer: Any) -> str:
    """Run it to its end; what it said."""
    run = subprocess.run(
        command(*arguments, **infer),
        cwd=folder,
        env={**environment(real=True), "OMP_NUM_THREADS": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert run.returncode == 0, run.stdout
    return run.stdout


def planned(folder: Path, **infer: Any) -> list[str]:
    """Rules of the jobs that a dry run would start."""
    told = snakemake(folder, "-n", **infer)
    found = re.findall(r"^(?:local)?rule (\w+):$", told, flags=re.MULTILINE)
    return [rule for rule in found if rule != "all"]


def files_of(folder: Path) -> dict[str, bytes]:
    paths = (path for path in (folder / STORE).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def remove(folder: Path) -> None:
    """All that inference has made."""
    shutil.rmtree((folder / STORE).parent)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A volume inferred by one job."""
    folder = tmp_path_factory.mktemp("slabs")
    write_inputs(folder)
    (folder / "mini.yaml").write_text(
        json.dumps({"model": {"width": 4, "depth": 2}, "train": {"steps": 4}})
    )
    snakemake(folder)
    return folder


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "copy")
    return tmp_path / "copy"


def test_how_a_finished_store_was_spread_makes_nothing_stale(project: Path) -> None:
    assert planned(project, **SPREAD) == []
    remove(project)
    assert sorted(planned(project, **SPREAD)) == ["infer", "infer_prepare", *["infer_slab"] * 3]
    snakemake(project, **SPREAD)
    assert planned(project) == []
    assert planned(project, **SPREAD | {"slab": [2, 32, 32]}) == []
    changed = planned(project, **SPREAD, averaging="symmetries")
    assert sorted(changed) == ["infer", "infer_prepare", *["infer_slab"] * 3]
    assert planned(project, averaging="symmetries") == ["infer"]


def test_killed_in_the_middle_it_goes_on_to_the_same_bytes(made: Path, project: Path) -> None:
    remove(project)
    folder = project / f"{STORE}.slabs"

    def done() -> int:
        """Blocks of slabs at work."""
        return sum(len(path.read_bytes().splitlines()) for path in folder.glob("*.jsonl"))

    with (project / "log").open("w") as log:
        process = subprocess.Popen(
            command(**SPREAD),
            cwd=project,
            env={**environment(real=True), "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        code = signalled(process, signal.SIGKILL, lambda: done() >= 10)
    assert code == -signal.SIGKILL, (project / "log").read_text()
    assert not (project / STORE / "zarr.json").exists()
    snakemake(project, "--unlock", **SPREAD)
    snakemake(project, **SPREAD)
    assert files_of(project) == files_of(made)
    logs = project / "results/logs/infer_slab"
    found = [re.search(r"resumed (\d+), computed (\d+)", p.read_text()) for p in logs.iterdir()]
    assert sum(int(each[1]) for each in found if each) >= 8  # of the killed run
    whole = (project / "results/logs/infer/v.mini.log").read_text()
    assert "resumed 100, computed 0" in whole
    assert [path.name for path in folder.iterdir()] == ["slabs.json"]
    assert planned(project, **SPREAD) == []


def test_one_job_takes_over_what_slabs_have_left(made: Path, project: Path) -> None:
    remove(project)
    target = f"{STORE}.slabs/{SLABS[1]}.done"
    snakemake(project, "--notemp", *("--", target), **SPREAD)
    assert planned(project) == ["infer"]
    snakemake(project)
    assert files_of(project) == files_of(made)
    assert "computed 0" not in (project / "results/logs/infer/v.mini.log").read_text()
    assert not (project / f"{STORE}.slabs").exists()


def test_jobs_do_what_was_planned_whatever_has_been_made_meanwhile(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(made)
    config = json.loads((made / "overlay.yaml").read_text())
    ways = Ways(
        workflow=load_workflow(config | {"infer": SPREAD}, presets=made),
        extent_of=lambda *_: Extent(shape=(8, 160, 160), chunk=(1, 32, 32), shard=(2, 32, 32)),
        volumes=tmp_path / "none",
        models=tmp_path / "none",
        kept=tmp_path / "kept.json",
    )
    planned_as = ways.of("v", "mini", planning=True, keep=True)
    assert planned_as == Way(tuple(SLABS), (8, 64, 160))
    monkeypatch.setattr(Ways, "_decide", lambda *_: Way())
    assert ways.of("v", "mini", planning=False, keep=False) == planned_as
    assert ways.of("v", "mini", planning=True, keep=False) == Way()
