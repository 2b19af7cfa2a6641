"""One volume in one job, in slabs and over two nodes of a real Slurm: the same bytes."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.slurm.faults import BLOCKS, EDGE, Scene, new_scene, written
from tests.slurm.sandbox import Sandbox

pytestmark = pytest.mark.slow

GPU: dict[str, Any] = {"slurm_partition": "gpu", "gpu": 1, "mem_mb": 4000, "runtime": None}
SLABS = ["0-0-0", "10-0-0", "20-0-0"]


def infer(scene: Scene, volume: str) -> str:
    """Infer a volume; returns what Snakemake says."""
    run = scene.project.snakemake("--printshellcmds", *scene.targets(volume))
    assert run.returncode == 0, run.stdout
    return run.stdout


def test_in_one_job_in_slabs_and_over_nodes_a_volume_has_the_same_bytes(
    slurm: Sandbox, tmp_path: Path
) -> None:
    scene = new_scene(tmp_path / "project", slurm, "whole", "sliced", "spread", **GPU)
    infer(scene, "whole")
    scene.spread("slabs", slab=[10, EDGE, EDGE])
    infer(scene, "sliced")
    scene.spread("nodes")
    scene.profile({**GPU, "nodes": 2, "gpu": 2})
    told = infer(scene, "spread")
    assert "--nodes 2 --launcher srun" in told
    assert "2 of 2 workers on 2 nodes" in scene.log("spread")
    undisturbed = written(scene.project.folder / "undisturbed.ome.zarr")
    for volume in scene.volumes:
        assert written(scene.store(volume)) == undisturbed, volume

    jobs = {row["Comment"]: row for row in slurm.accounted(scene.project.folder)}
    assert {row["State"] for row in jobs.values()} == {"COMPLETED"}
    slabs = {name.rpartition("_")[2]: row for name, row in jobs.items() if "infer_slab" in name}
    assert sorted(slabs) == sorted(SLABS), "named by their first voxel"
    for row in slabs.values():
        assert row["Partition"] == "gpu"
        assert re.findall(r"(?:node|gres/gpu)=(\d+)", row["ReqTRES"]) == ["1", "1"]
    (published,) = (row for name, row in jobs.items() if re.match("rule_infer_wild.*sliced", name))
    assert published["TimelimitRaw"] == "20"
    assert f"infer: resumed {BLOCKS}, computed 0" in scene.log("sliced"), "the last job is short"
    (both,) = (row for name, row in jobs.items() if "spread" in name)
    assert "node=2" in both["ReqTRES"]
