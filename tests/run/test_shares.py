"""Memory that workers are given, planned with, and ended at: one and the same."""

from typing import Any

import dask
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_core.config import Resources
from unet_core.config.resources import DEALER_MB, DRIVER_MB
from unet_core.run import cluster
from unet_core.run.cluster import FULL_SHARE, SETTINGS
from unet_core.run.crew import Crew


@given(
    memory_mb=st.integers(DRIVER_MB + 1, 10**5),
    threads=st.integers(1, 32),
    need_mb=st.floats(1, 1000),
    launcher=st.sampled_from(["here", "srun", "jobqueue"]),
)
@settings(deadline=None, max_examples=50)
def test_all_workers_and_who_deals_to_them_fit_the_memory(
    memory_mb: int, threads: int, need_mb: float, launcher: Any
) -> None:
    resources = Resources(memory_mb=memory_mb, threads=threads, launcher=launcher)
    if not resources.holds(1, need_mb):
        return
    workers = Crew(resources)._most_workers(need_mb, None)
    driver = DRIVER_MB if launcher != "here" else DEALER_MB if workers > 1 else 0
    assert workers * need_mb + driver <= memory_mb * (1 + 1e-9)
    if workers < threads:
        apart = DEALER_MB if launcher == "here" else DRIVER_MB
        assert (workers + 1) * need_mb + apart > memory_mb * (1 - 1e-9)


def test_a_worker_may_fill_the_share_that_plans_fill(monkeypatch: pytest.MonkeyPatch) -> None:
    specs: list[dict[int, Any]] = []
    monkeypatch.setattr(cluster, "SpecCluster", lambda workers, **_: specs.append(workers))
    resources = Resources(threads=2, memory_mb=2000)
    with dask.config.set(SETTINGS):
        cluster._processes(resources, [{}, {}], dashboard=False)
        ended_at = dask.config.get("distributed.worker.memory.terminate")
    assert ended_at == FULL_SHARE == 1
    share = resources.share_mb(2)
    assert share == (2000 - DEALER_MB) / 2
    assert [each["options"]["memory_limit"] for each in specs[0].values()] == [share * 1e6] * 2
