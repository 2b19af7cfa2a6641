"""Checkpoints of other systems: recognised by their keys, translated into networks of ours."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unet_core.config.networks.build import graph_of
from unet_core.config.networks.settings import NetworkConfig
from unet_core.config.presets import PRESETS, read_network
from unet_core.errors import CheckpointError
from unet_core.net.imports import (
    fcn,
    freiburg,
    jakeoung,
    keras,
    mateuszbuda,
    milesial,
    mmseg,
    nnunet,
    own,
    pytorch3dunet,
    smp,
    torchvision,
    unet_family,
    unetpp,
    vnet,
)
from unet_core.net.imports.source import Returns, Source, State, Translation, loaded
from unet_core.net.imports.stem import adapted
from unet_core.net.torch_files import Opaque

SOURCES: tuple[Source, ...] = (
    keras.SOURCE,
    milesial.SOURCE,
    jakeoung.SOURCE,
    unet_family.SOURCE,
    unetpp.SOURCE,
    mateuszbuda.SOURCE,
    freiburg.SOURCE,
    mmseg.SOURCE,
    smp.SOURCE,
    torchvision.SOURCE,
    fcn.SOURCE,
    pytorch3dunet.SOURCE,
    vnet.SOURCE,
    nnunet.SOURCE,
    own.SOURCE,
)
"""All systems whose checkpoints can be read; of several with all keys, the first is taken."""

WRAPPERS = ("state_dict", "network_weights", "model_state_dict", "model_state", "model")
"""Entries of a checkpoint that hold the weights."""

PREFIXES = ("module.", "_orig_mod.", "model.", "net.")
"""What data-parallel and compiled networks, and trainers, put before all their keys."""


@dataclass(frozen=True)
class Foreign:
    """A network of others, as ours."""

    source: str
    """The system it comes from."""

    preset: str
    config: NetworkConfig
    state: State
    """By our names, without counters of batches."""

    returns: Returns

    def network(self) -> nn.Module:
        """The network in eval mode, float32: its logits."""
        return loaded(graph_of(self.config), self.state)


class Finished(nn.Module):
    """A network and what the original makes of its logits."""

    def __init__(self, network: nn.Module, returns: Returns) -> None:
        super().__init__()
        self.network, self.returns = network, returns

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, [z,] y, x) -> (n, outputs, [z',] y', x')."""
        logits: Tensor = self.network(x)
        if self.returns == "sigmoid":
            return torch.sigmoid(logits)
        return torch.softmax(logits, dim=1) if self.returns == "softmax" else logits


def load_foreign(state_dict: Mapping[str, Any], *, preset: str | None = None) -> nn.Module:
    """The network of a checkpoint of another system, in eval mode.

    Parameters
    ----------
    state_dict
        Tensors or arrays by the keys that the original's file has (of Keras: ``layer/weight``,
        channels last), also inside of the entries that trainers wrap them in.
    preset
        A file of config/models without its ending; needed only where the keys leave a choice.

    Returns
    -------
    nn.Module
        (n, channels, [z,] y, x) float32 -> what the original returns for it; where that is a list
        of pixels (image-segmentation-keras), the map they are of: (n, classes, y, x).

    Raises
    ------
    CheckpointError
        If no system has such keys; if keys are missing, surplus or of wrong shapes, listing them;
        if the keys leave a choice, listing it.
    """
    state = cleaned(state_dict)
    itself = _source_of(state).itself
    if itself is not None and preset is None:
        return itself(state).eval()
    foreign = translated(state, preset=preset)
    # Ours repeat logits of half the size where the original leaves them.
    foreign = replace(foreign, config=replace(foreign.config, full_size=False))
    return Finished(foreign.network(), foreign.returns).eval()


def translated(
    state_dict: Mapping[str, Any],
    *,
    preset: str | None = None,
    channels: int | None = None,
    presets: Path = PRESETS,
) -> Foreign:
    """The settings and weights of a checkpoint of another system, as ours.

    Parameters
    ----------
    state_dict, preset
        As of `load_foreign`.
    channels
        Of the raw volume; the first layer is adapted to them where it has others
        (`unet_core.net.imports.stem.adapted`). None: those of the checkpoint.
    presets
        Folder of the presets.

    Raises
    ------
    CheckpointError
        As of `load_foreign`.
    """
    state = cleaned(state_dict)
    source = _source_of(state)
    state = {key: value for key, value in state.items() if not re.fullmatch(source.ignores, key)}
    chosen = _chosen(source, state, preset)
    try:
        done = source.translate(state, read_network(presets / f"{chosen}.yaml"))
    except (CheckpointError, ValueError) as error:  # ValueError: settings from shapes of none
        raise CheckpointError(
            f"the checkpoint looks like one of {source.name}, but differs from what preset "
            f"{chosen} needs:\n  {error}"
        ) from None
    if channels is not None:
        done = _with_channels(done, channels)
    return Foreign(source.name, chosen, done.config, done.state, done.returns)


