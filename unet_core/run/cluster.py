"""The dask cluster of one job: a worker per allotted GPU, else per thread, all on this machine."""

import ctypes
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing import resource_tracker
from typing import Any

import dask
import psutil
from distributed import (
    Client,
    LocalCluster,
    Nanny,
    Scheduler,
    Security,
    SpecCluster,
    Worker,
    WorkerPlugin,
)
from distributed.client import AllExit
from distributed.core import Status
from distributed.scheduler import DEFAULT_EXTENSIONS
from distributed.spans import SpansSchedulerExtension

from unet_core.config import Resources
from unet_core.errors import BlockError
from unet_core.run.steps import ENDS

log = logging.getLogger(__name__)

SLOTS = 3
"""Threads of a worker: one block is read and one written while one is computed."""

FULL_SHARE = 1.0
"""Of the memory that a worker was given, and plans count on; with more it is ended."""

SETTINGS: dict[str, Any] = {
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    # Plans fill a worker's share, so that only more is too much.
    "distributed.worker.memory.terminate": FULL_SHARE,
    "distributed.worker.profile.enabled": False,
    # The dealer decides who does what again, and whether a silent worker is dead: see `dispatch`.
    "distributed.scheduler.allowed-failures": 0,
    "distributed.scheduler.worker-ttl": None,
    "distributed.scheduler.work-stealing": False,
    "distributed.scheduler.active-memory-manager.start": False,
    # Every 20 ms by default, which took 3 % of a core.
    "distributed.admin.tick.interval": "1 s",
    "distributed.admin.log-length": 100,
    # Messages that are kept, with what they carried.
    "distributed.admin.low-level-log-length": 10,
    "distributed.admin.system-monitor.log-length": 100,
    "distributed.admin.log-format": "%(levelname)s %(name)s %(message)s",
    # Every thread's own heap would keep the maps of a pass. Dask's setting, that every freed map is
    # given back at once, costs a third of the time; who computes says what is kept.
    "distributed.nanny.pre-spawn-environ": {"MALLOC_ARENA_MAX": 1},
}


def known_workers(scheduler: Scheduler) -> list[Any]:
    """What a scheduler in another thread knows of its workers, as of one moment.

    Its dictionary is sorted, in Python: one that comes or goes would end a loop over it.
    """
    return list(dict.values(scheduler.workers))


class Workers:
    """The workers there are, by names that are never used again, and their processes."""

    notice_s = 0.0
    """Until it is known here that a process elsewhere has ended, or that none comes any more."""

    def __init__(self, client: Client, scheduler: Scheduler, *, here: bool) -> None:
        self.client = client
        self.here = here
        """The only worker is a thread of this process."""
        self._scheduler = scheduler
        self._processes: dict[str, psutil.Process] = {}

    def present(self) -> dict[str, str]:
        """Addresses of the workers that the scheduler knows now."""
        found = {}
        for worker in known_workers(self._scheduler):
            if worker.status == Status.running:
                found[worker.server_id] = worker.address
                self._meet(worker.server_id, worker.pid)
        return found

    def _meet(self, name: str, pid: int) -> None:
        if name not in self._processes and not self.here:
            try:
                self._processes[name] = psutil.Process(pid)
            except psutil.NoSuchProcess:
                return

    def kill(self, name: str) -> None:
        """Send SIGKILL to the process of a worker; its nanny makes another."""
        if (process := self._processes.get(name)) is not None:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                return

    def is_gone(self, name: str) -> bool:
        """Has the process of a worker ended, so that it writes nothing any more?"""
        process = self._processes.get(name)
        return process is None or not process.is_running()

    def cpu_s(self, name: str) -> float:
        """Seconds of CPU that the process of a worker has used."""
        try:
            times = self._processes.get(name, psutil.Process()).cpu_times()
        except psutil.NoSuchProcess:
            return 0.0
        return float(times.user + times.system)


class _EndsWithDriver(WorkerPlugin):  # type: ignore[misc]
    """The kernel ends a worker whose driver is gone.

    A worker watches its parent itself, but not while it is stopped or deep in a library.
    """

    idempotent = True

    def setup(self, worker: Worker) -> None:
        if (prctl := getattr(ctypes.CDLL(None), "prctl", None)) is not None:  # Linux
            prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


_PR_SET_PDEATHSIG = 1


class _Spans(SpansSchedulerExtension):  # type: ignore[misc]
    """Keeps no note of every task that ever was: 3 MB for 10^4 blocks."""

    def observe_tasks(self, tss: Any, code: Any, span_metadata: Any) -> Any:
        return super().observe_tasks(tss, code, {})


_EXTENSIONS = {**DEFAULT_EXTENSIONS, "spans": _Spans}


