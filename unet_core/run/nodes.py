"""The dask cluster of one job on several nodes: each worker is a step of the Slurm job.

The scheduler runs in this process, the driver. What goes wrong with one worker is no other's
business, and who comes late is used from then on.
"""

import logging
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol

import dask
import psutil
from distributed import Client, Scheduler, Security, SpecCluster
from distributed.core import Status

from unet_core.config import Resources
from unet_core.errors import BlockError, Interrupted, PlanError
from unet_core.run.cluster import (
    SETTINGS,
    SLOTS,
    Workers,
    keep_quiet,
    known_workers,
    unseen_signals,
)
from unet_core.run.srun import Steps
from unet_core.run.steps import asked_to_end
from unet_core.run.worker import CREDENTIALS, credentials

log = logging.getLogger(__name__)

_FIRST_S = 600.0
"""Without any worker for so long, none is coming."""

_OTHERS_S = 5.0
"""After the first one; who comes later joins the others at work."""


class Remote(Protocol):
    """Where workers run, by what they tell the scheduler: `name@job.step`."""

    @property
    def hopeless(self) -> bool:
        """Is none left, nor started again?"""
        ...

    def has_ended(self, name: str) -> bool:
        """Has Slurm ended where this worker ran?"""
        ...

    def kill(self, name: str) -> None:
        """Have Slurm end it."""
        ...


class RemoteWorkers(Workers):
    """Workers that Slurm has started, as steps of this job or as jobs."""

    # SlurmdTimeout is 300 s by default, and a node's steps are given another minute.
    notice_s = 600.0

    told_by_workers = True
    """SIGUSR1 to a worker asks the whole job to end: Slurm's `--signal` reaches steps alone."""

    def __init__(self, client: Client, cluster: SpecCluster, steps: Remote) -> None:
        super().__init__(client, cluster.scheduler, here=False)
        self._loop, self._steps = cluster.loop, steps
        self._told = False
        self._named: dict[str, str] = {}
        self._used: dict[str, float] = {}

    def present(self) -> dict[str, str]:
        """Addresses of the workers that the scheduler knows now and whose step runs.

        Raises
        ------
        BlockError
            If there is none, and none is started any more.
        """
        found = {}
        for worker in known_workers(self._scheduler):
            name, step = worker.server_id, f"{worker.name}@{worker.metrics.get('slurm', '')}"
            self._named[name] = step
            self._used[name] = float(worker.metrics.get("cpu_s", 0.0))
            if self.told_by_workers and worker.metrics.get("asked") and not self._told:
                self._told = True
                signal.raise_signal(signal.SIGUSR1)  # as if this process had got it
            if worker.status == Status.running and not self._steps.has_ended(step):
                found[name] = worker.address
        if not found and self._steps.hopeless:
            raise BlockError(
                "no worker is left, as all ended right after their start; what srun and the "
                "workers say is above; finished blocks are kept: run the same command again"
            )
        return found

    def kill(self, name: str) -> None:
        """Have Slurm send SIGKILL to a worker's step; another is started.

        One whose step has ended as far as Slurm can tell, as its node does not answer, is told to
        end itself.
        """
        if (step := self._named.get(name)) is None:
            return
        self._steps.kill(step)
        for worker in known_workers(self._scheduler):
            if worker.server_id == name:
                self._loop.add_callback(self._scheduler.close_worker, worker.address)

    def is_gone(self, name: str) -> bool:
        """Has the step of a worker ended, and is it not connected any more?

        Slurm ends the steps of a node that is down; a worker ends where it loses the connection.
        """
        connected = any(w.server_id == name for w in known_workers(self._scheduler))
        return not connected and self._steps.has_ended(self._named.get(name, ""))

    def cpu_s(self, name: str) -> float:
        """Seconds of CPU that a worker has used, as it told last."""
        return self._used.get(name, 0.0)


@contextmanager
def open_steps(resources: Resources, *, workers: int, dashboard: bool = True) -> Iterator[Workers]:
    """Start `workers` as steps of the Slurm job that this process is part of, over all its nodes.

    The scheduler listens on the cluster's network, of `resources.interface` or this node's name,
    and no other; each worker on its node's address there. All is encrypted, and both sides show a
    certificate made for this job, which the workers get in their environment. The dashboard is on
    the loopback interface of this node.

    Raises
    ------
    PlanError
        If this is no Slurm job, or the address of this node is not known.
    BlockError
        If no worker comes.
    """
    if shutil.which("srun") is None or "SLURM_JOB_ID" not in os.environ:
        raise PlanError(
            "--launcher srun starts workers as steps of a Slurm job, and this is none (no srun, or "
            "SLURM_JOB_ID is not set); submit it with sbatch, or use --launcher here"
        )
    keep_quiet()
    security, host = Security.temporary(), address_of(resources.interface)
    environment = _environment(resources, workers) | {CREDENTIALS: credentials(security)}
    with dask.config.set(SETTINGS), ExitStack() as opened:
        with unseen_signals():
            cluster = opened.enter_context(_cluster(host, security, dashboard=dashboard))
        client = opened.enter_context(Client(cluster))
        if dashboard:
            tell_dashboard(cluster)
        command = srun_command(resources, workers, cluster.scheduler_address)
        steps = opened.enter_context(Steps(command, environment, workers))
        opened.callback(_dismiss, cluster, steps)
        found = RemoteWorkers(client, cluster, steps)
        _await(found, steps, workers)
        log.info("%d of %d workers on %d nodes", len(found.present()), workers, resources.nodes)
        yield found


