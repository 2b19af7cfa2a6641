"""Training over two nodes of a real Slurm, a process on each."""

import shlex
from pathlib import Path

import pytest

from tests.slurm.sandbox import Sandbox
from tests.stages.test_train import write_bank
from tests.stages.test_train_ranks import check_alike, command, ended, start

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
