"""Jobs that are refused, Snakemake that is killed, files that appear late, no accounting."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.slurm.faults import BLOCKS, Scene, new_scene
from tests.slurm.sandbox import PATIENCE_S, Sandbox, sandbox

pytestmark = pytest.mark.slow


def kill(scene: Scene, snakemake: "subprocess.Popen[str]") -> None:
    os.killpg(snakemake.pid, signal.SIGKILL)
    snakemake.wait()
    scene.project.unlock()


def test_without_accounting_a_killed_snakemake_starts_again_while_its_jobs_run(
    tmp_path: Path,
) -> None:
    with sandbox(SLURM_SANDBOX_ACCOUNTING="0") as slurm:
        scene = new_scene(tmp_path / "project", slurm, "running", "cancelled")
        with scene.project.started(*scene.targets()) as snakemake:
            pids = scene.hold("running", "cancelled")
            first, cancelled = scene.job("running"), scene.job("cancelled")
            slurm.run("scancel", str(cancelled))
            told = f"SLURM-job '{cancelled}' failed, SLURM status is: 'CANCELLED'"
            slurm.until(lambda: told in scene.project.said, "Snakemake to notice")
            kill(scene, snakemake)
        with scene.project.started(*scene.targets()) as snakemake:
            waits = "waiting: probabilities.ome.zarr is written by"
            slurm.until(lambda: waits in scene.log("running"), "the second job to wait")
            assert f"to end that one: scancel {first}" in scene.log("running")
            assert slurm.state(first) == "RUNNING"
            os.kill(pids["running"], signal.SIGCONT)
            assert snakemake.wait(PATIENCE_S) == 0, scene.project.said
        assert f"infer: resumed {BLOCKS}, computed 0" in scene.log("running")
        assert scene.resumed("cancelled") >= 2
        slurm.until(lambda: not slurm.squeue(), "the last job's end")
        scene.check()


LATE = """
{unet_core} "$@" || exit
[[ $* != *volumes/late/* ]] || mv results/volumes/late/least/probabilities.ome.zarr/zarr.json late
"""
"""The result is not seen at once, as on another client of a network file system."""


def test_a_late_file_and_a_full_queue_cost_no_block(slurm: Sandbox, tmp_path: Path) -> None:
    scene = new_scene(tmp_path / "project", slurm, "late", "first", "second")
    scene.stand_in(LATE)
    hidden, marker = scene.project.folder / "late", scene.store("late") / "zarr.json"
    user = slurm.run("id", "-un").strip()
    limit = ["sacctmgr", "-i", "modify", "user", user, "set"]
    slurm.run(*limit, "MaxSubmitJobs=1")
    try:
        scene.profile({}, latency_wait=1, retries=0)
        run = scene.project.snakemake(*scene.targets("first", "second"))
        assert run.returncode == 1, run.stdout
        assert "SLURM sbatch failed" in run.stdout
        assert "Job violates accounting/QOS policy" in run.stdout
        slurm.run(*limit, "MaxSubmitJobs=2")
        run = scene.project.snakemake(*scene.targets("late"))
        assert run.returncode == 1, run.stdout
        (log,) = scene.job_logs("late")
        assert "Missing files after 1 seconds" in log
        assert "--latency-wait" in log
        refused = [name for name in ("first", "second") if not scene.store(name).exists()]
        assert len(refused) == 1
        hidden.unlink()

        scene.profile({}, latency_wait=60, retries=2, jobs=2)
        with scene.project.started(*scene.targets()) as snakemake:
            slurm.until(hidden.exists, "the end of the stage")
            time.sleep(3)
            hidden.rename(marker)
            assert snakemake.wait(PATIENCE_S) == 0, scene.project.said
        assert "Error in rule" not in scene.project.said
        assert scene.resumed("late") == BLOCKS
        scene.check()
    finally:
        slurm.run(*limit, "MaxSubmitJobs=-1")