def srun_command(resources: Resources, workers: int, scheduler: str) -> list[str]:
    """What starts one of `workers`, but for its name: an equal share of a node."""
    each = -(-workers // resources.nodes)
    share_mb = int(resources.share_mb(each) or 0)
    return [
        *("srun", "--nodes=1", "--ntasks=1", "--exact", "--mpi=none", "--input=none"),
        *(f"--cpus-per-task={max(1, resources.threads // each)}", f"--mem={share_mb}"),
        *(["--gpus=1"] if resources.gpus else []),
        *(sys.executable, "-m", "unet_core.run.worker", scheduler, "--nthreads", str(SLOTS)),
        *("--memory-limit", f"{share_mb}MB", "--name"),
    ]


def address_of(interface: str | None) -> str:
    """IPv4 address of this node on a network; None: that of its name.

    Raises
    ------
    PlanError
        If there is none.
    """
    name = socket.gethostname()
    try:
        if interface is None:
            return socket.gethostbyname(name)
        found = psutil.net_if_addrs()[interface]
        return next(str(each.address) for each in found if each.family == socket.AF_INET)
    except (OSError, KeyError, StopIteration):
        there = ", ".join(psutil.net_if_addrs())
        raise PlanError(
            f"no IPv4 address of {interface or name} is known on {name}, where workers of other "
            f"nodes could reach this one; set --interface to one of: {there}"
        ) from None


def _cluster(host: str, security: Security, *, dashboard: bool) -> SpecCluster:
    between = {"security": security, "protocol": "tls://"}
    at = {"host": host, "dashboard_address": "127.0.0.1:0", "dashboard": dashboard}
    return SpecCluster(
        workers={},
        silence_logs=False,
        security=security,
        scheduler={"cls": Scheduler, "options": {**at, **between}},
    )


def tell_dashboard(cluster: SpecCluster) -> None:
    """Where it is, and how to see it from another machine."""
    port, node = cluster.scheduler_info["services"].get("dashboard"), socket.gethostname()
    log.info(
        "dashboard at http://127.0.0.1:%s/status on %s; from elsewhere: ssh -L %s:127.0.0.1:%s %s",
        *(port, node, port, port, node),
    )


def _environment(resources: Resources, workers: int) -> dict[str, str]:
    """Of the steps: what srun is told by arguments must not be told otherwise by the job."""
    told = {n: v for n, v in os.environ.items() if not n.startswith("SLURM_") or n in _OF_JOB}
    return told | environment_of_worker(resources, workers)


def environment_of_worker(resources: Resources, workers: int) -> dict[str, str]:
    """Threads of the libraries, and how memory is allocated."""
    threads = str(max(1, resources.threads // -(-workers // resources.nodes)))
    return {
        **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), threads),
        **{name: str(v) for name, v in SETTINGS["distributed.nanny.pre-spawn-environ"].items()},
    }


_OF_JOB = {"SLURM_JOB_ID", "SLURM_JOBID", "SLURM_CONF", "SLURM_CLUSTERS"}


def _await(found: RemoteWorkers, steps: Steps, workers: int) -> None:
    """Return when all are there, or the first one for a while."""
    began, first = time.monotonic(), None
    with asked_to_end() as ending:
        while (there := len(found.present())) < workers:
            now = time.monotonic()
            first = first or (now if there else None)
            if ending():
                raise Interrupted(
                    "asked to end before all workers came; finished blocks are kept, and the same "
                    "command goes on from there"
                )
            if first and now - first > _OTHERS_S:
                break
            if first is None and now - began > _FIRST_S:
                raise BlockError(
                    f"no worker came within {_FIRST_S:.0f} s; what srun and the workers say is "
                    "above"
                )
            time.sleep(0.05)
    if ending():  # whoever waits for it around this has not seen it
        signal.raise_signal(signal.SIGTERM)


def _dismiss(cluster: SpecCluster, steps: Steps) -> None:
    """Tell all workers to end; they have nothing under way."""
    steps.start_none()
    for worker in known_workers(cluster.scheduler):
        cluster.loop.add_callback(cluster.scheduler.close_worker, worker.address)
