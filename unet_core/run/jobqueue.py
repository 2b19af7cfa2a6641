"""The dask cluster of one job whose workers are Slurm jobs of their own, by dask-jobqueue.

For where an allocation of several nodes never starts. The workers come as the queue lets them, and
those that are lost are submitted again.
"""

import logging
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import dask
from distributed import Client, Security, SpecCluster

from unet_core.config import Resources
from unet_core.errors import PlanError
from unet_core.run.cluster import (
    SETTINGS,
    SLOTS,
    Workers,
    keep_quiet,
    set_environment,
    unseen_signals,
)
from unet_core.run.nodes import (
    RemoteWorkers,
    address_of,
    environment_of_worker,
    tell_dashboard,
)
from unet_core.run.srun import tell_slurm
from unet_core.run.worker import CREDENTIALS, credentials

log = logging.getLogger(__name__)

_ASKED_EVERY_S, _ANSWERS_WITHIN_S = 10.0, 60.0
"""Of Slurm's controller, for all jobs at once."""

_REPLACED_WITHIN_S = 60.0

_LEAVES_BEFORE_S = 60
"""The end of its job's time limit, a worker ends by itself."""


class _JobWorkers(RemoteWorkers):
    # A queue may let nobody in for days.
    notice_s = 7 * 24 * 3600.0
    # Each has a time limit of its own.
    told_by_workers = False


class _Jobs:
    """The jobs of workers; a thread asks for them as long as it is open."""

    def __init__(self, cluster: SpecCluster) -> None:
        self._cluster = cluster
        self._answer: tuple[float, frozenset[str]] = (0.0, frozenset())
        """When Slurm was asked last that has answered, and the jobs that had not ended."""
        self._met: dict[str, float] = {}
        """Since when a job is known here."""
        self._some, self._closed = time.monotonic(), threading.Event()
        self._asks = threading.Thread(target=self._ask, name="squeue", daemon=True)

    def __enter__(self) -> "_Jobs":
        self._asks.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()

    @property
    def hopeless(self) -> bool:
        """Have all jobs ended, and was none submitted instead for a while?

        dask-jobqueue does so for workers that were there, and not for those that never came.
        """
        jobs = [worker.job_id for worker in list(self._cluster.workers.values())]
        if not jobs or not all(job and self._ended(job) for job in jobs):
            self._some = time.monotonic()
        return time.monotonic() - self._some > _REPLACED_WITHIN_S

    def has_ended(self, name: str) -> bool:
        """Does Slurm know this worker's job no more, or as ended?"""
        return self._ended(_job_of(name))

    def _ended(self, job: str) -> bool:
        at, alive = self._answer
        return self._met.setdefault(job, time.monotonic()) < at and job not in alive

    def _ask(self) -> None:
        while not self._closed.wait(_ASKED_EVERY_S):
            at = time.monotonic()
            if (alive := _alive()) is not None:
                self._answer = at, alive

    def kill(self, name: str) -> None:
        """SIGKILL to a worker's job; another is submitted."""
        tell_slurm(["scancel", "--signal=KILL", "--full", _job_of(name)])


_ALIVE = {
    "PENDING",
    "CONFIGURING",
    "RUNNING",
    "COMPLETING",
    "STAGE_OUT",
    "SUSPENDED",
    "STOPPED",
    "SIGNALING",
}


def _alive() -> frozenset[str] | None:
    """This user's jobs that have not ended; None where Slurm does not answer."""
    command = ["squeue", "--me", "--noheader", "--states=all", "--format=%A %T"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=_ANSWERS_WITHIN_S)
    except subprocess.TimeoutExpired:
        return None
    if told.returncode:
        return None
    lines = [line.split() for line in told.stdout.splitlines() if line.strip()]
    return frozenset(job for job, state in lines if state in _ALIVE)


def _job_of(name: str) -> str:
    return name.split("@")[-1].split(".")[0]


@contextmanager
def open_jobs(resources: Resources, *, workers: int, dashboard: bool = True) -> Iterator[Workers]:
    """Submit a job for each of `workers`, with an equal share of what one of `nodes` is.

    Partition, account, time limit and other options of the jobs are those of dask-jobqueue's own
    settings (`jobqueue.slurm.queue` and others in ~/.config/dask/jobqueue.yaml, or the environment
    variable DASK_JOBQUEUE__SLURM__QUEUE). Returns at once: work begins when the first job does.

    Raises
    ------
    PlanError
        If dask-jobqueue or Slurm is not there.
    """
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError as error:
        raise PlanError(
            f"--launcher jobqueue needs dask-jobqueue ({error}): pip install -e '.[jobqueue]'; or "
            "use --launcher srun within a job of several nodes"
        ) from error
    if shutil.which("sbatch") is None:
        raise PlanError("--launcher jobqueue submits workers with sbatch, which is not on the PATH")
    keep_quiet()
    security, environment = Security.temporary(), environment_of_worker(resources, workers)
    environment[CREDENTIALS] = credentials(security)
    # That of dask's own worker; ours has one already.
    configured = {**SETTINGS, "jobqueue.slurm.death-timeout": None}
    with dask.config.set(configured), ExitStack() as opened:
        # sbatch hands its environment on; key and certificate are in no file of ours.
        opened.enter_context(set_environment(environment))
        with unseen_signals():
            cluster = opened.enter_context(_cluster(SLURMCluster, resources, workers, security))
        client = opened.enter_context(Client(cluster))
        if dashboard:
            tell_dashboard(cluster)
        cluster.adapt(minimum_jobs=workers, maximum_jobs=workers)
        log.info("%d worker jobs submitted", workers)
        yield _JobWorkers(client, cluster, opened.enter_context(_Jobs(cluster)))


def _cluster(kind: Any, resources: Resources, workers: int, security: Security) -> SpecCluster:
    each = -(-workers // resources.nodes)
    share_mb = int(resources.share_mb(each) or 0)

    class SLURMCluster(kind):  # type: ignore[misc]
        def _get_worker_security(self, security: Security) -> None:
            """None of the files that dask-jobqueue writes: workers have it in their environment."""

    options = {"host": address_of(resources.interface), "dashboard_address": "127.0.0.1:0"}
    return SLURMCluster(
        cores=SLOTS,
        processes=1,
        memory=f"{share_mb}MB",
        job_cpu=max(1, resources.threads // each),
        job_mem=f"{share_mb}M",
        worker_command="unet_core.run.worker",
        worker_extra_args=[
            "--lifetime",
            f"{_seconds(str(_configured('walltime'))) - _LEAVES_BEFORE_S}s",
        ],
        job_extra_directives=[
            *(_configured("job-extra-directives") or []),
            *(["--gpus=1"] if resources.gpus else []),
            *("--no-requeue", "--export=ALL"),
        ],
        log_directory=_configured("log-directory") or "logs/workers",
        security=security,
        protocol="tls://",
        scheduler_options=options,
        silence_logs=False,
    )


def _configured(name: str) -> Any:
    return dask.config.get(f"jobqueue.slurm.{name}")


def _seconds(walltime: str) -> int:
    """Of a time limit in Slurm's notation: minutes, h:m:s, d-h:m:s ..."""
    days, dash, rest = walltime.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if dash:
        hours, minutes, seconds = [*parts, 0, 0][:3]
    elif len(parts) == 3:
        hours, minutes, seconds = parts
    else:
        hours, (minutes, seconds) = 0, [*parts, 0][:2]
    return int(days or 0) * 86400 + hours * 3600 + minutes * 60 + seconds
