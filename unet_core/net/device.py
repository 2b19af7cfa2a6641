"""Which device and number type this process computes with; the one file that knows hardware."""

import os
import subprocess
import sys
from functools import lru_cache
from typing import Literal

import torch

from unet_core.errors import PlanError

Number = Literal["float32", "bfloat16"]
Precision = Literal["auto"] | Number

_BFLOAT16 = 8, 0
"""Compute capability from which a GPU computes bfloat16 natively."""


def usable_gpus(gpus: int) -> int:
    """Those of the job's GPUs that networks compute with: all, or none with UNET_DEVICE=cpu.

    With that variable the set-up of a cluster can be tried where its GPUs are absent or busy: jobs
    ask for GPUs and are given them, a worker is started for each, and all compute on the CPU.

    Raises
    ------
    PlanError
        If UNET_DEVICE is set to anything but cpu.
    """
    if not (asked := os.environ.get("UNET_DEVICE")):
        return gpus
    if asked != "cpu":
        raise PlanError(
            f"the environment variable UNET_DEVICE is {asked!r}; set it to cpu, or unset it to "
            "compute with the GPUs that the job is given"
        )
    return 0


def choose_device(gpus: int, *, number: int = 0) -> torch.device:
    """A GPU that the job was given on this node, or the CPU; see `usable_gpus`.

    `number`: of a process among several on this node, which may each see all GPUs or its own.

    Raises
    ------
    PlanError
        If a GPU was asked for and there is none.
    """
    if not _has_gpus(gpus):
        return torch.device("cpu")
    device = torch.device("cuda", number % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


def _has_gpus(gpus: int) -> bool:
    if not usable_gpus(gpus):
        return False
    if not torch.cuda.is_available():
        raise PlanError(
            f"the job was given {gpus} GPU(s), but torch {torch.__version__} finds none; install "
            "a build of torch for the GPU's driver, or run with --gpus 0"
        )
    return True


def precision_for(precision: Precision, gpus: int, *, here: bool = True) -> Number:
    """What `precision` stands for on the devices of this job: float32 or bfloat16.

    `here`: it is computed on this machine or, by steps of this job, on ones like it.

    With several GPUs, which processes of their own compute with, none is opened in this one: that
    would keep some hundred MB of the first from its worker.

    Raises
    ------
    PlanError
        If a GPU was asked for and there is none, or auto stands for what is not known here.
    """
    if not here and usable_gpus(gpus):
        if precision == "auto":
            raise PlanError(
                "infer.precision is auto, but the workers' GPUs are those of jobs of their own, "
                "which are not known here; set it to bfloat16 (GPUs from 2020 on) or float32"
            )
        return precision
    there = _has_gpus(gpus)
    if precision != "auto":
        return precision
    if there and gpus > 1:
        return "bfloat16" if capability_elsewhere() >= _BFLOAT16 else "float32"
    device = torch.device("cuda", 0) if there else torch.device("cpu")
    return "bfloat16" if _has_bfloat16(device) else "float32"


@lru_cache(maxsize=1)
def capability_elsewhere() -> tuple[int, int]:
    """Of the first GPU, as a short-lived process of its own is told.

    Raises
    ------
    PlanError
        If that process finds none.
    """
    asked = "import torch; print(*torch.cuda.get_device_capability(0))"
    told = subprocess.run([sys.executable, "-c", asked], text=True, capture_output=True)
    if told.returncode:
        last = told.stderr.strip().splitlines()[-1:]
        raise PlanError(
            f"the first GPU of this job cannot be opened ({' '.join(last)}); look at nvidia-smi, "
            "or set infer.precision to float32 or bfloat16"
        )
    major, minor = map(int, told.stdout.split())
    return major, minor


def choose_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """Number type of the convolutions; auto: bfloat16 where the device computes it natively."""
    if precision == "auto":
        return torch.bfloat16 if _has_bfloat16(device) else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]


def prepare(device: torch.device, *, threads: int) -> None:
    """Make this process compute with `threads` CPU threads, and the same on every run.

    Kernels are the deterministic ones where there is a choice; float32 on a GPU is float32 (no
    TF32).
    """
    torch.set_num_threads(threads)
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
    else:
        # As `use_deterministic_algorithms(True)`, which besides imports torch's compiler: a second.
        torch.set_deterministic_debug_mode("error")
        # Else every new tensor is filled with NaN before it is written.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def keep_threads() -> None:
    """Let the calling thread of this process compute with the CPU threads that `prepare` set.

    In a new one OpenMP has its own number of them, until torch is asked for its.
    """
    torch.get_num_threads()


def memory_format(dimensions: int) -> torch.memory_format:
    """Channels last: 1.3 to 2.8 times as fast as channels first on CPUs, and no slower on GPUs."""
    return torch.channels_last_3d if dimensions == 3 else torch.channels_last


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= _BFLOAT16
    # Emulated bfloat16, which torch also reports as supported, is slower than float32.
    known: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(known.get(name) for name in ("avx512_bf16", "amx_bf16"))
