"""Jobs over two nodes that Slurm ends, at a limit or for another job: the same bytes."""

import signal
from dataclasses import replace
from pathlib import Path

import pytest

from tests.slurm.faults import MODEL, Scene, new_scene
from tests.slurm.processes import go_on, has_got, stop, workers_of
from tests.slurm.sandbox import PATIENCE_S, Sandbox

pytestmark = pytest.mark.slow

HEAVY = replace(MODEL, width=48)
"""Blocks of it take so long that most are left when the driver is told."""


def stands_still_until_its_steps_are_warned(scene: Scene, volume: str) -> int:
    """Workers that get no further before Slurm warns them; their driver is not stopped, nor warned.

    Returns their job.
    """
    scene.slurm.until(lambda: len(scene.blocks(volume)) >= 2, "two blocks")
    job = scene.job(volume)
    workers = workers_of(job)
    stop(workers)
    scene.slurm.run("scontrol", "update", f"jobid={job}", "EndTime=now+60")
    scene.slurm.until(lambda: any(has_got(each, signal.SIGUSR1) for each in workers), "a warning")
    go_on(workers)
    return job


def test_a_job_over_nodes_that_slurm_ends_has_saved_its_blocks_and_goes_on(
    slurm: Sandbox, tmp_path: Path
) -> None:
    scene = new_scene(
        tmp_path / "project",
        slurm,
        *("long", "preempted"),
        model=HEAVY,
        slurm_partition="'gpu' if wildcards.volume == 'preempted' else 'cpu'",
        nodes=2,
        mem_mb=4000,
        runtime="10 * attempt",
        slurm_extra="--signal=USR1@50",
    )
    scene.spread("nodes")
    with scene.project.started(*scene.targets()) as snakemake:
        late = stands_still_until_its_steps_are_warned(scene, "long")
        warned = "SIGUSR1: ending after what is under way"
        slurm.until(lambda: warned in scene.log("long"), "the driver to be told")
        scene.hold("preempted")
        preempted = scene.job("preempted")
        slurm.submit("sleep 1", "-p", "urgent", "-N2", "--exclusive")
        assert snakemake.wait(PATIENCE_S) == 0, scene.project.said
    said = scene.project.said
    assert f"SLURM-job '{late}' failed" in said
    assert "returned non-zero exit status 143" in scene.job_log("long", late)
    assert scene.resumed("long") >= 2
    assert f"SLURM-job '{preempted}' failed" not in said
    assert int(slurm.details(preempted)["Restarts"]) == 1
    assert scene.resumed("preempted") >= 2
    for volume in scene.volumes:
        assert "workers on 2 nodes" in scene.log(volume)
    assert not workers_of(late) | workers_of(preempted)
    scene.check()