def keep_quiet() -> None:
    """Of dask's own messages, keep what nobody else tells."""
    for name in ("distributed", "distributed.client", "tornado", "tornado.application"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    """Not what dask leaves behind where a worker dies between its result and the fetching of it."""
    return record.exc_info is None or not isinstance(record.exc_info[1], AllExit)


class _Nanny(Nanny):  # type: ignore[misc]
    """Starts its process again also where the first one ends before it is ready."""

    async def instantiate(self) -> Status:
        status = await super().instantiate()
        for _ in range(_STARTS - 1):
            if status == Status.running or self.status != Status.init:
                break
            status = await super().instantiate()
        return status


_STARTS = 5
"""Of a process that ends before it is ready."""


@contextmanager
def open_workers(
    resources: Resources, *, workers: int, dashboard: bool = True
) -> Iterator[Workers]:
    """Start `workers` processes on the loopback interface; one worker stays in this process.

    Threads and memory of `resources` are shared out evenly; with GPUs, worker i sees the i-th of
    the devices that this job was given and no other. Between processes everything is encrypted
    and both sides show a certificate made for this job: a port on the loopback interface is open
    to every user of the machine. So is the dashboard, which shows names of blocks and takes no
    orders.
    """
    keep_quiet()
    environment = [_environment(resources, workers, number) for number in range(workers)]
    with dask.config.set(SETTINGS), ExitStack() as here:
        if workers == 1:
            here.enter_context(set_environment(environment[0]))
            cluster = LocalCluster(
                n_workers=1,
                processes=False,
                threads_per_worker=SLOTS,
                memory_limit=0,
                dashboard_address=_LOOPBACK["dashboard_address"],
                scheduler_kwargs={"dashboard": dashboard, "extensions": _EXTENSIONS},
                silence_logs=False,
            )
        else:
            try:
                with unseen_signals():
                    cluster = _processes(resources, environment, dashboard)
            except RuntimeError as error:
                raise BlockError(
                    f"a worker process ended {_STARTS} times before it was ready ({error}); look "
                    "at what ends it (memory, limits of the machine) and run the same command again"
                ) from error
        with cluster, Client(cluster) as client:
            # Where one worker is in this process, dask's own link names another interface.
            port = cluster.scheduler_info["services"].get("dashboard")
            seen = f", dashboard at http://127.0.0.1:{port}/status" if dashboard else ""
            log.info("%d worker(s)%s", workers, seen)
            yield Workers(client, cluster.scheduler, here=workers == 1)


@contextmanager
def set_environment(variables: dict[str, str]) -> Iterator[None]:
    """These variables in this process, and after it what was there before.

    Workers that are opened later are pinned to the devices of the job, not to that of this one.
    """
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


_LOOPBACK = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}


def _processes(
    resources: Resources, environment: list[dict[str, str]], dashboard: bool
) -> SpecCluster:
    share = resources.share_mb(len(environment))
    limit = 0 if share is None else max(1, int(share * 1e6))  # 0: none
    between = {"security": Security.temporary(), "protocol": "tls://"}
    spec = {
        number: {
            "cls": _Nanny,
            "options": {
                "nthreads": SLOTS,
                "memory_limit": limit,
                "env": variables,
                "host": "127.0.0.1",
                "dashboard_address": None,
                "silence_logs": logging.CRITICAL,
                # Not registered later: that asks every worker, and fails where one just died.
                "plugins": (_EndsWithDriver(),),
                **between,
            },
        }
        for number, variables in enumerate(environment)
    }
    return SpecCluster(
        workers=spec,
        silence_logs=False,
        security=between["security"],
        scheduler={
            "cls": Scheduler,
            "options": {**_LOOPBACK, "dashboard": dashboard, "extensions": _EXTENSIONS, **between},
        },
    )


@contextmanager
def unseen_signals() -> Iterator[None]:
    """Threads and processes begun within, and those that they begin, see no signal of `ENDS`.

    A scheduler that ends the job's whole process group, or Ctrl-C, must not take the blocks with
    it that this process is waiting to finish. What is sent to this process meanwhile is delivered
    after.
    """
    resource_tracker.ensure_running()  # begun within, it would undo the mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _environment(resources: Resources, workers: int, number: int) -> dict[str, str]:
    threads = str(max(1, resources.threads // workers))
    variables = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), threads)
    if resources.gpus:
        allotted = os.environ.get("CUDA_VISIBLE_DEVICES")
        devices = allotted.split(",") if allotted else [str(n) for n in range(resources.gpus)]
        variables["CUDA_VISIBLE_DEVICES"] = devices[number % len(devices)]
    return variables
