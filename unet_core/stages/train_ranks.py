"""Start the processes that train one network together, and end them together."""

import ctypes
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from uuid import uuid4

from unet_core.config import Resources, TrainConfig
from unet_core.errors import ConfigError, Interrupted, RankError
from unet_core.run.nodes import address_of
from unet_core.run.steps import asked_to_end

log = logging.getLogger(__name__)

_ENDS_S = 60
"""For a step and the saving of the state, or for what waits for a process that is lost."""

_LOOKS_EVERY_S = 0.2


def of_a_node(resources: Resources) -> int:
    """Processes of a node: one for each of its GPUs, else one."""
    return max(1, resources.gpus // resources.nodes)


def start_ranks(config: TrainConfig, resources: Resources, arguments: Sequence[str]) -> bool:
    """Run `unet-core ARGUMENTS...` in a process for each GPU, or for each node, and wait for them.

    On several nodes they are one step of this Slurm job. They meet at a port of this node; what
    they say to each other is neither encrypted nor signed, as that of any `torchrun`.

    Returns
    -------
    bool
        False where this process is one of them or alone: it has to train itself.

    Raises
    ------
    ConfigError
        If they cannot share a batch equally.
    Interrupted
        If this process was asked to end: so were they, and their state is saved.
    RankError
        If one ended badly; the others were ended.
    """
    count = of_a_node(resources) * resources.nodes
    if count == 1 or "TORCHELASTIC_RUN_ID" in os.environ:
        return False
    refuse_uneven(config, count)
    threads = str(max(1, resources.threads // of_a_node(resources)))
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": threads,
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(_ENDS_S),
    }
    with asked_to_end() as ending:
        process = subprocess.Popen(
            [*_command(resources), *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )
        told = False
        while process.poll() is None:
            time.sleep(_LOOKS_EVERY_S)
            if ending() and not told:
                told = True
                process.terminate()
    if process.returncode and told:
        raise Interrupted("asked to end: the same command goes on from the last state saved")
    if process.returncode:
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


def _command(resources: Resources) -> list[str]:
    each = of_a_node(resources)
    torchrun = [sys.executable, "-m", "torch.distributed.run"]
    torchrun += ["--nproc-per-node", str(each), "--max-restarts", "0"]
    if resources.nodes == 1:
        return [*torchrun, "--standalone", "-m", "unet_core.cli"]
    host, nodes = address_of(resources.interface), str(resources.nodes)
    with socket.socket() as any_port:
        any_port.bind((host, 0))
        port = any_port.getsockname()[1]
    torchrun += ["--nnodes", nodes, "--rdzv-backend", "c10d", "--rdzv-id", uuid4().hex]
    torchrun += ["--rdzv-endpoint", f"{host}:{port}"]
    srun = ["srun", "--nodes", nodes, "--ntasks", nodes, "--ntasks-per-node=1", "--exact"]
    srun += ["--mpi=none", "--input=none", "--kill-on-bad-exit=1"]
    srun += [f"--cpus-per-task={resources.threads}", f"--mem={resources.of_a_node.memory_mb}"]
    srun += [f"--gpus-per-node={each}"] if resources.gpus else []
    return [*srun, *torchrun, "-m", "unet_core.cli"]


def _end_with_parent() -> None:
    """Between fork and exec of a process: SIGTERM when this one is gone."""
    if (prctl := getattr(ctypes.CDLL(None), "prctl", None)) is not None:  # Linux
        prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
