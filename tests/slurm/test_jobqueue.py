"""Workers that are jobs of their own on a real Slurm."""

from pathlib import Path

import pytest

from tests.run.faulty import check_same, kept, make
from tests.slurm.sandbox import Sandbox
from tests.slurm.test_nodes import script_of, writers
from unet_core.config import Resources

pytestmark = pytest.mark.slow
pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is an extra: .[jobqueue]")

RESOURCES = {"threads": 1, "gpus": 2, "nodes": 2, "memory_mb": 2000, "launcher": "jobqueue"}


def test_a_worker_job_that_is_cancelled_is_replaced_and_none_is_left(
    slurm: Sandbox, tmp_path: Path
) -> None:
    store = tmp_path / "job/x"
    store.parent.mkdir()
    command = script_of(store, resources=RESOURCES, pause=3)
    where = "export DASK_JOBQUEUE__SLURM__QUEUE=gpu DASK_JOBQUEUE__SLURM__WALLTIME=10"
    where += f" DASK_JOBQUEUE__SLURM__LOG_DIRECTORY={tmp_path}"
    job = slurm.submit(f"{where}; {command}", "-p", "cpu", "--mem=1500")
    slurm.until(lambda: len(kept(store)) > 3 and len(writers(store)) == 2, "two workers")
    workers = [each.job for each in slurm.squeue() if each.job != job]
    assert len(workers) == 2
    assert all(each.partition == "gpu" for each in slurm.squeue() if each.job != job)
    slurm.run("scancel", str(workers[0]))
    assert slurm.wait(job) == "COMPLETED", slurm.output_of(job)
    slurm.until(lambda: not slurm.squeue(), "the end of all worker jobs")
    make(tmp_path / "x", Resources())
    check_same(store, tmp_path / "x")
    assert len(writers(store)) == 3
