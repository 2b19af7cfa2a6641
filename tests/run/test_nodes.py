"""Workers that are steps of a Slurm job; `srun` is a stand-in that starts them on this machine."""

import os
import re
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.run.faulty import NAMES, check_same, kept, make, start, until
from unet_core.config import Resources
from unet_core.errors import BlockError, ConfigError, PlanError
from unet_core.run import nodes, srun
from unet_core.run.nodes import address_of, open_steps, srun_command
from unet_core.run.srun import Steps

SRUN = """#!/bin/bash
# Starts what srun is given; as srun does, ends it by SIGKILL when it is told to end.
while [[ $1 == --* ]]; do shift; done
[[ ${{@: -1}} == {late} ]] && sleep 4
[[ ${{@: -1}} == {refused} ]] && exit 1
bash -c 'export SLURM_STEP_ID=$$; exec "$@"' - "$@" &
trap "kill -KILL $!" TERM
wait $!
"""
SCANCEL = """#!/bin/bash
kill "-${1#--signal=}" "${2##*.}"
"""

RESOURCES = Resources(threads=1, nodes=2, memory_mb=3000, launcher="srun")


def stand_in(folder: Path, *, late: str = "none", refused: str = "none") -> None:
    for name, text in {"srun": SRUN.format(late=late, refused=refused), "scancel": SCANCEL}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a job of two nodes."""
    (tmp_path / "bin").mkdir()
    stand_in(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_NTASKS", "99")
    (tmp_path / "work").mkdir()
    return tmp_path / "work" / "x"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("undisturbed") / "x"
    make(store, Resources())
    return store


def tries(store: Path, name: str) -> int:
    return len(list(store.parent.glob(f"tried-{name}-*")))


def workers_of(parent: psutil.Process) -> list[psutil.Process]:
    """The worker processes that a driver has started."""
    found = []
    for process in parent.children(recursive=True):
        try:
            if "unet_core.run.worker" in process.cmdline() and process.name() != "bash":
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return [each for each in found if "bash" not in each.cmdline()[0]]


def test_killed_stopped_and_failing_steps_cost_their_blocks_another_try_and_no_more(
    store: Path, undisturbed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whats = {1: ("killed", 1), 10: ("killed", 1), 5: ("stopped", 1), 14: ("transient", 1)}
    faults = {NAMES[number]: what for number, what in whats.items()}
    resources = Resources(threads=1, nodes=2, memory_mb=3000, launcher="srun", lease_s=8)
    notes = make(store, resources, faults=faults, pause=0.3)
    check_same(store, undisturbed)
    assert [tries(store, name) for name in faults] == [2, 2, 2, 2]
    assert all(tries(store, name) == 1 for name in NAMES if name not in faults)
    assert len(set(notes)) > 2, "steps that were started again are used"
    assert os.getpid() not in notes
    assert f"block {NAMES[5]}: it was not done after 8 s (lease)" in caplog.text
    assert not workers_of(psutil.Process())


def test_a_worker_that_comes_late_is_used_and_one_that_cannot_start_is_done_without(
    store: Path,
    undisturbed: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nodes, "_OTHERS_S", 0.5)
    monkeypatch.setattr(srun, "_STARTS", 1)
    stand_in(store.parents[1] / "bin", late="0.0", refused="1.0")
    caplog.set_level("INFO")
    notes = make(store, Resources(threads=3, memory_mb=3000, launcher="srun"), pause=0.5)
    check_same(store, undisturbed)
    assert "1 of 3 workers on 1 nodes" in caplog.text
    assert len(set(notes)) == 2
    assert "worker 1 ended 1 times right after its start; it is left out" in caplog.text


def test_where_no_worker_can_start_the_job_ends(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(srun, "_STARTS", 1)
    (store.parents[1] / "bin/srun").write_text("#!/bin/bash\nexit 1\n")
    with pytest.raises(BlockError, match="no worker is left, as all ended right after their start"):
        make(store, RESOURCES)


def eats_memory(mb: int) -> int:
    taken = bytearray(b"1") * (mb * 10**6)
    time.sleep(100)  # who watches looks now and then, and waits for the interpreter's lock
    return len(taken)


def test_a_worker_ends_before_it_takes_more_than_its_step_has(store: Path) -> None:
    resources = Resources(threads=2, nodes=1, memory_mb=2000, launcher="srun")
    with open_steps(resources, workers=2) as workers:
        before = workers.present()
        work = workers.client.submit(eats_memory, 1500, workers=[next(iter(before.values()))])
        with pytest.raises(Exception, match="eats_memory"):
            work.result(timeout=120)
        (lost,) = before.keys() - workers.present().keys()
        end = time.monotonic() + 120
        while not workers.is_gone(lost) or len(workers.present()) < 2:
            assert time.monotonic() < end
            time.sleep(0.05)


def environment() -> dict[str, str]:
    return dict(os.environ)


def test_only_the_job_may_speak_to_its_workers_and_no_command_line_tells_how(store: Path) -> None:
    with open_steps(RESOURCES, workers=2) as workers:
        driver = psutil.Process()
        found = workers_of(driver)
        assert len(found) == 2
        here = address_of(None)
        for process in [driver, *found]:
            assert "PRIVATE KEY" not in " ".join(process.cmdline())
            open_to = process.net_connections(kind="inet")
            heard = {each.laddr.ip for each in open_to if each.status == psutil.CONN_LISTEN}
            assert heard <= {here, "127.0.0.1"}
        assert all(address.startswith("tls://") for address in workers.present().values())
        for seen in workers.client.run(environment).values():
            assert seen["OMP_NUM_THREADS"] == "1"
            assert "SLURM_NTASKS" not in seen
            assert not [value for value in seen.values() if "PRIVATE KEY" in value]


def test_without_its_driver_no_worker_lives_or_writes(store: Path) -> None:
    resources = {"threads": 1, "nodes": 2, "memory_mb": 3000, "launcher": "srun"}
    job = start(store, resources=resources, pause=0.5)
    until(job, lambda: len(kept(store)) > 4)
    workers = workers_of(psutil.Process(job.pid))
    assert len(workers) == 2
    os.kill(job.pid, signal.SIGKILL)
    job.communicate(timeout=60)
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert not alive


@pytest.mark.parametrize("told", ["all", "a worker"])
def test_asked_to_end_it_finishes_the_blocks_under_way_and_leaves_nothing(
    store: Path, undisturbed: Path, told: str
) -> None:
    resources = {"threads": 1, "nodes": 2, "memory_mb": 3000, "launcher": "srun"}
    job = start(store, resources=resources, pause=0.5)
    until(job, lambda: len(kept(store)) > 4)
    workers = workers_of(psutil.Process(job.pid))
    if told == "all":  # as scancel does
        for process in [*workers, psutil.Process(job.pid)]:
            process.terminate()
    else:  # as Slurm does ahead of a time limit: the driver is in no step
        workers[0].send_signal(signal.SIGUSR1)
    _, errors = job.communicate(timeout=60)
    assert job.returncode == 143, errors
    assert not [process for process in workers if process.is_running()]
    assert len(list(store.parent.glob("tried-*"))) == len(kept(store)) < 18
    make(store, RESOURCES)
    check_same(store, undisturbed)
    assert len(list(store.parent.glob("tried-*"))) == 18


def test_asked_to_end_it_waits_for_no_worker(store: Path) -> None:
    (store.parents[1] / "bin/srun").write_text("#!/bin/bash\nexec sleep 1000\n")
    resources = {"threads": 1, "nodes": 2, "memory_mb": 3000, "launcher": "srun"}
    job = start(store, resources=resources)
    until(job, lambda: any(p.name() == "sleep" for p in psutil.Process(job.pid).children()))
    job.send_signal(signal.SIGUSR1)
    _, errors = job.communicate(timeout=60)
    assert job.returncode == 143, errors
    assert "asked to end before all workers came" in errors


def test_a_program_that_cannot_be_started_now_is_started_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(srun, "_LEAVES_S", 0.1)
    program, away = tmp_path / "srun", tmp_path / "away"
    away.write_text("#!/bin/sh\nexec sleep 60\n")
    away.chmod(0o755)
    with Steps([str(program)], dict(os.environ), 1) as steps:
        while "worker 0.0: its step ended (srun: [Errno 2]" not in caplog.text:
            assert not steps.hopeless
            time.sleep(0.02)
        away.rename(program)
        while steps.has_ended("0.1"):
            assert not steps.hopeless
            time.sleep(0.02)


def test_each_worker_gets_an_equal_share_of_its_node() -> None:
    resources = Resources(threads=16, gpus=8, nodes=2, memory_mb=41000, launcher="srun")
    assert resources.slots == 4
    command = srun_command(resources, 8, "tls://n1:1")
    assert {"--exact", "--mem=10000", "--cpus-per-task=4", "--gpus=1"} <= set(command)
    few = srun_command(resources, 2, "tls://n1:1")
    assert {"--mem=40000", "--cpus-per-task=16"} <= set(few)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"nodes": 2, "memory_mb": 3000}, "2 nodes need a launcher"),
        ({"nodes": 2, "launcher": "srun"}, "needs --memory-mb"),
        ({"launcher": "srun", "memory_mb": 900}, "of which 1000 MB are not the workers'; got 900"),
        ({"nodes": 2, "gpus": 3}, "got 3 GPUs on 2 nodes"),
        ({"nodes": 0}, "nodes >= 1"),
    ],
)
def test_nodes_that_cannot_be_are_refused(given: dict[str, int], told: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)):
        Resources(**given)  # type: ignore[arg-type]


def test_what_is_no_slurm_job_or_network_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(PlanError, match="sbatch"), open_steps(RESOURCES, workers=2):
        pass
    with pytest.raises(PlanError, match=r"no IPv4 address of ib9 .*--interface to one of: .*lo"):
        address_of("ib9")
    assert address_of("lo") == "127.0.0.1"
