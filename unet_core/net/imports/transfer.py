"""Weights of one network as the beginning of another."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Literal

import torch
from torch import Tensor

from unet_core.config import NetworkConfig
from unet_core.config.networks.build import graph_of
from unet_core.config.networks.graph import Graph, Node
from unet_core.config.networks.layers import Dropout
from unet_core.errors import CheckpointError
from unet_core.net.checkpoint import Checkpoint
from unet_core.net.imports import cleaned
from unet_core.net.imports.source import layers_of, loaded, matched, told, wanted_of
from unet_core.net.imports.stem import first_convolutions
from unet_core.net.initial import initialise
from unet_core.net.network import Network


def reordered(found: Checkpoint, order: Sequence[int]) -> dict[str, Tensor]:
    """The weights for volumes of which channel ``order[i]`` is what channel i was.

    Raises
    ------
    CheckpointError
        If the network has another number of channels.
    """
    model = found.model
    if len(order) != model.channels:
        raise CheckpointError(
            f"pretrained.order {list(order)} names {len(order)} channels, the network has "
            f"{model.channels}; name each once"
        )
    # Channel order[i] is shown to the kernel that channel i was shown to.
    takes = torch.argsort(torch.tensor(order))
    inputs = (takes[:, None] * model.sections + torch.arange(model.sections)).flatten()
    state = dict(found.state)
    for name in first_convolutions(graph_of(model)):
        state[f"{name}.weight"] = state[f"{name}.weight"][:, inputs]
    return state


def own_state(state: Mapping[str, Any], model: NetworkConfig) -> dict[str, Tensor] | None:
    """The weights of a bare state dict of `model` itself; None where its names are others."""
    weights, graph = cleaned(state), graph_of(model)
    if weights.keys() != wanted_of(graph).keys():
        return None
    names = {name: name for name in layers_of(model)}
    return loaded(graph, matched(weights, model, names)).state_dict()


def begun(
    found: Checkpoint, model: NetworkConfig, *, part: Literal["network", "encoder"], seed: int
) -> Checkpoint:
    """A network `model` that begins with the weights `found`, or with those of its encoder.

    The rest is drawn from `seed`, as training does.

    Raises
    ------
    CheckpointError
        If the networks, or their encoders, differ; settings that do are listed.
    """
    theirs, ours = (_layers(graph_of(of), part) for of in (found.model, model))
    if theirs != ours:
        problems = _differences(found.model, model)
        raise CheckpointError(
            f"the weights are of another {part} than model: describes:\n  {told(problems)}\n"
            "change model: to that of the weights, or give other weights"
        )
    if part == "network":
        return replace(found, model=model)
    state = dict(initialise(Network.of(model), seed=seed).state_dict())
    encoder = graph_of(model).encoder
    kept = {key: found.state[key] for key in found.state if key.rpartition(".")[0] in encoder}
    return replace(found, model=model, state={**state, **kept}, offsets=())


def _layers(graph: Graph, part: str) -> list[Node]:
    """The layers that have to be the same, but for dropout, which changes no result."""
    if part == "encoder":
        within = (node for node in graph.nodes if node.name in graph.encoder)
        return [replace(node, inputs=()) for node in within if node.layer.parameters]
    dropped = {n.name: n.inputs[0] for n in graph.nodes if isinstance(n.layer, Dropout)}
    kept = (node for node in graph.nodes if node.name not in dropped)
    return [replace(n, inputs=tuple(dropped.get(i, i) for i in n.inputs)) for n in kept]


def _differences(given: NetworkConfig, needed: NetworkConfig) -> list[str]:
    here = asdict(needed)
    return [
        f"{key}: {value!r} of the weights, {here[key]!r} under model:"
        for key, value in asdict(given).items()
        if value != here[key] and not key.startswith("dropout")
    ]
