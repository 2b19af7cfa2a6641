"""Files of weights: written whole or not at all, read without running what is in them."""

import json
import os
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unet_core.config import NetworkConfig, load
from unet_core.config.networks.cost import parameters
from unet_core.errors import CheckpointError, ConfigError
from unet_core.geometry import Zyx
from unet_core.net.network import Network
from unet_core.provenance import digest_of

FORMAT = 1
_SHOWN = 8


@dataclass(frozen=True)
class Checkpoint:
    """All that inference needs to know of a trained network."""

    model: NetworkConfig
    """Its architecture."""

    normalise: str
    """How intensities were normalised (`AugmentConfig.normalise`)."""

    state: Mapping[str, Tensor]
    """Its weights, by name, on the CPU."""

    patch: Zyx | None = None
    """Voxels (z, y, x) of the patches it was trained on; None: not known."""

    @property
    def content(self) -> str:
        """Digest of the weights: names, shapes, types and values."""
        return state_digest(self.state)

    def network(self) -> Network:
        """The network, in inference mode, float32, on the CPU.

        Raises
        ------
        CheckpointError
            If the weights are not those of the architecture.
        """
        with torch.device("meta"):
            network = Network.of(self.model)
        fill(network, self.state, assign=True)
        return network.eval()


def described(
    made: Checkpoint, origin: Mapping[str, Any], *, step: int, steps: int, scores: Mapping[str, Any]
) -> dict[str, Any]:
    """What ``model.json`` says of a checkpoint: what it is, and of which step of how many."""
    return {
        "format": FORMAT,
        "model": asdict(made.model),
        "normalise": made.normalise,
        "patch": made.patch,
        "parameters": parameters(made.model),
        "step": step,
        "steps": steps,
        "scores": dict(scores),
        "provenance": {**origin, "content": made.content},
    }


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write `best.pt`; equal checkpoints give equal bytes."""
    write_state(
        path,
        {
            "format": FORMAT,
            # Every value an object of its own: pickle writes twice the same one in another way
            # than two equal ones, and which they are depends on where the settings came from.
            "model": json.loads(json.dumps(asdict(checkpoint.model))),
            "normalise": checkpoint.normalise,
            "patch": checkpoint.patch,
            "state": {name: tensor.detach().cpu() for name, tensor in checkpoint.state.items()},
        },
    )


def read_checkpoint(path: Path) -> Checkpoint:
    """Read `best.pt`.

    Raises
    ------
    CheckpointError
        If it is absent, damaged, not of this program, or holds more than tensors and settings.
    """
    return checkpoint_of(read_state(path), path)


def checkpoint_of(content: Mapping[str, Any], path: Path) -> Checkpoint:
    """The checkpoint that was read from `path`; raises as `read_checkpoint`."""
    missing = {"format", "model", "normalise", "state"} - content.keys()
    if missing or content["format"] != FORMAT:
        raise CheckpointError(
            f"{path} is not a network of this program (format {content.get('format')!r}, needed "
            f"{FORMAT}; missing: {', '.join(sorted(missing)) or 'nothing'}); train it again"
        )
    try:
        model = load(NetworkConfig, content["model"], section="model")
    except ConfigError as error:
        raise CheckpointError(
            f"{path} holds an architecture that cannot be built: {error}"
        ) from None
    patch = content.get("patch")  # the one key that a file may lack
    return Checkpoint(
        model, str(content["normalise"]), content["state"], None if patch is None else tuple(patch)
    )


def write_state(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain values under another name, force them to disk, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        try:
            torch.save(dict(content), file)
        except RuntimeError as error:  # of its own end, where the file took no more
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def read_state(path: Path) -> dict[str, Any]:
    """Read tensors and plain values, onto the CPU; nothing in the file is executed."""
    if not path.exists():
        raise CheckpointError(f"{path} does not exist; train the model first")
    if not zipfile.is_zipfile(path):
        raise CheckpointError(
            f"{path} was refused: it is damaged or no checkpoint; use a file that `unet-core "
            "train` wrote, or delete it and train again"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"{path} was refused: it holds code besides tensors ({reason}); use a file that "
            "`unet-core train` wrote"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, LookupError) as error:
        raise CheckpointError(
            f"{path} is damaged or no checkpoint ({error}); delete it and train again"
        ) from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is not a checkpoint: it holds a {type(content).__name__}")
    return content


def fill(network: nn.Module, state: Mapping[str, Any], *, assign: bool = False) -> None:
    """Put `state` into `network`.

    Raises
    ------
    CheckpointError
        If names or shapes differ, listing the differences.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    given = {
        name: tuple(value.shape) if isinstance(value, Tensor) else None
        for name, value in state.items()
    }
    differences = [
        f"{name}: needed {wanted.get(name, 'nothing')}, given {given.get(name, 'nothing')}"
        for name in {**wanted, **given}
        if wanted.get(name) != given.get(name)
    ]
    if differences:
        shown = "\n  ".join(differences[:_SHOWN])
        raise CheckpointError(
            f"the weights are not those of the network, {len(differences)} tensors differ:\n  "
            f"{shown}\nuse the settings under model: that the weights were trained with"
        )
    network.load_state_dict(state, assign=assign)


def state_digest(state: Mapping[str, Tensor]) -> str:
    """Digest of tensors: names, shapes, types and values."""
    parts: list[bytes | memoryview] = []
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        parts.append(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        parts.append(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest_of(parts)