def cleaned(state_dict: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights alone, float32: without wrappers, counters, and lists of mask values.

    Raises
    ------
    CheckpointError
        If an entry is no tensor.
    """
    inner = _unwrapped(state_dict)
    if not (isinstance(inner, Mapping) and inner):
        raise CheckpointError(f"a state dict maps names to tensors; got {_kind(inner)}")
    found = {str(key): value for key, value in inner.items()}
    while prefix := _prefix_of([key for key in found if key != "mask_values"]):
        found = {key.removeprefix(prefix): value for key, value in found.items()}
    return {
        key: _tensor(key, value)
        for key, value in found.items()
        if not key.endswith("num_batches_tracked") and key != "mask_values"
    }


def _unwrapped(state_dict: Any) -> Any:
    """The innermost entry that trainers have put the weights in."""
    inner = state_dict
    while isinstance(inner, Mapping):
        key = next((k for k in WRAPPERS if isinstance(inner.get(k), Mapping | Opaque)), None)
        if key is None:
            break
        if isinstance(inner[key], Opaque):
            raise _no_weights(key, inner[key])
        inner = inner[key]
    return inner


def _prefix_of(keys: Sequence[str]) -> str:
    """What stands before all keys, and is no part of them; empty where nothing does."""
    common = (prefix for prefix in PREFIXES if all(key.startswith(prefix) for key in keys))
    return next(common, "") if keys else ""


def _tensor(key: str, value: Any) -> Tensor:
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
        value = torch.from_numpy(np.ascontiguousarray(value, dtype=np.float32))
    if not isinstance(value, Tensor):
        raise _no_weights(key, value)
    if value.is_complex() or value.is_quantized or value.layout != torch.strided:
        raise CheckpointError(
            f"entry {key} of the checkpoint is a tensor of {value.dtype}, {value.layout}; weights "
            "are dense tensors of real numbers"
        )
    return value.detach().to("cpu", torch.float32)


def _no_weights(key: str, value: Any) -> CheckpointError:
    return CheckpointError(
        f"entry {key} of the checkpoint is {_kind(value)}; weights are tensors or arrays of "
        "numbers: save the state dict alone, torch.save(network.state_dict(), path)"
    )


def _kind(value: Any) -> str:
    if isinstance(value, Opaque):
        return f"an object, {value.name}"
    return "nothing" if value == {} else f"of type {type(value).__name__}"


def _source_of(state: State) -> Source:
    """The system with such keys."""
    best = max(SOURCES, key=lambda source: source.recognises(state))
    if best.recognises(state) < 0.5:
        some = ", ".join(list(state)[:4])
        raise CheckpointError(
            f"the {len(state)} keys ({some}, ...) are those of no system that can be read; there "
            f"are: {'; '.join(source.name for source in SOURCES)}"
        )
    return best


def _chosen(source: Source, state: State, preset: str | None) -> str:
    """The preset of a checkpoint."""
    choices = source.presets(state)
    if preset is None and len(choices) == 1:
        return choices[0]
    if preset in (*choices, *source.by_name):
        return str(preset)
    if preset is None:
        raise CheckpointError(
            f"the keys are those of {source.name}, and leave a choice; name one of the presets "
            f"{', '.join(choices)} (pretrained.preset, or --preset)"
        )
    raise CheckpointError(
        f"preset {preset} does not fit: the keys are those of {source.name}, preset "
        f"{' or '.join((*choices, *source.by_name))}"
    )


def _with_channels(done: Translation, channels: int) -> Translation:
    """Another number of channels of the raw volume."""
    if channels == done.config.channels:
        return done
    config = replace(done.config, channels=channels)
    state = adapted(done.state, graph_of(done.config), config.inputs)
    return replace(done, config=config, state=state)
