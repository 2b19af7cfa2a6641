"""What a system of others is known by, and how its weights become ours."""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from unet_core.config.networks.build import graph_of
from unet_core.config.networks.graph import Graph
from unet_core.config.networks.layers import Layer
from unet_core.config.networks.settings import NetworkConfig
from unet_core.errors import CheckpointError
from unet_core.net.network import Network, on_meta

State = Mapping[str, Tensor]
"""Tensors by name: float32, without counters and without wrappers."""

Returns = Literal["logits", "sigmoid", "softmax"]
"""What the network of others makes of its logits itself."""

MOST = 16
"""Levels of a network and convolutions of a block, at most: keys with more are of none."""

_SHOWN = 8


@dataclass(frozen=True)
class Translation:
    """Weights of others as weights of ours."""

    config: NetworkConfig
    """The preset with the channels, classes and widths of the weights."""

    state: State
    """By our names; counters of batches are left out."""

    returns: Returns


@dataclass(frozen=True)
class Source:
    """A system whose checkpoints can be read."""

    name: str
    """As people call it, for messages."""

    recognises: Callable[[Collection[str]], float]
    """The share (0 to 1) of keys that are of the kind this system has; the largest wins, below
    one half none does."""

    presets: Callable[[State], tuple[str, ...]]
    """The presets that the keys and shapes leave: one, or a choice that the user has to make."""

    translate: Callable[[State, NetworkConfig], Translation]
    """The weights by our names; `CheckpointError` where they do not fit (see `matched`)."""

    ignores: str = "(?!)"
    """Regular expression of whole keys of no use to us, such as classifiers."""

    itself: Callable[[State], nn.Module] | None = None
    """The network where no preset is named, and what it returns is no map."""

    by_name: tuple[str, ...] = ()
    """Further presets with these keys, rarer than `presets`: taken only where they are named."""


def share(pattern: str) -> Callable[[Collection[str]], float]:
    """The share of keys that match a regular expression as a whole."""
    compiled = re.compile(pattern)
    return lambda keys: sum(map(bool, map(compiled.fullmatch, keys))) / max(1, len(keys))


def extent(state: State, key: str, axis: int, otherwise: int) -> int:
    """Entries of a tensor along an axis; `otherwise` where it is missing or has no such axis.

    What is missing is told by `matched`, all at once.
    """
    shape = state[key].shape if key in state else ()
    return shape[axis] if len(shape) > axis else otherwise


def highest(state: State, pattern: str) -> int:
    """The largest number, `MOST` at most, in the keys of this pattern; -1 where there is none."""
    found = (re.fullmatch(pattern, key) for key in state)
    return max((min(int(match[1]), MOST) for match in found if match), default=-1)


def with_outputs(config: NetworkConfig, outputs: int) -> NetworkConfig:
    """The settings with `outputs` logits; a single one is the probability of class 1."""
    if outputs == 1 or config.output == "sigmoid":
        return replace(config, classes=outputs + 1, output="sigmoid")
    return replace(config, classes=outputs)


def names_of(blocks: Mapping[str, str], parts: Mapping[int, str]) -> dict[str, str]:
    """Our names of the layers of some blocks, ``block.i``, and theirs: block and part together."""
    return {
        f"{ours}.{i}": f"{theirs}{part}"
        for ours, theirs in blocks.items()
        for i, part in parts.items()
    }


@dataclass(frozen=True)
class Entry:
    """Where others keep one tensor of a layer."""

    suffix: str
    """What follows the name of the layer, the divider included: ``.weight``."""

    axes: tuple[int, ...] | None = None
    """Which of their axes each of ours is; None: the same."""


class Dialect(Protocol):
    """Where a system keeps the tensors of a layer: ours is called `name` (weight, bias, ...)."""

    def __call__(self, layer: Layer, name: str) -> Entry:
        """Their entry."""


def torch_entry(layer: Layer, name: str) -> Entry:
    """As torch's own modules have them."""
    return Entry(f".{name}")


def matched(
    state: State,
    config: NetworkConfig,
    names: Mapping[str, str],
    *,
    dialect: Dialect = torch_entry,
) -> dict[str, Tensor]:
    """The weights of a network by our names: `matched_to` of its graph."""
    return matched_to(state, graph_of(config), names, dialect=dialect)


def matched_to(
    state: State, graph: Graph, names: Mapping[str, str], *, dialect: Dialect = torch_entry
) -> dict[str, Tensor]:
    """The weights by our names.

    Parameters
    ----------
    state
        By their names.
    names
        Our name of every layer with weights to theirs.
    dialect
        What follows their names, and the order of their axes.

    Raises
    ------
    CheckpointError
        Listing what is missing, surplus and of a wrong shape, by their names.
    """
    layers = {node.name: node.layer for node in graph.nodes}
    found: dict[str, Tensor] = {}
    problems: list[str] = []
    wanted: set[str] = set()
    for ours, like in wanted_of(graph).items():
        module, _, name = ours.rpartition(".")
        entry = dialect(layers[module], name)
        theirs = names[module] + entry.suffix
        wanted.add(theirs)
        needed = _their_shape(like, entry.axes)
        if theirs not in state:
            problems.append(f"missing: {theirs} {needed}")
        elif tuple(state[theirs].shape) != needed:
            problems.append(
                f"wrong shape: {theirs} is {tuple(state[theirs].shape)}, needed is {needed}"
            )
        else:
            tensor = state[theirs]
            found[ours] = tensor if entry.axes is None else tensor.permute(entry.axes).contiguous()
    problems += [f"surplus: {key} {tuple(state[key].shape)}" for key in state if key not in wanted]
    if problems:
        raise CheckpointError(told(problems))
    return found


def wanted_of(graph: Graph) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights of a network, without counters of batches."""
    return {
        name: tuple(tensor.shape)
        for name, tensor in on_meta(graph).state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def loaded(graph: Graph, state: State) -> Network:
    """The network with its weights, in eval mode; counters of batches begin at 0."""
    network = on_meta(graph)
    counters = {
        name: torch.zeros((), dtype=torch.long)
        for name in network.state_dict()
        if name.endswith("num_batches_tracked")
    }
    # Copies: training the network leaves the checkpoint as it is.
    weights = {name: tensor.clone() for name, tensor in state.items()}
    network.load_state_dict({**weights, **counters}, assign=True)
    return network.eval()


def layers_of(config: NetworkConfig) -> set[str]:
    """Names of the layers of a network that have weights."""
    return {name.rpartition(".")[0] for name in wanted_of(graph_of(config))}


def told(problems: Collection[str]) -> str:
    """Differences, one per line, and how many more there are."""
    shown = list(problems)[:_SHOWN]
    more = len(problems) - len(shown)
    return "\n  ".join([*shown, f"and {more} more"] if more else shown)


def _their_shape(ours: tuple[int, ...], axes: tuple[int, ...] | None) -> tuple[int, ...]:
    if axes is None:
        return ours
    theirs = [0] * len(axes)
    for here, there in enumerate(axes):
        theirs[there] = ours[here]
    return tuple(theirs)
