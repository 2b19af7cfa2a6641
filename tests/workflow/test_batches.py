"""Batches: one job for many volumes, and no more reruns than with a job for each."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.workflow.conftest import Project, rows
from unet_core.config.sheet import MOST_OF_BATCH, read_sheet
from unet_core.errors import ConfigError

HEADER = ("name", "raw", "truth", "fold", "voxel_size_nm", "sections", "mask", "batch")
BATCHES = {"b": "small", "d": "small", "e": "small"}
"""Volume to batch; a and c are inferred by jobs of their own."""


def sheet(project: Project, batches: dict[str, str], masks: tuple[str, ...] = ()) -> None:
    table = [HEADER]
    for row in rows():
        mask = f"data/{row[0]}.mask" if row[0] in masks else ""
        table.append((*row, mask, batches.get(row[0], "-")))
    project.write("config/volumes.tsv", "\n".join("\t".join(row) for row in table) + "\n")


@pytest.fixture(scope="module")
def done(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The finished project, after three of its volumes were made a batch; left as it is."""
    folder = tmp_path_factory.mktemp("batches") / "done"
    shutil.copytree(finished.folder, folder)
    project = Project(folder)
    sheet(project, BATCHES)
    run = project.snakemake()
    assert run.returncode == 0, run.stdout
    return project


@pytest.fixture
def batched(done: Project, tmp_path: Path) -> Project:
    """A copy of it, to be changed."""
    shutil.copytree(done.folder, tmp_path / "copy")
    return Project(tmp_path / "copy")


def ran(told: str) -> set[str]:
    """Jobs that a run executed, as `Project.plan` names them."""
    jobs = re.findall(
        r"^(?:local)?(?:rule|checkpoint) (\w+):\n((?:    .*\n)*)", told, flags=re.MULTILINE
    )
    told_of = ((rule, re.search(r"wildcards: (.*)", lines)) for rule, lines in jobs)
    return {
        " ".join([rule, *(wildcards[1].split(", ") if wildcards else ())])
        for rule, wildcards in told_of
    }


def inferred(jobs: set[str]) -> set[str]:
    return {job for job in jobs if job.startswith("infer")}


def test_a_batch_is_one_job_per_model(fresh: Callable[[], Project]) -> None:
    project = fresh()
    sheet(project, {**BATCHES, "c": "other"})
    assert inferred(project.plan()) == {
        *("infer volume=a model=one", "infer volume=a model=two"),
        *("infer_small model=one", "infer_small model=two"),
        *("infer_other model=one", "infer_other model=two"),
    }


def test_all_volumes_may_be_of_batches(fresh: Callable[[], Project]) -> None:
    project = fresh()
    sheet(project, {**dict.fromkeys("abde", "every-1"), "c": "c1"})
    jobs = inferred(project.plan(models=["one.yaml"]))
    assert jobs == {"infer_every-1 model=one", "infer_c1 model=one"}


def test_volumes_that_become_a_batch_are_asked_for_once_and_nothing_follows(
    project: Project,
) -> None:
    sheet(project, BATCHES)
    first = ran(project.snakemake().stdout)
    assert inferred(first) == {"infer_small model=one", "infer_small model=two"}
    assert not any(job.startswith(("stitch", "score", "montage", "calibrate")) for job in first)
    assert project.plan() == set()


def test_of_a_batch_only_what_follows_of_the_changed_volume_is_run(batched: Project) -> None:
    batched.write("data/d.raw", "another raw of d")
    jobs = ran(batched.snakemake().stdout)
    assert jobs == {
        "convert volume=d image=raw",
        *(f"infer_small model={model}" for model in ("one", "two")),
        *(
            f"{stage} volume=d model={model}"
            for stage in ("stitch", "score", "montage")
            for model in ("one", "two")
        ),
        *("report", "all"),
    }
    assert batched.plan() == set()


