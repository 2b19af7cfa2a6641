"""One job over two nodes of a real Slurm: its workers are steps, and what happens to them."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.run.faulty import SCRIPT, check_same, kept, make
from tests.slurm.processes import workers_of
from tests.slurm.project import Project
from tests.slurm.sandbox import Sandbox
from unet_core.config import Resources

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
TWO_NODES = (
    *("-p", "gpu", "--nodes=2", "--ntasks=2", "--cpus-per-task=4", "--gpus=4"),
    *("--gpus-per-node=2", "--mem=3000", "--no-kill", "--no-requeue"),
)
RESOURCES = {"threads": 4, "gpus": 4, "nodes": 2, "memory_mb": 3000, "launcher": "srun"}


def script_of(store: Path, **options: object) -> str:
    """A command that writes the store of 18 blocks."""
    script = store.with_name("script.py")
    script.write_text(SCRIPT.replace("{options}", repr(options)))
    return f"cd {REPOSITORY}; PYTHONPATH={REPOSITORY} exec {sys.executable} {script} {store}"


def submit(slurm: Sandbox, store: Path, **options: object) -> int:
    """A job on two nodes with two workers each."""
    return slurm.submit(script_of(store, resources=RESOURCES, **options), *TWO_NODES)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "job").mkdir()
    return tmp_path / "job" / "x"


@pytest.fixture
def undisturbed(tmp_path: Path) -> Path:
    make(tmp_path / "x", Resources())
    return tmp_path / "x"


def tries(store: Path) -> int:
    return len(list(store.parent.glob("tried-*")))


def writers(store: Path) -> set[int]:
    return {int(path.name.split("-")[-1]) for path in store.parent.glob("tried-*")}


def steps(slurm: Sandbox, job: int) -> dict[str, str]:
    """The steps of a job that run, and their nodes."""
    lines = slurm.run("squeue", "--steps", "--noheader", "-j", str(job), "-o", "%i %N").splitlines()
    found = dict(line.split() for line in lines)
    return {name: node for name, node in found.items() if name.split(".")[1].isdigit()}


def test_a_killed_step_costs_its_block_another_try_and_is_replaced(
    slurm: Sandbox, store: Path, undisturbed: Path
) -> None:
    job = submit(slurm, store, pause=1.5)
    slurm.until(lambda: len(kept(store)) > 2, "blocks")
    running = steps(slurm, job)
    assert sorted(running.values()) == ["gpu1", "gpu1", "gpu2", "gpu2"]
    slurm.run("scancel", "--signal=KILL", next(iter(running)))
    assert slurm.wait(job) == "COMPLETED", slurm.output_of(job)
    check_same(store, undisturbed)
    assert tries(store) <= 19
    assert len(writers(store)) == 5, "another one has taken its place"


def test_a_node_that_is_lost_costs_its_blocks_another_try_and_no_more(
    slurm: Sandbox, store: Path, undisturbed: Path
) -> None:
    job = submit(slurm, store, pause=3)
    slurm.until(lambda: len(kept(store)) > 3 and len(writers(store)) == 4, "all four workers")
    assert slurm.details(job)["BatchHost"] == "gpu1"
    slurm.crash("gpu2")
    assert slurm.wait(job) == "COMPLETED", slurm.output_of(job)
    check_same(store, undisturbed)
    assert 19 <= tries(store) <= 20, "one of the lost workers may have been between two blocks"


def test_a_cancelled_job_leaves_no_step_and_no_process(slurm: Sandbox, store: Path) -> None:
    job = submit(slurm, store, pause=0.5)
    slurm.until(lambda: len(kept(store)) > 2, "blocks")
    assert len(workers_of(job)) >= 4
    slurm.run("scancel", str(job))
    slurm.wait(job)
    slurm.until(lambda: not workers_of(job) and not steps(slurm, job), "the end of all workers")
    done = len(kept(store))
    assert tries(store) == done < 18, "what was under way is finished"
    assert done == len(kept(store))


def over_two_nodes(project: Project) -> None:
    """Two nodes for infer and stitch, with two workers each, in the shipped profile."""
    path = project.folder / "profiles/slurm/config.yaml"
    profile = yaml.safe_load(path.read_text())
    profile["set-resources"]["infer"] |= {"nodes": 2, "gpu": 4}
    profile["set-resources"]["stitch"] = {"nodes": 2}
    profile["set-threads"] = {"stitch": 2}
    path.write_text(yaml.safe_dump(profile))


def test_through_snakemake_the_bytes_are_those_of_one_node(
    slurm: Sandbox, lab: Callable[..., Project]
) -> None:
    volumes = {"learn": ("train", "0:4"), "tell": ("predict", "2:8")}
    project = lab(volumes=volumes)
    overlay = (project.folder / "overlay.yaml").read_text()
    labels = "results/volumes/tell/least/labels.ome.zarr"
    here = ["--executor", "local", "--cores", "2"]
    local = project.command("--printshellcmds", f"{labels}/zarr.json", profile=here)
    slurm.run("env", "-C", str(project.folder), *local)
    stores = [
        project.folder / labels,
        (project.folder / labels).with_name("probabilities.ome.zarr"),
    ]
    expected = {}
    for store in stores:
        expected[store] = store.rename(project.folder / f"{store.name} of one node")
        store.with_name(f"{store.name}.ledger.jsonl").unlink()
    over_two_nodes(project)
    project.write("overlay.yaml", json.dumps({**json.loads(overlay), "infer": {"spread": "nodes"}}))
    run = project.snakemake("--printshellcmds", f"{labels}/zarr.json")
    assert run.returncode == 0, run.stdout
    assert run.stdout.count("--nodes 2 --launcher srun") == 2
    for store in stores:
        check_same(store, expected[store])
    for stage in ("infer", "stitch"):
        told = (project.folder / f"results/logs/{stage}/tell.least.log").read_text()
        assert "workers on 2 nodes" in told
