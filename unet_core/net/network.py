"""A network computed from its graph: the layers by name, one after the other."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from unet_core.config.networks.build import graph_of
from unet_core.config.networks.graph import INPUT, Graph
from unet_core.config.networks.layers import Activation
from unet_core.config.networks.live import IN_PLACE, overwriting
from unet_core.config.networks.settings import NetworkConfig
from unet_core.net.layers import made


class Network(nn.Module):
    """Logits: (n, inputs, [z,] y, x) -> (n, outputs, [z',] y', x').

    Layers with weights stand under the names of the graph's nodes, which are those of the state
    dict.
    """

    config: NetworkConfig
    """What it was made of, by `of`."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        over = overwriting(graph)
        for node in graph.nodes:
            module = made(node.layer)
            if isinstance(node.layer, Activation) and node.layer.kind in IN_PLACE:
                setattr(module, "inplace", node.name in over)  # noqa: B010  every kind has it
            _place(self, node.name, module)
        self._plans: dict[tuple[str, ...], list[tuple[str, tuple[str, ...], Sequence[str]]]] = {}

    @classmethod
    def of(cls, config: NetworkConfig) -> "Network":
        """The network that the settings describe.

        Raises
        ------
        ConfigError
            If settings contradict each other.
        """
        network = cls(graph_of(config))
        network.config = config
        return network

    def _plan(self, names: Sequence[str]) -> Sequence[tuple[str, tuple[str, ...], Sequence[str]]]:
        """What to compute for some maps, of which maps, and those that nothing reads after it."""
        key = tuple(names)
        if key not in self._plans:
            # Auxiliary logits are not always asked for; published weights hold layers that nothing
            # reads.
            needed = self.graph.read_by(set(names))
            nodes = [node for node in self.graph.nodes if node.name in needed]
            last = {name: node.name for node in nodes for name in node.inputs}
            self._plans[key] = [
                (
                    node.name,
                    node.inputs,
                    [i for i in set(node.inputs) if last[i] == node.name and i not in names],
                )
                for node in nodes
            ]
        return self._plans[key]

    def at(self, name: str) -> nn.Module:
        """The layer of a node."""
        return self.get_submodule(name)

    def put(self, name: str, module: nn.Module) -> None:
        """Let `module` compute a node."""
        folder, _, own = name.rpartition(".")
        self.get_submodule(folder).add_module(own, module)

    def forward(self, x: Tensor) -> Tensor:
        """The main logits."""
        return self.maps(x, [self.graph.output])[0]

    def outputs(self, x: Tensor) -> list[Tensor]:
        """The main logits, then the auxiliary ones, in the order of the graph."""
        return self.maps(x, [self.graph.output, *(name for name, _ in self.graph.auxiliary)])

    def maps(self, x: Tensor, names: Sequence[str]) -> list[Tensor]:
        """Logits by name of node; other maps are freed as soon as nothing reads them."""
        kept = {INPUT: x}
        del x
        for name, inputs, done in self._plan(names):
            seen = [kept[i] for i in inputs]
            for i in done:
                del kept[i]
            # Popped one by one by the layer: who held them to its end would hold the peak.
            kept[name] = _called(self.get_submodule(name), seen)
        return [kept[name] for name in names]


def _called(layer: nn.Module, seen: list[Tensor]) -> Tensor:
    if len(seen) == 1:
        return cast(Tensor, layer(seen.pop()))
    return cast(Tensor, layer(*seen))


def _place(root: nn.Module, path: str, module: nn.Module) -> None:
    """Put `module` where its name in the state dict is `path`."""
    *folders, name = path.split(".")
    for folder in folders:
        if not hasattr(root, folder):
            root.add_module(folder, nn.Module())
        root = root.get_submodule(folder)
    root.add_module(name, module)


def on_meta(graph: Graph) -> Network:
    """A network without memory for its weights, to be filled by `fill(..., assign=True)`."""
    with torch.device("meta"):
        return Network(graph)
