"""Training by several processes: the result of one, and nobody is left behind."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tests.stages.test_train import CONFIG, MODEL, write_bank
from unet_core.config import NetworkConfig, Resources, TrainConfig, canonical
from unet_core.errors import ConfigError, PlanError
from unet_core.net.checkpoint import read_checkpoint
from unet_core.stages.train_ranks import COUNT, start_ranks

# Not by Adam, which divides the gradient by its size: where that is 0 but for rounding, as that of
# a bias before batch normalisation, rounding alone would decide.
FEW = replace(
    CONFIG,
    steps=12,
    validate_every=4,
    batch=4,
    clip_norm=1.0,
    optimiser="sgd",
    learning_rate=0.05,
    dice="foreground_batch",  # one ratio over the whole batch, of which each has a part
)
PLAIN = replace(MODEL, dropout=0.0)


def command(
    folder: Path, *, gpus: int, config: TrainConfig = FEW, model: NetworkConfig = PLAIN
) -> list[str]:
    settings = json.dumps(
        {"train": json.loads(canonical(config)), "model": json.loads(canonical(model))}
    )
    return [
        *(sys.executable, "-m", "unet_core.cli", "train", "--config", settings),
        *("--patches", str(folder / "patches"), "--validation", str(folder / "checks")),
        *("--out", str(folder / f"by {gpus}/best.pt"), "--gpus", str(gpus)),
    ]


def start(folder: Path, *given: str, **how: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*command(folder, **how), *given],  # type: ignore[arg-type]
        env={**os.environ, "UNET_DEVICE": "cpu", "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ended(process: "subprocess.Popen[str]", status: int) -> str:
    errors = process.communicate(timeout=120)[1]
    assert process.returncode == status, errors
    return errors


@pytest.fixture(scope="module")
def banks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("banks")
    write_bank(folder / "patches", patches=9)
    write_bank(folder / "checks", patches=3, seed=1)
    return folder


@pytest.fixture
def folder(banks: Path, tmp_path: Path) -> Path:
    for name in ("patches", "checks"):
        (tmp_path / name).symlink_to(banks / name)
    return tmp_path


@pytest.fixture(scope="module")
def by_one(banks: Path) -> Path:
    """Of one process."""
    ended(start(banks, gpus=1), 0)
    return banks / "by 1"


def check_alike(found: Path, expected: Path) -> None:
    texts = [(each / "history.csv").read_text() for each in (found, expected)]
    histories = [list(csv.DictReader(text.splitlines())) for text in texts]
    assert [row["step"] for row in histories[0]] == ["4", "8", "12"]
    for row, wanted in zip(*histories, strict=True):
        for name, value in wanted.items():
            assert float(row[name]) == pytest.approx(float(value), abs=1e-5), name
    networks = [read_checkpoint(each / "best.pt").state for each in (found, expected)]
    assert networks[0].keys() == networks[1].keys()
    for name, tensor in networks[1].items():
        assert networks[0][name].shape == tensor.shape
        assert (networks[0][name].double() - tensor.double()).abs().max() < 1e-5, name


def test_two_processes_find_what_one_does_and_leave_the_same_files(
    folder: Path, by_one: Path
) -> None:
    errors = ended(start(folder, gpus=2), 0)
    assert "2 process(es)" in errors
    assert errors.count("step 12: loss") == 1, "the first one tells, and no other"
    check_alike(folder / "by 2", by_one)
    names = [sorted(each.name for each in path.iterdir()) for path in (folder / "by 2", by_one)]
    assert names[0] == names[1]


def processes_of(job: "subprocess.Popen[str]") -> list[psutil.Process]:
    found: list[psutil.Process] = psutil.Process(job.pid).children(recursive=True)
    return found


def ranks_of(job: "subprocess.Popen[str]") -> list[psutil.Process]:
    found = processes_of(job)
    return [each for each in found if COUNT in each.environ() and each.name() != "srun"]


def wait_for_state(job: "subprocess.Popen[str]", folder: Path) -> None:
    while not (folder / "by 2/last.pt").exists():
        if job.poll() is not None:
            pytest.fail(f"it ended before: {job.communicate()[1]}")
        time.sleep(0.02)


def check_goes_on(folder: Path, config: TrainConfig) -> None:
    (folder / "by 2").rename(folder / "by 1")
    again = start(folder, gpus=1, config=config)
    time.sleep(0.1)
    while "resumed at step" not in (line := again.stderr.readline()):  # type: ignore[union-attr]
        assert line
    assert int(line.split("step ")[1].split(" of")[0]) >= 4
    again.kill()
    again.communicate()


@pytest.mark.parametrize("told", ["the first", "all"])
def test_asked_to_end_all_end_after_the_same_step_and_another_number_goes_on(
    folder: Path, told: str
) -> None:
    long = replace(FEW, steps=100000)
    job = start(folder, gpus=2, config=long)
    wait_for_state(job, folder)
    left = processes_of(job)
    if told == "the first":
        job.send_signal(signal.SIGTERM)
    else:  # as Slurm does ahead of a time limit
        for process in [psutil.Process(job.pid), *left]:
            process.send_signal(signal.SIGUSR1)
    errors = ended(job, 143)
    assert "the same command goes on from the last state saved" in errors
    if told == "the first":  # else its own signal may end those that have saved and not said so
        assert errors.count("of 100000 is saved") == 2
    assert not psutil.wait_procs(left, timeout=60)[1]
    check_goes_on(folder, long)


@pytest.mark.parametrize("which", [0, 1])
def test_a_process_that_is_killed_ends_all(folder: Path, which: int) -> None:
    job = start(folder, gpus=2, config=replace(FEW, steps=100000))
    wait_for_state(job, folder)
    left, ranks = processes_of(job), ranks_of(job)
    assert len(ranks) == 2
    ranks[which].kill()
    errors = ended(job, 1)
    assert "one of 2 processes that train together ended badly" in errors
    assert not psutil.wait_procs(left, timeout=60)[1]


def test_without_the_one_that_started_them_none_lives(folder: Path) -> None:
    job = start(folder, gpus=2, config=replace(FEW, steps=100000))
    wait_for_state(job, folder)
    left = processes_of(job)
    job.kill()
    assert not psutil.wait_procs(left, timeout=60)[1]
    job.communicate()


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"train.batch 3 cannot be shared by 2 processes"):
        start_ranks(replace(FEW, batch=3), Resources(gpus=2), [])
    assert not start_ranks(replace(FEW, batch=3), Resources(gpus=1), [])


SRUN = """#!/bin/bash
# One task for each of --ntasks, on this machine. As srun does, passes SIGUSR1 on, and kills all
# where it is told to terminate.
echo "$@" > "$0.told"
for given in "$@"; do [[ $given == --ntasks=* ]] && count=${given#*=}; done
while [[ $1 == --* ]]; do shift; done
for ((number = 0; number < count; number++)); do
    SLURM_PROCID=$number SLURM_LOCALID=0 "$@" &
    tasks+=($!)
done
trap 'kill -USR1 "${tasks[@]}"' USR1
trap 'kill -KILL "${tasks[@]}"' TERM
status=0
for task in "${tasks[@]}"; do
    while wait "$task"; code=$?; kill -0 "$task" 2> /dev/null; do :; done
    ((code > status)) && status=$code
done
exit $status
"""


@pytest.mark.parametrize("told", ["the first", "the step"])
def test_over_nodes_they_are_one_step_that_saves_its_state_when_it_is_told_to(
    folder: Path, monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    (folder / "bin").mkdir()
    (folder / "bin/srun").write_text(SRUN)
    (folder / "bin/srun").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    given = ["--nodes", "2", "--launcher", "srun", "--memory-mb", "4000", "--interface", "lo"]
    job = start(folder, *given, gpus=2, config=replace(FEW, steps=100000))
    wait_for_state(job, folder)
    if told == "the first":
        job.send_signal(signal.SIGTERM)
    else:
        for process in ranks_of(job):
            process.send_signal(signal.SIGUSR1)
    assert ended(job, 143).count("of 100000 is saved") == 2
    options = (folder / "bin/srun.told").read_text().split()
    assert {"--nodes=2", "--ntasks=2", "--gpus-per-node=1", "--kill-on-bad-exit=1"} <= set(options)


def test_those_of_one_node_listen_to_no_other_machine(folder: Path) -> None:
    job = start(folder, gpus=2, config=replace(FEW, steps=100000))
    wait_for_state(job, folder)
    heard = {
        each.laddr.ip
        for process in processes_of(job)
        for each in process.net_connections(kind="inet")
        if each.status == psutil.CONN_LISTEN
    }
    job.kill()
    job.communicate()
    assert heard <= {"127.0.0.1"}


@pytest.mark.parametrize(
    ("launcher", "told"), [("jobqueue", "not worker_jobs"), ("srun", "SLURM_JOB_ID is not set")]
)
def test_nodes_that_are_no_step_of_one_job_are_refused(
    monkeypatch: pytest.MonkeyPatch, launcher: str, told: str
) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(PlanError, match=told):
        start_ranks(FEW, Resources(nodes=2, memory_mb=4000, launcher=launcher), [])  # type: ignore[arg-type]


def test_a_disk_that_takes_no_more_is_told_as_such(folder: Path) -> None:
    limited = ["bash", "-c", 'ulimit -f 8; exec "$@"', "-", *command(folder, gpus=1)]
    run = subprocess.run(limited, env={**os.environ, "UNET_DEVICE": "cpu"}, stderr=subprocess.PIPE)
    told = run.stderr.decode()
    assert run.returncode == 1, told
    assert "no room for" in told
    assert "Traceback" not in told
