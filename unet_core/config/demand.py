"""Memory and run time that a job asks for, and takes: of its work, its threads and its GPUs."""

from math import ceil

from unet_core.config.resources import DEALER_MB, DRIVER_MB
from unet_core.config.work import START_S, Work

LEAST_MB = 500
"""Least that is asked for: Snakemake and a process with some libraries."""

MOST_MB = 64_000
"""Most that is asked for workers that fewer threads could do: a node's usual share."""

LEAST_MINUTES = 10

MOST_JOB_MB = 4_000_000
"""Memory that no node of a usual cluster has."""

MOST_JOB_MINUTES = 30 * 24 * 60
"""Run time (30 days) that no partition of a usual cluster gives."""

SNAKEMAKE_MB = 300
"""A job on a cluster is Snakemake again, which runs the command."""

MARGIN = 1.5
"""Minutes asked for over those expected: cores differ, nodes are shared."""

CPU_FLOPS = {"train": 1.1e11, "infer": 1.6e11}
"""Operations per second and thread: 117 and 150 to 200 GFLOP/s were seen, in bfloat16 on a core
with AVX-512. In float32 or on older cores a third."""

GPU_FLOPS = {"train": 1.0e13, "infer": 2.0e13}
"""Operations per second and GPU, of any since 2017; not measured."""

_WAIT_S = 3.0
"""Wall time of a job beside its work: Python, Snakemake, the shell."""


def workers_of(work: Work, threads: int, gpus: int = 0) -> int:
    """Processes of a node that share out the units: one for each of its GPUs, else for each thread.

    Of threads only as many as MOST_MB holds; a GPU that was asked for is always fed.
    """
    if gpus:
        return max(1, min(gpus, work.units))
    held = MOST_MB - SNAKEMAKE_MB - work.driver_mb
    fitting = min(
        (MOST_MB - DEALER_MB) // work.need_mb, held // max(1, work.need_mb - work.spare_mb)
    )
    return max(1, min(threads, work.units, int(fitting)))


def used_mb(work: Work, *, threads: int, gpus: int = 0) -> float:
    """Memory (MB) of a job with all its processes on a node, at its worst moment."""
    workers, each = workers_of(work, threads, gpus), work.need_mb - work.spare_mb
    return max(each if workers == 1 else work.driver_mb + workers * each, work.alone_mb)


def memory_mb(work: Work, *, threads: int, gpus: int = 0) -> int:
    """Memory (MB) of a node to ask for: what is used, and what the stage wants to see for workers.

    `threads`, `gpus`: of that node.
    """
    workers = workers_of(work, threads, gpus)
    wanted = ceil(workers * work.need_mb) + DEALER_MB * (workers > 1)
    asked = max(wanted, used_mb(work, threads=threads, gpus=gpus) + SNAKEMAKE_MB)
    return max(LEAST_MB, 100 * ceil(asked / 100))


def driver_mb(work: Work) -> int:
    """Memory (MB) to ask for the process that deals units to workers that are jobs of their own."""
    used = max(work.driver_mb, work.alone_mb) + SNAKEMAKE_MB
    return max(DRIVER_MB, 100 * ceil(used / 100))


def seconds(
    work: Work,
    stage: str,
    *,
    threads: int,
    gpus: int = 0,
    nodes: int = 1,
    flops_per_s: float | None = None,
) -> float:
    """Wall time (s) of a job.

    Parameters
    ----------
    threads, gpus
        Threads of each node; GPUs of all nodes.
    flops_per_s
        Of a thread or a GPU, where it is known better.
    """
    rates = GPU_FLOPS if gpus else CPU_FLOPS
    rate = flops_per_s or rates.get(stage, 1.0)
    workers = workers_of(work, threads, gpus)
    if not gpus:
        workers = min(nodes * workers, work.units)
    # Threads of one worker help passes alone; a GPU without a unit does nothing.
    passing = workers if gpus else threads * nodes
    starts = START_S * (1 + (workers > 1))
    return _WAIT_S + starts + work.seconds / workers + work.flops / (rate * passing)


def minutes(work: Work, stage: str, *, threads: int, gpus: int = 0, nodes: int = 1) -> int:
    """Run time (minutes) to ask for."""
    expected = seconds(work, stage, threads=threads, gpus=gpus, nodes=nodes)
    return max(LEAST_MINUTES, ceil(MARGIN * expected / 60))
