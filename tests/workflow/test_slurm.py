"""The slurm profile on a real Slurm: UNET_TEST_SLURM="account cpu-partition gpu-partition"."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.workflow.conftest import REPOSITORY, Project, environment, rows

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("sbatch") and os.environ.get("UNET_TEST_SLURM")),
        reason="no sbatch, or UNET_TEST_SLURM names no account and partitions",
    ),
]


def test_the_profile_runs_every_stage_and_only_two_ask_for_gpus(
    fresh: Callable[[], Project],
) -> None:
    account, cpu, gpu = os.environ["UNET_TEST_SLURM"].split()
    project = fresh()
    project.sheet(rows()[:1])
    profile = (REPOSITORY / "profiles/slurm/config.yaml").read_text()
    profile = profile.replace("slurm_account: CHANGE", f"slurm_account: {account}")
    profile = profile.replace("slurm_partition: CHANGE", f"slurm_partition: {cpu}", 1)
    profile = profile.replace("slurm_partition: CHANGE", f"slurm_partition: {gpu}")
    profile += "\nslurm-init-seconds-before-status-checks: 2\n"
    project.write("slurm/config.yaml", profile.replace("latency-wait: 60", "latency-wait: 5"))
    run = subprocess.run(
        [
            *(sys.executable, "-m", "snakemake", "--profile", "slurm", "--printshellcmds"),
            *("--snakefile", str(REPOSITORY / "workflow/Snakefile")),
            *("--config", "models=[one.yaml]", "augment={patch: [1, 188, 188]}"),
        ],
        cwd=project.folder,
        env=environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert run.returncode == 0, run.stdout
    assert (project.folder / "results/report/index.html").is_file()
    assert run.stdout.count("--gpus 1 ") == 2
