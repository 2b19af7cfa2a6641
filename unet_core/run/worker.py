"""A worker on another node: `python -m unet_core.run.worker SCHEDULER`, a process of its own.

It does what the driver says and ends with it: whatever closes it, the driver or the loss of the
connection, ends the process at once, so that a block under way is written by nobody.
"""

import argparse
import asyncio
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from typing import Any

import dask
import psutil
from dask.utils import parse_bytes
from distributed import Security, Worker
from distributed.utils import get_ip

from unet_core.run.cluster import FULL_SHARE, SETTINGS, keep_quiet
from unet_core.run.steps import ENDS

CREDENTIALS = "UNET_WORKER_CREDENTIALS"
"""Environment variable with key and certificate of the job, which no command line may show."""

_LOOKS_EVERY_S = 0.2


_UNSEEN_S = 60
"""Without a driver that answers, for so long, it ends."""


class _Worker(Worker):  # type: ignore[misc]
    """Ends the process instead of waiting for what it computes."""

    asked = False
    """Was it asked to end, ahead of a time limit? The driver is told, and decides."""

    async def close(self, *_: Any, **__: Any) -> None:
        shutil.rmtree(self.local_directory, ignore_errors=True)
        os._exit(0)


def credentials(security: Security) -> str:
    """What a worker needs to speak to the scheduler of `security`, as one line of text."""
    return json.dumps({"key": security.tls_worker_key, "certificate": security.tls_worker_cert})


def main(arguments: list[str]) -> None:
    """Work until the driver is gone or says that this is the end."""
    parser = argparse.ArgumentParser(prog="unet_core.run.worker")
    parser.add_argument("scheduler", help="address, tls://host:port")
    parser.add_argument("--name", required=True, help="of this worker, unique within the job")
    parser.add_argument("--nthreads", type=int, required=True, help="blocks in flight")
    parser.add_argument("--memory-limit", type=parse_bytes, required=True, help="most it may take")
    parser.add_argument("--protocol", choices=["tls://"], default="tls://")
    parser.add_argument("--lifetime", help="it ends by itself after it, such as 3540s")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format=f"%(asctime)s {options.name}: %(message)s")
    keep_quiet()
    # Whoever ends a job signals its workers too; blocks under way are to be finished.
    for number in (*ENDS, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, lambda *_: setattr(_Worker, "asked", True))
    watch = threading.Thread(target=_watch_memory, args=[options.memory_limit], daemon=True)
    watch.start()
    with dask.config.set(SETTINGS):
        asyncio.run(_work(options))


async def _work(options: argparse.Namespace) -> None:
    given = json.loads(os.environ.pop(CREDENTIALS))
    security = Security(
        require_encryption=True,
        tls_ca_file=given["certificate"],
        tls_worker_key=given["key"],
        tls_worker_cert=given["certificate"],
        # A worker that hands on results is a client of the other.
        tls_client_key=given["key"],
        tls_client_cert=given["certificate"],
    )
    host, _, port = options.scheduler.removeprefix("tls://").rpartition(":")
    worker = _Worker(
        options.scheduler,
        name=options.name,
        nthreads=options.nthreads,
        lifetime=options.lifetime,
        death_timeout=_UNSEEN_S,
        memory_limit=0,
        host=get_ip(host, int(port)),  # this node's on the driver's network, and no other
        dashboard=False,
        dashboard_address="127.0.0.1:0",  # else its pages are open on that network, in clear
        local_directory=tempfile.mkdtemp(prefix="unet-worker-"),
        security=security,
        protocol=options.protocol,
        metrics={"cpu_s": _cpu_s, "slurm": _place, "asked": _was_asked},
    )
    await worker
    await worker.finished()


async def _cpu_s(worker: Worker) -> float:
    times = psutil.Process().cpu_times()
    return float(times.user + times.system)


async def _place(worker: Worker) -> str:
    """Job and step of this process, `7.3`."""
    return f"{os.environ.get('SLURM_JOB_ID')}.{os.environ.get('SLURM_STEP_ID', 'batch')}"


async def _was_asked(worker: _Worker) -> bool:
    return worker.asked


def _watch_memory(limit: int) -> None:
    """End this process before Slurm ends its step, whose MB are 2^20 bytes, and say so."""
    process = psutil.Process()
    while (used := process.memory_info().rss) < FULL_SHARE * limit:
        time.sleep(_LOOKS_EVERY_S)
    logging.error("takes %d of %d MB and is killed", used / 1e6, limit / 1e6)
    process.kill()


if __name__ == "__main__":
    main(sys.argv[1:])
