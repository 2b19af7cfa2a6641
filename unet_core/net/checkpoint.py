"""Files of weights: written whole or not at all, read without running what is in them."""

import json
import os
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
from unet_core.net.torch_files import read_torch
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

    offsets: tuple[Zyx, ...] = ()
    """Of the affinities that it predicts: class n, from 1, is that of the n-th; none: classes."""

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
        **_told_offsets(made),
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
            **_told_offsets(checkpoint),
            "state": {name: tensor.detach().cpu() for name, tensor in checkpoint.state.items()},
        },
    )


def _told_offsets(checkpoint: Checkpoint) -> dict[str, Any]:
    offsets = [list(offset) for offset in checkpoint.offsets]
    return {"affinities": offsets} if offsets else {}


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
            f"{FORMAT}; missing: {', '.join(sorted(missing)) or 'nothing'}); train it again, or "
            "make it of another program's checkpoint with `unet-core import`"
        )
    try:
        model = load(NetworkConfig, content["model"], section="model")
    except ConfigError as error:
        raise CheckpointError(
            f"{path} holds an architecture that cannot be built: {error}"
        ) from None
    # A file may lack these keys.
    patch, offsets = content.get("patch"), content.get("affinities") or []
    if len(offsets) not in (0, model.classes - 1):
        raise CheckpointError(
            f"{path} names {len(offsets)} affinities of a network with {model.classes} classes, "
            "one less is needed; train it again"
        )
    return Checkpoint(
        model,
        str(content["normalise"]),
        content["state"],
        None if patch is None else tuple(patch),
        tuple((z, y, x) for z, y, x in offsets),
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
    """Read tensors and plain values, onto the CPU; nothing in the file is executed.

    Raises
    ------
    CheckpointError
        If it is absent, damaged, or holds more.
    """
    if not path.exists():
        raise CheckpointError(f"{path} does not exist; train the model first")
    content = read_torch(
        path,
        if_code="use a file that `unet-core train` wrote",
        if_damaged="delete it and train again",
    )
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
