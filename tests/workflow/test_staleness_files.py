"""What reruns when the sheet, a preset or files change, move or are gone, and nothing more."""

import os
import re
import shutil
import time

from tests.workflow.conftest import FOLDS, REPOSITORY, Project, rows
from tests.workflow.edits import after, of_volume, stages


def test_a_row_of_the_sheet_touches_its_volume_only(project: Project) -> None:
    project.sheet(rows(d={"voxel_size_nm": "40,4,4"}))
    jobs = project.plan()
    assert jobs - of_volume(jobs, "d") == {"all", "report"}
    assert stages(of_volume(jobs, "d")) == {
        *("convert raw", "convert truth", "infer", "stitch", "score", "montage"),
    }


def test_a_row_of_a_training_volume_retrains(project: Project) -> None:
    project.sheet(rows(a={"sections": "0:3"}))
    jobs = project.plan()
    assert "train model=one" in jobs
    assert not any(job.startswith(("convert", "weights")) for job in jobs - of_volume(jobs, "a"))


def test_a_new_volume_to_predict_never_retrains(project: Project) -> None:
    project.write("data/f.raw", "raw of f")
    project.sheet([*rows(), ["f", "data/f.raw", "", "predict", "", ""]])
    jobs = project.plan()
    assert jobs - of_volume(jobs, "f") == {"all", "report"}
    assert stages(of_volume(jobs, "f")) == {"convert raw", "infer", "stitch", "montage"}


def test_a_new_model_leaves_the_others(project: Project) -> None:
    project.write("three.yaml", "model: {depth: 2, width: 4}\n")
    jobs = project.plan(models=["one.yaml", "two.yaml", "three.yaml"])
    assert jobs - {job for job in jobs if "model=three" in job} == {"all", "report"}


def test_another_machine_or_profile_reruns_nothing(finished: Project) -> None:
    """Cores, GPUs, memory and threads are in no result; on the command line as in a profile."""
    asked = ("--set-threads", "infer=3", "--set-resources", "infer:gpu=2", "infer:mem_mb=1000")
    told = finished.snakemake("-n", *asked).stdout
    assert "Nothing to be done" in told, told


def test_a_preset_retrains_its_model_only(project: Project) -> None:
    project.write("two.yaml", "model: {depth: 2, width: 4}\ntrain: {steps: 10}\n")
    jobs = project.plan()
    assert "train model=two" in jobs
    assert not any("model=one" in job for job in jobs)


def test_rows_in_another_order_rerun_nothing_but_what_depends_on_order(project: Project) -> None:
    project.sheet([row for row in reversed(rows()) if row[0] not in "ab"] + rows()[:2])
    assert stages(project.plan()) <= {"report", "all"}


def test_touched_files_rerun_nothing(project: Project) -> None:
    touched = ["data/a.raw", "data/a.truth", "config/config.yaml", "config/volumes.tsv", "one.yaml"]
    touched += [
        "results/volumes/a/raw.ome.zarr/zarr.json",
        "results/volumes/a/truth.ome.zarr/zarr.json",
        "results/patches/train.zarr/zarr.json",
        "results/models/one/model.json",
        "results/volumes/d/one/probabilities.ome.zarr/zarr.json",
    ]
    later = time.time() + 5
    for name in touched:
        os.utime(project.folder / name, (later, later))
    # Its content is what model.json digests; and no checksum is taken of a file of this size.
    best = project.folder / "results/models/one/best.pt"
    with best.open("ab") as file:
        file.truncate(2 * 10**6)
    os.utime(best, (later, later))
    assert project.plan() == set()


def test_changed_bytes_of_raw_rerun_its_volume(project: Project) -> None:
    path = project.folder / "data/d.raw"
    times = path.stat()
    path.write_text(path.read_text().replace("raw", "RAW"))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    jobs = project.plan()
    assert jobs - of_volume(jobs, "d") == {"all", "report"}
    assert stages(of_volume(jobs, "d")) == {"convert raw", "infer", "stitch", "score", "montage"}


def test_data_that_moved_rerun_nothing(project: Project) -> None:
    (project.folder / "data").rename(project.folder / "elsewhere")
    project.sheet([[cell.replace("data/", "") for cell in row] for row in rows()])
    assert project.plan(data="elsewhere") == set()


def test_raw_files_may_be_archived_once_they_are_converted(project: Project) -> None:
    shutil.rmtree(project.folder / "data")
    assert project.plan() == set()
    assert stages(project.plan(infer={"dtype": "float16"})) == after({"infer"})
    told = project.snakemake("-n").stdout
    assert "the store made of it is used as it is" in told


def test_a_deleted_store_is_made_again(project: Project) -> None:
    shutil.rmtree(project.folder / "results/volumes/d/one/labels.ome.zarr")
    jobs = project.plan()
    assert jobs == {
        *("stitch volume=d model=one", "score volume=d model=one", "montage volume=d model=one"),
        *("report", "all"),
    }


def test_a_store_that_is_named_is_gone_on_with_though_it_is_there(finished: Project) -> None:
    """As the report advises where blocks failed: the ledger keeps the others."""
    store = "results/volumes/d/one/probabilities.ome.zarr/zarr.json"
    told = finished.snakemake("-n", "--forcerun", store).stdout
    rules = set(re.findall(r"^(?:local)?rule (\w+):", told, re.M))
    assert rules == {"infer", "stitch", "score", "montage", "report", "all"}


def test_a_fresh_checkout_of_the_workflow_reruns_nothing(project: Project) -> None:
    """All rules and configurations get new times and another folder, as `git clone` gives them."""
    clone = project.folder / "clone"
    for part in ("workflow", "config"):
        shutil.copytree(REPOSITORY / part, clone / part, copy_function=shutil.copyfile)
    told = project.snakemake("-n", "--snakefile", str(clone / "workflow/Snakefile"))
    assert "Nothing to be done" in told.stdout, told.stdout


def test_every_fold_is_in_the_project() -> None:
    assert set(FOLDS.values()) == {"train", "validation", "test", "predict"}
