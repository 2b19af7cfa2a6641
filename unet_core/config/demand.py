"""Memory and run time that a job asks for, and takes: of its work, its threads and its GPUs."""

from math import ceil

from unet_core.config.work import START_S, Work

LEAST_MB = 1000
"""Least that is asked for: Snakemake and a process with its libraries."""

MOST_MB = 64_000
"""Most that is asked for workers that fewer could do: a node's usual share."""

LEAST_MINUTES = 10

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


def workers_of(work: Work, threads: int, gpus: int) -> int:
    """Processes that share out the units."""
    return max(1, min(gpus or threads, work.units))


def used_mb(work: Work, *, threads: int, gpus: int = 0) -> float:
    """Memory (MB) of a job with all its processes, at its worst moment."""
    workers, each = workers_of(work, threads, gpus), work.need_mb - work.spare_mb
    return max(each if workers == 1 else work.driver_mb + workers * each, work.alone_mb)


def memory_mb(work: Work, *, threads: int, gpus: int = 0) -> int:
    """Memory (MB) to ask for: what is used, and what the stage wants to see for all its workers.

    Of more than MOST_MB, what fewer workers need.
    """
    wanted = workers_of(work, threads, gpus) * work.need_mb
    least = max(work.need_mb + work.driver_mb, work.alone_mb) + SNAKEMAKE_MB
    asked = max(wanted, used_mb(work, threads=threads, gpus=gpus) + SNAKEMAKE_MB)
    return max(LEAST_MB, 100 * ceil(min(asked, max(least, MOST_MB)) / 100))


def seconds(
    work: Work, stage: str, *, threads: int, gpus: int = 0, flops_per_s: float | None = None
) -> float:
    """Wall time (s) of a job; `flops_per_s`: of a thread or a GPU, where it is known better."""
    rates = GPU_FLOPS if gpus else CPU_FLOPS
    rate = flops_per_s or rates.get(stage, 1.0)
    workers = workers_of(work, threads, gpus)
    # Threads of one worker help passes alone; training on a GPU has one.
    passing = min(gpus, work.units) if gpus else threads
    starts = START_S * (1 + (workers > 1))
    return _WAIT_S + starts + work.seconds / workers + work.flops / (rate * max(1, passing))


def minutes(work: Work, stage: str, *, threads: int, gpus: int = 0) -> int:
    """Run time (minutes) to ask for."""
    expected = seconds(work, stage, threads=threads, gpus=gpus)
    return max(LEAST_MINUTES, ceil(MARGIN * expected / 60))
