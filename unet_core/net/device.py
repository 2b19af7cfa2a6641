"""Which device and number type this process computes with; the one file that knows hardware."""

import os
from typing import Literal

import torch

from unet_core.errors import PlanError


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


def choose_device(gpus: int) -> torch.device:
    """The GPU that the job was given, or the CPU; see `usable_gpus`.

    Raises
    ------
    PlanError
        If a GPU was asked for and there is none.
    """
    if not usable_gpus(gpus):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise PlanError(
            f"the job was given {gpus} GPU(s), but torch {torch.__version__} finds none; install "
            "a build of torch for the GPU's driver, or run with --gpus 0"
        )
    return torch.device("cuda", 0)


def choose_dtype(
    precision: Literal["auto", "float32", "bfloat16"], device: torch.device
) -> torch.dtype:
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
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # Emulated bfloat16, which torch also reports as supported, is slower than float32.
    known: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(known.get(name) for name in ("avx512_bf16", "amx_bf16"))
