"""What jobs ask for: by volume and settings, by attempt, and what a profile says."""

import json
import re
from collections.abc import Callable

import numpy as np
import tifffile

from tests.workflow.conftest import Project
from unet_core.config.slabs import MOST_SLABS
from unet_core.stages.estimate_plan import MOST_JOBS

Fresh = Callable[[], Project]


def asked(project: Project, *arguments: str, real: bool = False) -> dict[str, set[str]]:
    """Rule to the memories (MB) that its jobs ask for in a dry run."""
    run = project.snakemake("-n", *arguments, real=real)
    assert run.returncode == 0, run.stdout
    found: dict[str, set[str]] = {}
    for rule, resources in re.findall(
        r"^(?:local)?(?:rule|checkpoint) (\w+):\n(?:    .*\n)*?    resources: (.*)",
        run.stdout,
        re.M,
    ):
        memory = re.search(r"mem_mb=([^,]*)", resources)
        found.setdefault(rule, set()).add(memory[1] if memory else "")
    return found


def test_what_is_not_known_yet_is_asked_for_later(fresh: Fresh) -> None:
    found = asked(fresh())  # the stand-in of `unet-core check` tells no headers
    assert found["infer"] == {"<TBD>"}
    assert found["train"] != {"<TBD>"}


def test_a_larger_volume_asks_for_more_and_a_profile_has_the_last_word(fresh: Fresh) -> None:
    project = fresh()
    name = "data/large.tif"
    (project.folder / "data").mkdir(exist_ok=True)
    tifffile.imwrite(project.folder / name, np.zeros((40, 700, 700), np.uint8))
    project.sheet([[v, name, name, fold] for v, fold in (("a", "train"), ("b", "test"))])
    found = asked(project, "--config", "data=.", real=True)
    (stitch,) = found["stitch"]
    assert int(stitch) > 1500  # of two workers
    (infer,) = found["infer"]
    assert int(infer) > 1000
    again = asked(project, "--config", "data=.", "--set-resources", "infer:mem_mb=4321", real=True)
    assert again["infer"] == {"4321"}
    assert again["stitch"] == {stitch}


def headers_of(project: Project, **shapes: list[int]) -> None:
    """What the stand-in of `unet-core check` would have written."""
    told = {
        f"data/{name}.raw": {"shape": [1, *shape], "dtype": "uint8", "unit": [1, 1, 1]}
        for name, shape in shapes.items()
    }
    project.write(".snakemake/unet-headers.json", json.dumps(told))


def test_what_no_cluster_has_is_warned_of_when_the_run_is_planned(fresh: Fresh) -> None:
    project = fresh()
    headers_of(project, a=[40, 700, 700], b=[100_000] * 3)
    run = project.snakemake("-n")
    assert run.returncode == 0, run.stdout
    warned = re.findall(r"(\w+) of (.*): asks for .* (GB of memory|days), more than", run.stdout)
    assert ("stitch", "b/one", "GB of memory") in warned
    assert ("stitch", "b/one", "days") in warned
    assert len(set(warned)) == len(warned)
    assert not any(of.startswith("a") for _, of, _ in warned)


def test_a_petabyte_is_planned_in_few_jobs_of_which_no_slab_is_too_long(fresh: Fresh) -> None:
    project = fresh()
    headers_of(project, a=[40, 700, 700], b=[100_000] * 3)
    cut = ["--config", 'convert={"shard": [160, 1024, 1024]}', 'infer={"spread": "slabs"}']
    run = project.snakemake("-n", "--quiet", "rules", *cut, "--set-resources", "infer:gpu=8")
    assert run.returncode == 0, run.stdout
    jobs = {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", run.stdout, re.M)}
    assert 100 < jobs["infer_slab"] <= MOST_SLABS
    assert jobs["total"] <= MOST_JOBS
    warned = set(re.findall(r"(\w+) of .*: asks for .* (?:GB of memory|days)", run.stdout))
    assert {"convert", "stitch"} <= warned
    assert not any(rule.startswith("infer") for rule in warned), "it is slabs"


def test_training_on_two_gpus_asks_for_two_processes(fresh: Fresh) -> None:
    project = fresh()
    one, two = (
        asked(project, "--set-resources", f"train:gpu={n}", "--set-threads", "train=8")["train"]
        for n in (1, 2)
    )
    assert int(max(two)) > 1.9 * int(max(one))


def test_threads_may_be_an_expression_of_the_attempt(fresh: Fresh) -> None:
    run = fresh().snakemake("-n", "--cores", "8", "--set-threads", "infer=3 * attempt")
    assert run.returncode == 0, run.stdout
    threads = re.findall(
        r"^(?:rule|checkpoint) infer\w*:\n(?:    .*\n)*?    threads: (.*)", run.stdout, re.M
    )
    assert set(threads) == {"3"}


def test_an_estimate_is_printed_from_any_working_directory(fresh: Fresh) -> None:
    project = fresh()
    tifffile.imwrite(project.folder / "large.tif", np.zeros((40, 700, 700), np.uint8))
    rows = (("a", "train"), ("b", "test"))
    project.sheet([[name, "large.tif", "large.tif", fold, "50,4,4"] for name, fold in rows])
    patch = {"patch": [1, 68, 68]}
    project.write("overlay.yaml", json.dumps({"models": ["tiny"], "augment": patch, "data": "."}))
    said = []
    for threads in (2, 4):
        told = (f"--set-threads=infer={threads}", "--nocolor", "estimate")
        run = project.snakemake(*told, real=True)
        log = project.folder / "results/logs/estimate/estimate.log"
        assert run.returncode == 0, run.stdout + (log.read_text() if log.exists() else "")
        assert "2 volume(s), 3.92e+07 voxels" in run.stdout
        said.append(re.search(r"^stitch .*", run.stdout, re.M))
    assert None not in said
    assert len({row[0] for row in said}) == 2  # more threads take more memory and less time
