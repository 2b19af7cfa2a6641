"""Start the processes that train one network together, and end them together."""

import ctypes
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from unet_core.config import Resources, TrainConfig
from unet_core.errors import ConfigError, Interrupted, PlanError, RankError
from unet_core.run.nodes import address_of
from unet_core.run.steps import ENDS, asked_to_end

log = logging.getLogger(__name__)

COUNT, MEET = "UNET_RANKS", "UNET_RANKS_MEET"
"""Environment variables of the processes: how many there are, and where they meet (a URL of
torch's `init_method`)."""

RANK, LOCAL_RANK = "UNET_RANK", "UNET_LOCAL_RANK"
"""Number of a process among all and on its node."""

_NUMBERED = f'{RANK}=$SLURM_PROCID {LOCAL_RANK}=$SLURM_LOCALID exec "$@"'

_ENDS_S = 60
"""For a step and the saving of the state, or for what waits for a process that is lost."""

_LOOKS_EVERY_S = 0.2

_ASKED = {status for number in ENDS for status in (-number, 128 + number)}
"""Exit statuses of those that were asked to end: they say so themselves, or died of it before they
could."""


def of_a_node(resources: Resources) -> int:
    """Processes of a node: one for each of its GPUs, else one."""
    return max(1, resources.gpus // resources.nodes)


def start_ranks(config: TrainConfig, resources: Resources, arguments: Sequence[str]) -> bool:
    """Run `unet-core ARGUMENTS...` in a process for each GPU, or for each node, and wait for them.

    Those of one node meet in a private folder, and speak over its loopback interface. On several
    nodes they are one step of this Slurm job, and meet at a port of this node; what they say to
    each other is neither encrypted nor signed.

    Returns
    -------
    bool
        False where this process is one of them or alone: it has to train itself.

    Raises
    ------
    ConfigError
        If they cannot share a batch equally.
    PlanError
        If there are several nodes, and this is no Slurm job, or the launcher is not srun.
    Interrupted
        If this process, or all of them, were asked to end; their state is saved.
    RankError
        If one ended badly; the others were ended.
    """
    count = of_a_node(resources) * resources.nodes
    if count == 1 or COUNT in os.environ:
        return False
    refuse_uneven(config, count)
    if resources.nodes > 1:
        refuse_no_job(resources)
    with asked_to_end() as ending, _meeting(resources) as met:
        common = {**os.environ, **met, COUNT: str(count)}
        common["OMP_NUM_THREADS"] = str(max(1, resources.threads // of_a_node(resources)))
        if resources.nodes > 1:
            # srun kills the step where it is told to terminate; it passes this one on.
            asked = [_start([*_srun(resources), *_command(arguments)], common)]
            _wait(asked, ending, by=signal.SIGUSR1)
        else:
            own = [{RANK: str(number), LOCAL_RANK: str(number)} for number in range(count)]
            asked = [_start(_command(arguments), common | each) for each in own]
            _wait(asked, ending, by=signal.SIGTERM)
        told = ending()
    bad = {process.returncode for process in asked} - {0}
    if bad and (told or bad <= _ASKED):
        raise Interrupted("asked to end: the same command goes on from the last state saved")
    if bad:
        raise RankError(
            f"one of {count} processes that train together ended badly, and the others were ended; "
            "what it says is above; the same command goes on from the last state saved"
        )
    return True


def refuse_uneven(config: TrainConfig, count: int) -> None:
    """Each of `count` processes sees equally many patches of a batch.

    Raises
    ------
    ConfigError
        If that cannot be.
    """
    if config.batch % count:
        raise ConfigError(
            f"train.batch {config.batch} cannot be shared by {count} processes (one for each GPU "
            f"of all nodes); make it a multiple of {count}, or give the job another number of GPUs"
        )


def refuse_no_job(resources: Resources) -> None:
    """Processes of several nodes are a step of one Slurm job.

    Raises
    ------
    PlanError
        If they cannot be.
    """
    if resources.launcher != "srun":
        raise PlanError(
            f"training on {resources.nodes} nodes needs --launcher srun, as its processes wait for "
            f"each other; got {resources.launcher} (in a profile: nodes, not worker_jobs)"
        )
    if "SLURM_JOB_ID" not in os.environ:
        raise PlanError(
            f"training on {resources.nodes} nodes is a step of a Slurm job, and this is none "
            "(SLURM_JOB_ID is not set); submit it with sbatch, or train on one node"
        )


def _start(command: Sequence[str], environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # what ends this process's group is for this process
        preexec_fn=_end_with_parent,
    )


def _wait(
    processes: Sequence["subprocess.Popen[bytes]"],
    ending: Callable[[], bool],
    *,
    by: signal.Signals,
) -> None:
    """Until all ended; all are told to, once, where this process is or one of them ended badly."""
    told: float | None = None
    while left := [process for process in processes if process.poll() is None]:
        if told is None and (ending() or any(process.returncode for process in processes)):
            told = time.monotonic()
            for process in left:
                process.send_signal(by)
        if told is not None and time.monotonic() - told > _ENDS_S:
            for process in left:
                process.kill()
        time.sleep(_LOOKS_EVERY_S)


@contextmanager
def _meeting(resources: Resources) -> Iterator[dict[str, str]]:
    """Environment variables that say where the processes meet."""
    if resources.nodes > 1:
        host = address_of(resources.interface)
        with socket.socket() as any_port:
            any_port.bind((host, 0))
            port = any_port.getsockname()[1]
        yield {MEET: f"tcp://{host}:{port}"}
        return
    named = psutil.net_if_addrs().items()
    loopback = [name for name, of in named if any(each.address == "127.0.0.1" for each in of)]
    spoken = {f"{of}_SOCKET_IFNAME": name for name in loopback[:1] for of in ("GLOO", "NCCL")}
    # Nobody else gets into the folder, and no port has to be open to all.
    with tempfile.TemporaryDirectory(prefix="unet-ranks-") as folder:
        yield {MEET: (Path(folder) / "meet").as_uri(), **spoken}


def _command(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "unet_core.cli", *arguments]


def _srun(resources: Resources) -> list[str]:
    each, nodes = of_a_node(resources), resources.nodes
    return [
        *("srun", f"--nodes={nodes}", f"--ntasks={nodes * each}", f"--ntasks-per-node={each}"),
        *("--exact", "--mpi=none", "--input=none", "--kill-on-bad-exit=1"),
        f"--cpus-per-task={max(1, resources.threads // each)}",
        f"--mem={int(resources.share_mb(1) or 0)}",
        *([f"--gpus-per-node={each}"] if resources.gpus else []),
        *("sh", "-c", _NUMBERED, "-"),
    ]


def _end_with_parent() -> None:
    """Between fork and exec of a process: SIGTERM when this one is gone."""
    if (prctl := getattr(ctypes.CDLL(None), "prctl", None)) is not None:  # Linux
        prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
