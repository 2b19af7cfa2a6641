"""Files of weights of other systems, read without running what is in them."""

from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch

from unet_core.errors import CheckpointError
from unet_core.net.checkpoint import Checkpoint, read_checkpoint
from unet_core.net.torch_files import Opaque, read_torch

KERAS = (".h5", ".hdf5", ".keras")
"""Endings of files that hold arrays and are no matter of torch."""

_ALONE = "save its weights alone, torch.save(network.state_dict(), path), or as safetensors"


def read_foreign(path: Path) -> dict[str, Any] | Checkpoint:
    """What a file of torch or safetensors holds, on the CPU; a checkpoint of this program as such.

    Raises
    ------
    CheckpointError
        If it is absent, damaged, or holds code, or a network instead of its weights.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; give a file of weights")
    if path.suffix == ".safetensors":
        try:
            return dict(safetensors.torch.load_file(path))
        except (safetensors.SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} is no safetensors file, or damaged: {error}") from None
    content = read_torch(
        path,
        if_code=f"where you trust it, {_ALONE}",
        if_damaged=f"known are .pt, .pth, .safetensors, {', '.join(KERAS)}",
        objects=True,
    )
    if not isinstance(content, dict):
        kind = content.name if isinstance(content, Opaque) else type(content).__name__
        raise CheckpointError(
            f"{path} holds a {kind}; a state dict is needed, which maps names to tensors: {_ALONE}"
        )
    if {"format", "normalise", "state"} <= content.keys():
        return read_checkpoint(path)
    return content
