"""State dicts of this program's own networks, without the settings that a checkpoint of it has."""

import re
from dataclasses import replace
from itertools import accumulate

from unet_core.config.networks.build import graph_of
from unet_core.config.networks.graph import Graph
from unet_core.config.networks.layers import Convolution
from unet_core.config.networks.settings import NetworkConfig
from unet_core.config.presets import FAMILY, PRESETS, read_network
from unet_core.errors import ConfigError
from unet_core.net.imports.backbones import NAMES, OURS
from unet_core.net.imports.source import (
    Source,
    State,
    Translation,
    extent,
    layers_of,
    matched,
    share,
    wanted_of,
    with_outputs,
)


def _presets(state: State) -> tuple[str, ...]:
    """All presets with such keys, those alone that have such shapes if there are any."""
    folders = {folder for key in state for folder in accumulate(key.split("."), "{}.{}".format)}
    alike: dict[str, bool] = {}
    names = _names(state)
    for name in names:
        config = read_network(PRESETS / f"{name}.yaml")
        try:
            nodes = graph_of(config).nodes
        except ConfigError:  # a backbone that not every network can have
            continue
        if not folders.issuperset(node.name for node in nodes if node.layer.parameters):
            continue
        if wanted_of(graph_of(config)).keys() == state.keys():
            fitted = wanted_of(graph_of(_fitted(state, config)))
            alike[name] = all(fitted[key] == tuple(state[key].shape) for key in fitted)
    return tuple(n for n in alike if alike[n]) or tuple(alike) or tuple(names)


def _names(state: State) -> list[str]:
    """All presets; those with the backbones of a family where the weights have one."""
    files = sorted(path.stem for path in PRESETS.glob("*.yaml"))
    names = [name for name in files if FAMILY not in name]
    if any(re.match(rf"{re.escape(OURS)}[a-z]", key) for key in state):
        families = [name.removesuffix(FAMILY) for name in files if name.endswith(FAMILY)]
        names += [family + encoder for family in families for encoder in NAMES]
    return names


def _translate(state: State, config: NetworkConfig) -> Translation:
    config = _fitted(state, config)
    names = {name: name for name in layers_of(config)}
    return Translation(config, matched(state, config, names), "logits")


def _fitted(state: State, config: NetworkConfig) -> NetworkConfig:
    """The settings with the channels and classes of the weights."""
    graph = graph_of(config)
    first = next(node.name for node in graph.nodes if isinstance(node.layer, Convolution))
    channels = extent(state, f"{first}.weight", 1, config.inputs)
    outputs = extent(state, f"{_last(graph)}.weight", 0, config.outputs)
    return replace(with_outputs(config, outputs), channels=channels // config.sections)


def _last(graph: Graph) -> str:
    """The last layer with weights on the way to the logits."""
    return [node.name for node in graph.nodes if node.layer.parameters][-1]


SOURCE = Source(
    "this program",
    share(
        r"(encoder|bottom|head|auxiliary|first|last|pyramid|skip|fused"
        r"|(decoder|ups?|nodes|heads|levels|down)\.\d\w*)\..+"
    ),
    _presets,
    _translate,
)
