"""The cluster that the tests of this folder run on."""

from tests.slurm.sandbox import Sandbox


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
