"""SIGKILL at random moments: finished blocks are kept, and the result is the same to the bit."""

import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.workflow.conftest import REPOSITORY, environment
from tests.workflow.kills import (
    FILES,
    STAGES,
    Project,
    check_rerun,
    declared,
    finished,
    kill,
    progress,
    results,
    signalled,
    told,
    undisturbed,
    whole,
    write_inputs,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("kill")
    write_inputs(folder)
    return undisturbed(folder)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "killed"
    folder.mkdir()
    return folder


ROUNDS = [("work", 1), ("work", 2), ("time", 1)]
"""One after the other: killed after some blocks or after some time, with so many threads."""


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_killed_again_and_again_goes_on_to_the_same_bytes(
    project: Project, out: Path, stage: str
) -> None:
    rng = random.Random(stage)
    for by, threads in ROUNDS:
        # Another number of threads may round the sums of a training otherwise.
        kill(project, stage, out, rng, threads=1 if stage == "train" else threads, by=by)
    check_rerun(project, stage, out)


@pytest.mark.parametrize("stage", ["convert raw", "augment", "train", "infer", "stitch", *FILES])
def test_asked_to_end_a_stage_exits_with_143_and_keeps_its_work(
    project: Project, out: Path, stage: str
) -> None:
    rng = random.Random(stage)
    total = whole(project, stage)
    code, wanted = 0, total
    while code == 0 and wanted > 1:
        shutil.rmtree(out)
        out.mkdir()
        wanted = rng.randrange(1, 1 + wanted // 2)
        process = project.start(stage, out)
        code = signalled(process, signal.SIGTERM, lambda: progress(stage, out) >= wanted)  # noqa: B023
    log = out.with_name("log").read_text()
    assert code == 143, log
    assert "goes on from there" in log
    assert finished(stage, out).total() >= wanted
    assert not declared(stage, out).exists()
    check_rerun(project, stage, out)


def test_a_finished_stage_computes_nothing_again(project: Project, out: Path) -> None:
    project.finish("weights", out)
    check_rerun(project, "weights", out)


def snakemake(project: Project, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "snakemake", "--cores", "1", "--rerun-incomplete"),
            *("--profile", str(REPOSITORY / "profiles/local")),
            *("--snakefile", str(REPOSITORY / "workflow/Snakefile")),
            *("--configfile", str(project.folder / "overlay.yaml")),
            *arguments,
        ],
        cwd=project.folder,
        env={**environment(real=True), "OMP_NUM_THREADS": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def test_a_killed_workflow_goes_on_with_the_finished_blocks(project: Project) -> None:
    out = project.folder / "results/volumes/v"
    target = ["--until", "weights"]
    process = snakemake(project, *target)
    code = signalled(process, signal.SIGKILL, lambda: progress("weights", out) >= 5)
    answer, _ = process.communicate()
    assert code == -signal.SIGKILL, answer
    kept = finished("weights", out)
    for arguments in (["--unlock"], target):
        process = snakemake(project, *arguments)
        answer, _ = process.communicate(timeout=300)
        assert process.returncode == 0, answer
    log = (project.folder / "results/logs/weights/v.log").read_text()
    (blocks,) = (n for _, n in told("weights", project.logs["weights"]).values())
    assert 5 <= kept["weights"] < blocks
    assert told("weights", log) == {"weights": (kept["weights"], blocks - kept["weights"])}
    for stage in ("convert truth", "weights"):
        assert results(stage, out) == results(stage, project.folder / "undisturbed")