def test_a_setting_changed_meanwhile_is_seen_for_all_volumes(batched: Project) -> None:
    batched.write("data/d.raw", "another raw of d")
    overlay = ["--config", "stitch={threshold: 0.4}"]
    jobs = ran(batched.snakemake(*overlay).stdout)
    assert {job for job in jobs if job.startswith("stitch")} == {
        f"stitch volume={volume} model={model}" for volume in "abcde" for model in ("one", "two")
    }
    assert "Nothing to be done" in batched.snakemake("-n", *overlay).stdout


def test_a_volume_more_in_a_batch_leaves_what_follows_of_the_others(batched: Project) -> None:
    sheet(batched, {**BATCHES, "a": "small"})
    jobs = ran(batched.snakemake().stdout)
    assert inferred(jobs) == {"infer_small model=one", "infer_small model=two"}
    assert not any(job.startswith(("stitch", "score", "montage", "calibrate")) for job in jobs)


def test_rows_in_another_order_and_touched_stores_rerun_nothing(batched: Project) -> None:
    path = batched.folder / "config/volumes.tsv"
    header, *lines = path.read_text().splitlines()
    path.write_text("\n".join([header, *lines[:2], *reversed(lines[2:])]) + "\n")
    for name in ("e/raw.ome.zarr", "d/one/probabilities.ome.zarr"):
        os.utime(batched.folder / f"results/volumes/{name}/zarr.json")
    assert {job.split()[0] for job in batched.plan()} <= {"report", "all"}


def test_a_deleted_store_of_a_batch_is_made_again_and_nothing_follows(batched: Project) -> None:
    shutil.rmtree(batched.folder / "results/volumes/e/one/probabilities.ome.zarr")
    jobs = ran(batched.snakemake("--forcerun", "infer_small").stdout)
    assert {job.split()[0] for job in jobs} <= {"infer_small", "report", "all"}


def test_masks_stand_beside_their_volumes(fresh: Callable[[], Project]) -> None:
    project = fresh()
    sheet(project, BATCHES, masks=("d",))
    project.write("data/d.mask", "mask of d")
    told = project.snakemake("-n", "--printshellcmds").stdout
    command = next(
        line for line in told.splitlines() if "unet-core infer" in line and "volumes/d/" in line
    )
    assert " --mask - results/volumes/d/mask.ome.zarr/zarr.json - --checkpoint " in command
    assert not re.search(r"infer .*volumes/a/.* --mask", told)


def test_what_is_set_for_infer_holds_for_its_batches(fresh: Callable[[], Project]) -> None:
    project = fresh()
    sheet(project, {**BATCHES, "c": "other"})
    told = project.snakemake(
        *("-n", "--printshellcmds", "--set-threads", "infer=2"),
        *("--set-resources", "infer:gpu=1", "infer:mem_mb=123", "infer_other:gpu=0"),
    ).stdout
    commands = [line for line in told.splitlines() if "unet-core infer" in line]
    assert len(commands) == 6
    for command in commands:
        gpus = 0 if "volumes/c/" in command else 1
        assert f"--threads 2 --gpus {gpus} --memory-mb 123 " in command


@pytest.mark.parametrize(
    ("batches", "told"),
    [
        ({"a": "b"}, ["line 2 (a)", "batch b has the name of a volume", "line 3 (b)"]),
        ({"a": "my batch"}, ["line 2 (a)", "'my batch'", "letters, digits"]),
        ({"c": "x", "d": "x"}, ["line 4 (c)", "batch x", "validation and others", "(d)"]),
    ],
)
def test_a_wrong_batch_is_refused(tmp_path: Path, batches: dict[str, str], told: list[str]) -> None:
    project = Project(tmp_path)
    sheet(project, batches)
    with pytest.raises(ConfigError) as refused:
        read_sheet(tmp_path / "config/volumes.tsv", data=tmp_path)
    assert all(part in str(refused.value) for part in told), refused.value


def test_a_batch_that_no_command_would_take_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "volumes.tsv"
    lines = [f"v{n}\traw.tif\tpredict\tsmall" for n in range(MOST_OF_BATCH + 1)]
    path.write_text("\n".join(["name\traw\tfold\tbatch", *lines]) + "\n")
    with pytest.raises(ConfigError, match=rf"has {MOST_OF_BATCH + 1} volumes.*several batches"):
        read_sheet(path, data=tmp_path)
