"""Workers and what they see: devices, threads, who may speak to them."""

import os
import sys
import threading
from types import SimpleNamespace

import psutil
import pytest
from distributed import Client, Security
from distributed.comm import CommClosedError
from sortedcontainers import SortedDict

from unet_core.config import Resources
from unet_core.run.cluster import known_workers, open_workers


def seen() -> tuple[str | None, str | None]:
    return os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get("OMP_NUM_THREADS")


def test_each_worker_sees_a_device_of_the_job_also_after_one_ran_in_this_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    before = dict(os.environ)
    resources = Resources(threads=4, gpus=2)
    with open_workers(resources, workers=1, dashboard=False) as one:
        assert one.client.submit(seen, pure=False).result() == ("3", "4")
    assert dict(os.environ) == before
    with open_workers(resources, workers=2, dashboard=False) as two:
        assert sorted(two.client.run(seen).values()) == [("3", "2"), ("5", "2")]


def test_ports_are_open_on_the_loopback_interface_alone_and_to_the_job_alone() -> None:
    with open_workers(Resources(threads=2), workers=2) as workers:
        address = workers.client.scheduler.address
        job = psutil.Process()
        for process in [job, *job.children(recursive=True)]:
            open_to = process.net_connections(kind="inet")
            heard = {each.laddr.ip for each in open_to if each.status == psutil.CONN_LISTEN}
            assert heard <= {"127.0.0.1"}
        for security in (None, Security.temporary()):
            scheme = "tcp" if security is None else "tls"
            with pytest.raises(CommClosedError):
                Client(address.replace("tls", scheme), security=security, timeout=1)


def test_workers_may_come_and_go_while_they_are_looked_at() -> None:
    stays = {f"tls://10.0.0.{n}": n for n in range(200)}
    scheduler, ended = SimpleNamespace(workers=SortedDict(stays)), threading.Event()

    def come_and_go() -> None:
        while not ended.is_set():
            scheduler.workers["tls://10.0.0.1:1"] = -1
            del scheduler.workers["tls://10.0.0.1:1"]

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    loop = threading.Thread(target=come_and_go)
    loop.start()
    try:
        for _ in range(2000):
            found = known_workers(scheduler)  # type: ignore[arg-type]
            assert set(found) - {-1} == set(stays.values())
    finally:
        ended.set()
        loop.join()
        sys.setswitchinterval(before)
