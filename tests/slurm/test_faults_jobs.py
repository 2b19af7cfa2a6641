"""Jobs that Slurm ends: by hand, at a limit, for another job. Each goes on to the same bytes."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.slurm.faults import Scene, new_scene
from tests.slurm.sandbox import PATIENCE_S, Sandbox

pytestmark = pytest.mark.slow


def stands_still_until_its_time_is_up(scene: Scene, volume: str) -> int:
    """A stage that gets no further before the time limit; Slurm's signals wake it.

    Returns its job.
    """
    scene.hold(volume)
    job = scene.job(volume)
    scene.slurm.run("scontrol", "update", f"jobid={job}", "EndTime=now+60")
    warned = "SIGUSR1: ending after what is under way"
    scene.slurm.until(lambda: warned in scene.log(volume), "Slurm's warning")
    return job


GREEDY = """
case $* in *volumes/hungry/*)
    python -c 'import time; taken = b"x" * 800_000_000; time.sleep(10)' &
esac
exec {unet_core} "$@"
"""
"""Another process takes memory that the job was given for the stage."""


def test_ended_by_slurm_a_job_is_submitted_again_and_goes_on(
    slurm: Sandbox, tmp_path: Path
) -> None:
    scene = new_scene(
        tmp_path / "project",
        slurm,
        *("cancelled", "long", "hungry", "preempted"),
        slurm_partition="'gpu' if wildcards.volume == 'preempted' else 'cpu'",
        mem_mb="1000 * attempt if wildcards.volume == 'hungry' else 2500",
        runtime="10 * attempt",
        slurm_extra="--signal=USR1@50",
    )
    scene.stand_in(GREEDY)
    with scene.project.started(*scene.targets()) as snakemake, ThreadPoolExecutor() as beside:
        late = beside.submit(stands_still_until_its_time_is_up, scene, "long")
        scene.hold("cancelled", "preempted")
        cancelled, preempted = map(scene.job, ("cancelled", "preempted"))
        slurm.run("scancel", str(cancelled))
        slurm.submit("sleep 1", "-p", "urgent", "-N2", "--exclusive")
        assert snakemake.wait(PATIENCE_S) == 0, scene.project.said
    said = scene.project.said
    assert f"SLURM-job '{cancelled}' failed, SLURM status is: 'CANCELLED'" in said
    assert scene.resumed("cancelled") >= 2
    assert f"SLURM-job '{late.result()}' failed" in said
    assert "runtime=20" in said
    assert "returned non-zero exit status 143" in scene.job_log("long", late.result())
    assert scene.resumed("long") >= 2
    assert f"SLURM-job '{preempted}' failed" not in said
    assert int(slurm.details(preempted)["Restarts"]) == 1
    assert scene.resumed("preempted") >= 2
    assert any("exceeded memory limit" in log for log in scene.job_logs("hungry"))
    assert "mem_mb=1000," in said
    assert "mem_mb=2000," in said
    scene.check()
