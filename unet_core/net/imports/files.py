"""Files of weights of other systems, read without running what is in them."""

import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from unet_core.errors import CheckpointError
from unet_core.net.checkpoint import Checkpoint, checkpoint_of

KERAS = (".h5", ".hdf5", ".keras")
"""Endings of files that hold arrays and are no matter of torch."""

_PICKLE = b"\x80"
"""First byte of files of torch from before they were archives (b"PK")."""

_PROGRAM = "TorchScript"

_NAMED = re.compile(r"GLOBAL ([\w.]+)")
"""What a file would call, as torch says."""


def read_foreign(path: Path) -> dict[str, Any] | Checkpoint:
    """What a file of torch or safetensors holds, on the CPU; a checkpoint of this program as such.

    Raises
    ------
    CheckpointError
        If it is absent, damaged, or holds code.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; give a file of weights")
    if path.suffix == ".safetensors":
        try:
            return dict(safetensors.torch.load_file(path))
        except (safetensors.SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} is no safetensors file, or damaged: {error}") from None
    with path.open("rb") as file:
        begins = file.read(2)
    if begins != b"PK" and begins[:1] != _PICKLE:
        raise _damaged(path)
    try:
        with warnings.catch_warnings(action="ignore"):  # of what is refused here
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = next((n for n in _NAMED.findall(str(error))), "unknown")
        raise CheckpointError(
            f"{path} was refused: it holds code besides tensors ({reason}); where you trust it, "
            "save its weights alone, torch.save(network.state_dict(), path), or as safetensors"
        ) from None
    except RuntimeError as error:
        if _PROGRAM in str(error):
            raise CheckpointError(
                f"{path} was refused: it is a {_PROGRAM} archive, which is code; save its weights "
                "alone, torch.save(network.state_dict(), path), or as safetensors"
            ) from None
        raise _damaged(path, f" ({error})") from None
    except (EOFError, OSError, ValueError, LookupError) as error:
        raise _damaged(path, f" ({error})") from None
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}; a state dict is needed, which maps names to "
            "tensors"
        )
    # Ours are archives.
    ours = begins == b"PK" and {"format", "normalise", "state"} <= content.keys()
    return checkpoint_of(content, path) if ours else content


def _damaged(path: Path, why: str = "") -> CheckpointError:
    return CheckpointError(
        f"{path} is damaged, or no file of torch{why}; known are .pt, .pth, .safetensors, "
        f"{', '.join(KERAS)}"
    )
