"""Training over two nodes of a real Slurm, a process on each."""

import shlex
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.slurm.processes import go_on, has_got, ranks_of, stop
from tests.slurm.sandbox import Sandbox
from tests.stages.test_train import write_bank
from tests.stages.test_train_ranks import FEW, check_alike, command, ended, start
from unet_core.net.checkpoint import read_checkpoint

pytestmark = pytest.mark.slow


def test_a_process_on_each_of_two_nodes_finds_what_one_does(slurm: Sandbox, tmp_path: Path) -> None:
    write_bank(tmp_path / "patches", patches=9)
    write_bank(tmp_path / "checks", patches=3, seed=1)
    given = ["--nodes", "2", "--launcher", "srun", "--threads", "2", "--memory-mb", "4000"]
    job = slurm.submit(
        shlex.join([*command(tmp_path, gpus=2), *given]),
        *("-p", "gpu", "--nodes=2", "--ntasks=2", "--cpus-per-task=2", "--mem=4000"),
        *("--gpus=2", "--gpus-per-node=1"),
    )
    ended(start(tmp_path, gpus=1), 0)
    assert slurm.wait(job) == "COMPLETED", slurm.output_of(job)
    assert "2 process(es)" in slurm.output_of(job)
    check_alike(tmp_path / "by 2", tmp_path / "by 1")


LONG = replace(FEW, steps=30, validate_every=3)


def submit(slurm: Sandbox, folder: Path) -> int:
    """Train for long on two nodes, in a job that Slurm warns, ends and starts again."""
    given = ["--nodes", "2", "--launcher", "srun", "--threads", "2", "--memory-mb", "4000"]
    return slurm.submit(
        f"exec {shlex.join([*command(folder, gpus=2, config=LONG), *given])}",
        *("-p", "gpu", "--nodes=2", "--ntasks=2", "--cpus-per-task=2", "--mem=4000"),
        *("--gpus=2", "--gpus-per-node=1", "--requeue", "--open-mode=append"),
        *("--time=10", "--signal=USR1@50"),
    )


def stopped(slurm: Sandbox, job: int, happened: Callable[[], bool]) -> set[int]:
    """Stop all that train when something has happened."""
    slurm.until(happened, "steps of training")
    ranks = ranks_of(job)
    stop(ranks)
    assert len(ranks) == 2
    return ranks


def test_ended_by_slurm_on_two_nodes_it_has_saved_its_state_and_goes_on_to_the_same_network(
    slurm: Sandbox, tmp_path: Path
) -> None:
    for name in ("disturbed", "undisturbed"):
        write_bank(tmp_path / name / "patches", patches=9)
        write_bank(tmp_path / name / "checks", patches=3, seed=1)
    folder = tmp_path / "disturbed"
    job = submit(slurm, folder)
    stopped(slurm, job, (folder / "by 2/last.pt").exists)
    slurm.submit("sleep 1", "-p", "urgent", "-N2", "--exclusive")
    slurm.until(lambda: int(slurm.details(job)["Restarts"]) == 1, "the job to be started again")
    ranks = stopped(slurm, job, lambda: slurm.output_of(job).count("resumed at step") == 1)
    slurm.run("scontrol", "update", f"jobid={job}", "EndTime=now+60")
    slurm.until(lambda: any(has_got(each, signal.SIGUSR1) for each in ranks), "a warning")
    go_on(ranks)
    assert slurm.wait(job) == "FAILED"
    assert slurm.details(job)["ExitCode"] == "143:0", slurm.output_of(job)
    assert slurm.output_of(job).count("is saved; the same command goes on from there") >= 2
    again, whole = submit(slurm, folder), submit(slurm, tmp_path / "undisturbed")
    for each in (again, whole):
        assert slurm.wait(each) == "COMPLETED", slurm.output_of(each)
    assert "resumed at step" in slurm.output_of(again)
    histories = [path.read_text() for path in sorted(tmp_path.glob("*/by 2/history.csv"))]
    assert histories[0] == histories[1]
    networks = [read_checkpoint(path).state for path in sorted(tmp_path.glob("*/by 2/best.pt"))]
    for name, tensor in networks[0].items():
        assert torch.equal(tensor, networks[1][name]), name


def test_asked_to_end_while_it_starts_it_says_so(slurm: Sandbox, tmp_path: Path) -> None:
    write_bank(tmp_path / "patches", patches=9)
    write_bank(tmp_path / "checks", patches=3, seed=1)
    job = submit(slurm, tmp_path)
    slurm.until(lambda: len(ranks_of(job)) == 2, "its step")
    slurm.run("scancel", "--signal=USR1", str(job))
    assert slurm.wait(job) == "FAILED"
    assert slurm.details(job)["ExitCode"] == "143:0", slurm.output_of(job)
