"""State dicts of this program's own networks, without the settings that a checkpoint of it has."""

from dataclasses import replace

from unet_core.config.networks.build import graph_of
from unet_core.config.networks.graph import Graph
from unet_core.config.networks.settings import NetworkConfig
from unet_core.config.presets import FAMILY, PRESETS, read_network
from unet_core.net.imports.source import (
    Source,
    State,
    Translation,
    extent,
    matched,
    share,
    wanted_of,
    with_outputs,
)


def _presets(state: State) -> tuple[str, ...]:
    """All presets with such keys, those alone that have such shapes if there are any."""
    names = sorted(path.stem for path in PRESETS.glob("*.yaml") if FAMILY not in path.stem)
    modules = {key.rpartition(".")[0] for key in state}
    alike: dict[str, bool] = {}
    for name in names:
        config = read_network(PRESETS / f"{name}.yaml")
        weighed = {n.name for n in graph_of(config).nodes if n.layer.parameters}
        if weighed != modules:
            continue
        if wanted_of(graph_of(config)).keys() == state.keys():
            fitted = wanted_of(graph_of(_fitted(state, config)))
            alike[name] = all(fitted[key] == tuple(state[key].shape) for key in fitted)
    return tuple(n for n in alike if alike[n]) or tuple(alike) or tuple(names)


def _translate(state: State, config: NetworkConfig) -> Translation:
    config = _fitted(state, config)
    names = {key.rpartition(".")[0]: key.rpartition(".")[0] for key in wanted_of(graph_of(config))}
    return Translation(config, matched(state, config, names), "logits")


def _fitted(state: State, config: NetworkConfig) -> NetworkConfig:
    """The settings with the channels and classes of the weights."""
    graph = graph_of(config)
    first = next(node.name for node in graph.nodes if node.layer.parameters)
    channels = extent(state, f"{first}.weight", 1, config.inputs)
    outputs = extent(state, f"{_last(graph)}.weight", 0, config.outputs)
    return replace(with_outputs(config, outputs), channels=channels // config.sections)


def _last(graph: Graph) -> str:
    """The last layer with weights on the way to the logits."""
    return [node.name for node in graph.nodes if node.layer.parameters][-1]


SOURCE = Source(
    "this program",
    share(
        r"(encoder\.\d|bottom|decoder\.\d|nodes\.\d_\d)\.\d+\.\w+"
        r"|ups\.\d(_\d)?(\.convolution)?\.\w+|head\.(\d\.)?\w+|heads\.\d\.\w+"
    ),
    _presets,
    _translate,
)
