"""Nodes that die or are cut off, and a controller that is away: the same bytes."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.slurm.faults import BLOCKS, new_scene
from tests.slurm.sandbox import PATIENCE_S, Sandbox

pytestmark = pytest.mark.slow


def end_controller(slurm: Sandbox) -> None:
    pid, _ = (slurm.folder / "pids/slurmctld").read_text().split()
    os.kill(int(pid), signal.SIGKILL)


def parents(pid: int) -> list[Path]:
    """A process, its shell and the Snakemake of its job."""
    line = [pid]
    while len(line) < 3:
        stat = Path(f"/proc/{line[-1]}/stat").read_text()
        line.append(int(stat.rpartition(")")[2].split()[1]))
    return [Path(f"/proc/{number}") for number in line]


def test_nodes_lost_and_cut_off_and_a_controller_away_cost_no_finished_block(
    slurm: Sandbox, tmp_path: Path
) -> None:
    scene = new_scene(
        tmp_path / "project",
        slurm,
        *("lost", "divided", "steady"),
        environment={"UNET_LOCK_LEASE_S": "10"},
        slurm_partition="'gpu' if wildcards.volume == 'divided' else 'cpu'",
        slurm_extra="--exclusive",  # or two are on the node that is lost
    )
    with scene.project.started(*scene.targets()) as snakemake:
        pids = scene.hold("lost", "divided", "steady")
        jobs = {volume: scene.job(volume) for volume in pids}
        nodes = {volume: slurm.details(job)["NodeList"] for volume, job in jobs.items()}
        assert len(set(nodes.values())) == 3
        above = parents(pids["divided"])
        end_controller(slurm)
        os.kill(pids["steady"], signal.SIGCONT)
        slurm.until(lambda: len(scene.blocks("steady")) == BLOCKS, "a job's end without controller")
        time.sleep(3)  # Snakemake asks in vain meanwhile
        slurm.repair()
        slurm.crash(nodes["lost"])
        slurm.crash(nodes["divided"], cut_off=True)
        assert snakemake.wait(PATIENCE_S) == 0, scene.project.said
        taken_over = scene.log("divided")
        resumed = scene.resumed("divided")
        # The node that was cut off goes on only now, with the job that is done elsewhere.
        os.kill(pids["divided"], signal.SIGCONT)
        slurm.until(lambda: not any(map(Path.exists, above)), "the end of the job that was cut off")
    assert "Error in rule" not in scene.project.said
    assert {int(slurm.details(jobs[name])["Restarts"]) for name in ("lost", "divided")} == {1}
    assert "taken over, its writer is gone" in taken_over
    assert 2 <= resumed < BLOCKS
    assert 2 <= scene.resumed("lost") < BLOCKS
    scene.check()
