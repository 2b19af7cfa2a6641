"""Workers that are killed, stopped, slow or late, and blocks that fail: with real processes."""

import logging
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import psutil
import pytest

from tests.run.faulty import (
    LONG,
    NAMES,
    check_same,
    in_twos,
    kept,
    make,
    names_of,
    start,
    until,
)
from unet_core.config import Resources
from unet_core.errors import BlockError
from unet_core.geometry import Block
from unet_core.io.ledger import Build
from unet_core.run import dispatch
from unet_core.run.crew import Crew


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("undisturbed") / "x"
    make(store, Resources())
    return store


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "x"


def tries(store: Path, name: str) -> int:
    return len(list(store.parent.glob(f"tried-{name}-*")))


def test_killed_stopped_and_failing_workers_cost_their_blocks_another_try_and_no_more(
    store: Path, undisturbed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whats = {1: ("killed", 1), 10: ("killed", 1), 5: ("stopped", 1), 14: ("transient", 2)}
    faults = {NAMES[number]: what for number, what in whats.items()}
    notes = make(store, Resources(threads=2, lease_s=10), faults=faults, amount=lambda block: 1)
    check_same(store, undisturbed)
    assert [tries(store, name) for name in faults] == [2, 2, 2, 3]
    assert all(tries(store, name) == 1 for name in NAMES if name not in faults)
    assert len(set(notes)) > 2, "the workers that came later are used"
    assert f"block {NAMES[5]}: it was not done after 10 s (lease)" in caplog.text


def test_a_block_that_kills_its_workers_is_left_out_and_told(
    store: Path, undisturbed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    crew, resources = Crew(Resources(threads=2)), Resources(threads=2)
    how = {"on_error": "skip-and-report", "ahead": 2, "pause": 0.02}
    notes = make(store, resources, crew, faults={"0-4-0": ("killed", 99)}, **how)
    assert [name for name, note in zip(NAMES, notes, strict=True) if note is None] == ["0-4-0"]
    assert list(crew.failures) == ["0-4-0"]
    assert "mem_mb" in crew.failures["0-4-0"]
    assert tries(store, "0-4-0") == 3
    for path in store.parent.glob("tried-*"):
        path.unlink()
    make(store, Resources())
    assert len(list(store.parent.glob("tried-*"))) == 1, "a rerun does that one alone"
    check_same(store, undisturbed)


def test_a_lost_node_costs_its_blocks_another_try_and_without_any_the_job_ends(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "_ABSENCE_S", 1.0)
    crew = Crew(Resources(threads=2))

    def lose_nodes() -> None:
        for lost, least in enumerate((2, 8)):
            while len(kept(store)) < least:
                time.sleep(0.02)
            nanny = crew._workers.client.cluster.workers[lost]
            nanny.close_gracefully()  # so that it makes no other worker
            os.kill(nanny.pid, signal.SIGKILL)

    thread = threading.Thread(target=lose_nodes)
    thread.start()
    with pytest.raises(BlockError, match="no worker is left and none came back within 1 s"):
        make(store, Resources(threads=2), crew, pause=0.2)
    thread.join()
    done = len(kept(store))
    assert 8 <= done < 18
    assert len(make(store, Resources())) == 18


@pytest.mark.parametrize("ahead", [0, 2])
def test_a_slow_worker_gets_few_blocks(store: Path, ahead: int) -> None:
    notes = make(store, Resources(threads=2), pause=0.1, slow=1.0, ahead=ahead)
    slow = int((store.parent / "slow").readlink().name)
    assert notes.count(slow) <= 3
    assert len(notes) == 18


def test_groups_are_computed_together_and_recorded_alone(store: Path, undisturbed: Path) -> None:
    with pytest.raises(BlockError, match=r"1 block\(s\) failed: 0-4-0 .*planted"):
        make(store, Resources(), together=in_twos, faults={"0-4-0": ("wrong", 2)})
    assert len(kept(store)) == 17
    assert tries(store, "0-4-0") == 2, "a wrong value is no better the next time, but alone"
    assert tries(store, "0-0-8") == 2, "it was of the same group"
    make(store, Resources(), together=in_twos)
    assert tries(store, "0-0-0") == 1
    check_same(store, undisturbed)


@pytest.mark.parametrize("kind", ["transient", "damaged"])
def test_what_another_try_may_mend_gets_two_more(store: Path, undisturbed: Path, kind: str) -> None:
    make(store, Resources(), faults={"0-4-0": (kind, 2)})
    assert tries(store, "0-4-0") == 3
    check_same(store, undisturbed)


def test_when_most_blocks_fail_no_further_one_is_begun(store: Path) -> None:
    faults = dict.fromkeys(names_of(LONG), ("wrong", 9))
    with pytest.raises(BlockError, match=r"28 block\(s\) failed, 35 not tried"):
        make(store, Resources(), shape=LONG, faults=faults, on_error="skip-and-report")
    assert len(list(store.parent.glob("tried-*"))) == 28


def test_the_neighbours_of_one_lost_shard_are_left_out_and_the_others_are_done(
    store: Path,
) -> None:
    """Also where they are the first: 27 of them in 3-D."""
    crew, names = Crew(Resources()), names_of(LONG)
    faults = dict.fromkeys(names[:27], ("wrong", 1))
    notes = make(store, Resources(), crew, shape=LONG, faults=faults, on_error="skip-and-report")
    assert list(crew.failures) == names[:27]
    assert notes.count(None) == 27
    assert (store / "zarr.json").exists()


def test_of_blocks_tried_alone_most_may_fail_where_but_few_of_all_do(
    store: Path, tmp_path: Path
) -> None:
    """The last of them is whole, and is neither left out nor named; a rerun does the others."""
    names = names_of(LONG)
    faults = dict.fromkeys(names[:29], ("wrong", 2))
    with pytest.raises(BlockError, match=r"29 block\(s\) failed: 0-0-0") as refused:
        make(store, Resources(), shape=LONG, together=in_twos, faults=faults)
    assert names[29] not in str(refused.value)
    assert len(kept(store)) == 63 - 29
    assert [tries(store, name) for name in names] == [2, 1] * 15 + [1] * 33
    for path in store.parent.glob("tried-*"):
        path.unlink()
    make(store, Resources(), shape=LONG, together=in_twos)
    assert len(list(store.parent.glob("tried-*"))) == 29
    make(tmp_path / "undisturbed", Resources(), shape=LONG)
    check_same(store, tmp_path / "undisturbed")


def test_blocks_that_were_not_tried_alone_are_told_apart_from_those_that_failed(
    store: Path,
) -> None:
    faults = dict.fromkeys(names_of(LONG), ("wrong", 9))

    def together(todo: list[Block]) -> list[list[Block]]:
        return [todo[:40], todo[40:]]

    with pytest.raises(BlockError, match=r"28 block\(s\) failed, 35 not tried"):
        make(store, Resources(), shape=LONG, together=together, faults=faults)


def test_a_rerun_may_skip_again_what_it_skipped_before(store: Path, undisturbed: Path) -> None:
    wrong = dict.fromkeys(NAMES[9:14], ("wrong", 2))
    for _ in range(2):
        crew = Crew(Resources())
        notes = make(store, Resources(), crew, faults=wrong, on_error="skip-and-report")
        assert list(crew.failures) == NAMES[9:14]
        assert notes.count(None) == 5
    make(store, Resources(), faults=wrong)
    check_same(store, undisturbed)


def test_of_few_blocks_most_may_not_be_skipped_either(store: Path) -> None:
    faults = dict.fromkeys(NAMES[:10], ("wrong", 9))
    twos = [NAMES[:9], NAMES[9:]]

    def together(todo: list[Block]) -> list[list[Block]]:
        return [[block for block in todo if block.name in names] for names in twos]

    with pytest.raises(BlockError, match=r"10 block\(s\) failed: "):
        make(store, Resources(), together=together, faults=faults, on_error="skip-and-report")
    assert not (store / "zarr.json").exists()


def test_a_full_disk_ends_the_job_at_once_and_says_what_is_free(store: Path) -> None:
    with pytest.raises(BlockError, match=r"takes no more.*free where x stands: [0-9]+ MB"):
        make(store, Resources(), faults={"0-4-0": ("disk full", 1)})
    assert 3 <= len(kept(store)) <= 4
    assert not (store / "zarr.json").exists()


def test_a_ledger_that_cannot_grow_ends_the_job_likewise(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tick, left = Build.tick, iter(range(5))

    def full(*args: object, **keys: object) -> None:
        if next(left, None) is None:
            raise OSError(28, os.strerror(28))
        tick(*args, **keys)  # type: ignore[arg-type]

    monkeypatch.setattr(Build, "tick", full)
    with pytest.raises(BlockError, match="takes no more"):
        make(store, Resources())
    assert len(kept(store)) == 5


def test_the_log_tells_the_dashboard(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    make(store, Resources())
    assert "1 worker(s), dashboard at http://127.0.0.1:" in caplog.text


def group(job: subprocess.Popen[str]) -> list[psutil.Process]:
    """Processes of the job, ended ones that nobody has waited for left out."""
    found = []
    for process in psutil.process_iter(["status"]):
        try:
            alike = os.getpgid(process.pid) == job.pid
        except ProcessLookupError:
            continue
        if alike and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def test_a_block_that_hangs_in_the_only_process_ends_it(store: Path) -> None:
    job = start(store, resources={"lease_s": 1}, faults={"0-4-0": ("hangs", 1)})
    _, errors = job.communicate(timeout=60)
    assert job.returncode == 1
    assert "block 0-4-0: it was not done after 1 s (lease) and counts as hung" in errors
    assert len(kept(store)) == 3


def test_without_its_driver_no_worker_lives_or_writes(store: Path) -> None:
    job = start(store, resources={"threads": 2}, pause=0.3, faults={"0-8-0": ("stopped", 1)})
    until(job, lambda: tries(store, "0-8-0") and len(kept(store)) > 8)
    os.kill(job.pid, signal.SIGKILL)
    job.communicate(timeout=60)
    deadline = time.monotonic() + 60
    while group(job):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    files = {path: path.stat().st_mtime_ns for path in store.parent.rglob("*")}
    time.sleep(1)
    assert files == {path: path.stat().st_mtime_ns for path in store.parent.rglob("*")}


def test_asked_to_end_while_workers_start_it_computes_nothing(store: Path) -> None:
    job = start(store, resources={"threads": 2})
    until(job, lambda: len(group(job)) > 2)
    os.killpg(job.pid, signal.SIGTERM)
    _, errors = job.communicate(timeout=60)
    assert job.returncode == 143, errors
    assert "asked to end" in errors
    assert not kept(store)


def test_asked_to_end_after_a_group_failed_nothing_of_it_counts_as_failed(
    store: Path, undisturbed: Path
) -> None:
    """Its blocks were not tried alone: the job goes on where it was."""
    job = start(store, resources={}, pause=0.3, twos=True, faults={"0-0-4": ("wrong", 1)})
    until(job, lambda: len(kept(store)) >= 2)
    os.killpg(job.pid, signal.SIGTERM)
    _, errors = job.communicate(timeout=60)
    assert job.returncode == 143, errors
    assert "asked to end" in errors
    assert "failed" not in errors
    assert "tried alone" not in errors
    assert len(kept(store)) < 16
    make(store, Resources(), together=in_twos)
    check_same(store, undisturbed)
