"""The cluster that the tests of this folder run on."""

import os
import subprocess
from pathlib import Path

from tests.slurm.sandbox import HERE, NOT_HERE, Sandbox


def test_jobs_get_what_they_ask_for(slurm: Sandbox) -> None:
    job = slurm.submit("echo $CUDA_VISIBLE_DEVICES $UNET_DEVICE", "-p", "gpu", "--gpus=2")
    assert slurm.wait(job) == "COMPLETED"
    assert slurm.output_of(job) == "0,1 cpu\n"
    assert slurm.details(job)["Partition"] == "gpu"
    assert slurm.details(job)["JobId"] == str(job)


def test_a_cluster_is_as_new_after_each_test(slurm: Sandbox) -> None:
    assert slurm.squeue() == []
    assert set(slurm.run("sinfo", "-h", "-N", "-o", "%T").split()) <= {"idle", "completing"}
    slurm.submit("sleep 300")
    assert slurm.squeue()[0].partition == "cpu"


def test_nothing_is_installed_on_a_machine_unasked(tmp_path: Path) -> None:
    for name, script in (("dpkg-query", "exit 1"), ("apt-get", f"touch {tmp_path}/installed")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    asks = ("CI", "SLURM_SANDBOX_INSTALL")
    environment = {name: value for name, value in os.environ.items() if name not in asks}
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    up = subprocess.run(
        [str(HERE / "up")], env=environment | {"PATH": path}, capture_output=True, text=True
    )
    assert up.returncode == NOT_HERE, up.stderr
    assert "missing: slurmctld" in up.stderr
    assert "SLURM_SANDBOX_INSTALL=1" in up.stderr
    assert not (tmp_path / "installed").exists()
