"""A job that is cut off and works on, while its requeued twin waits for it; a silent sacct."""

import time
from pathlib import Path

import psutil
import pytest

from tests.slurm.faults import BLOCKS, new_scene
from tests.slurm.processes import go_on, stop
from tests.slurm.sandbox import PATIENCE_S, Sandbox

pytestmark = pytest.mark.slow

LEASE_S = 10


def test_a_twin_waits_as_long_as_the_job_that_was_cut_off_gives_signs_of_itself(
    slurm: Sandbox, tmp_path: Path
) -> None:
    lease = {"UNET_LOCK_LEASE_S": str(LEASE_S)}
    scene = new_scene(
        tmp_path / "project", slurm, "divided", environment=lease, slurm_partition="gpu"
    )
    scene.profile({"slurm_partition": "gpu"}, set_threads={"infer": 2})
    (scene.project.folder / "bin").mkdir()
    (scene.project.folder / "bin/sacct").write_text("#!/bin/sh\n")  # says nothing, of no job
    (scene.project.folder / "bin/sacct").chmod(0o755)
    with scene.project.started(*scene.targets()) as snakemake:
        slurm.until(lambda: len(scene.blocks("divided")) >= 2, "two blocks")
        first, job = scene.owner("divided"), scene.job("divided")
        driver = psutil.Process(int(first["pid"]))
        workers = [each.pid for each in driver.children(recursive=True)]
        stop(workers)  # its process goes on, and renews its lease
        slurm.crash(slurm.details(job)["NodeList"], cut_off=True)
        waits = "waiting: probabilities.ome.zarr is written by"
        slurm.until(lambda: waits in scene.log("divided"), "the twin to wait")
        assert int(slurm.details(job)["Restarts"]) == 1
        time.sleep(2 * LEASE_S)
        assert scene.owner("divided")["token"] == first["token"]
        assert len(scene.blocks("divided")) < BLOCKS
        go_on(workers)
        assert snakemake.wait(PATIENCE_S) == 0, scene.project.said
    assert "taken over" not in scene.log("divided")
    assert scene.resumed("divided") == BLOCKS, "the twin has found all done"
    assert "Error in rule" not in scene.project.said
    slurm.until(lambda: not driver.is_running(), "the end of the job that was cut off")
    scene.check()
