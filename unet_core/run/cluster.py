"""The dask cluster of one job: a worker per allotted GPU, else per thread, all on this machine."""

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import dask
from distributed import Client, LocalCluster, Nanny, Scheduler, SpecCluster

from unet_core.config import Resources

log = logging.getLogger(__name__)

_SETTINGS = {
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.scheduler.allowed-failures": 3,
    "distributed.admin.log-format": "%(levelname)s %(name)s %(message)s",
}


@contextmanager
def open_client(resources: Resources, *, workers: int) -> Iterator[Client]:
    """A client of `workers` processes on the loopback interface; one worker stays in this process.

    Threads and memory of `resources` are shared out evenly; with GPUs, worker i sees the i-th of
    the devices that this job was given and no other.
    """
    for name in ("distributed", "tornado"):
        logging.getLogger(name).setLevel(logging.ERROR)
    environment = [_environment(resources, workers, number) for number in range(workers)]
    with dask.config.set(_SETTINGS):
        if workers == 1:
            os.environ.update(environment[0])
            cluster = LocalCluster(
                n_workers=1,
                processes=False,
                threads_per_worker=1,
                memory_limit=0,
                dashboard_address=_LOOPBACK["dashboard_address"],
                silence_logs=logging.ERROR,
            )
        else:
            cluster = _processes(resources, environment)
        with cluster, Client(cluster) as client:
            if workers > 1:
                log.info("%d workers, dashboard at %s", workers, cluster.dashboard_link)
            yield client


_LOOPBACK = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}


def _processes(resources: Resources, environment: list[dict[str, str]]) -> SpecCluster:
    limit = resources.memory_mb * 10**6 // len(environment) if resources.memory_mb else 0
    spec = {
        number: {
            "cls": Nanny,
            "options": {
                "nthreads": 1,
                "memory_limit": limit,
                "env": variables,
                "host": "127.0.0.1",
                "dashboard_address": None,
                "silence_logs": logging.ERROR,
            },
        }
        for number, variables in enumerate(environment)
    }
    # Workers inherit that both are ignored: a scheduler that ends the job's whole process group, or
    # Ctrl-C, must not take the blocks with it that this process is waiting to finish.
    before = {s: signal.signal(s, signal.SIG_IGN) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        return SpecCluster(
            workers=spec,
            silence_logs=logging.ERROR,
            scheduler={"cls": Scheduler, "options": {**_LOOPBACK, "dashboard": True}},
        )
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _environment(resources: Resources, workers: int, number: int) -> dict[str, str]:
    threads = str(max(1, resources.threads // workers))
    variables = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), threads)
    if resources.gpus:
        allotted = os.environ.get("CUDA_VISIBLE_DEVICES")
        devices = allotted.split(",") if allotted else [str(n) for n in range(resources.gpus)]
        variables["CUDA_VISIBLE_DEVICES"] = devices[number % len(devices)]
    return variables
