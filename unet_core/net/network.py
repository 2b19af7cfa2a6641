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
        self._arrange()

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

    def _arrange(self) -> None:
        """What to compute in which order, and which maps nothing reads any more."""
        wanted = {self.graph.output, *(name for name, _ in self.graph.auxiliary)}
        # Published weights hold layers that nothing reads.
        needed = self.graph.read_by(wanted)
        self._plan = []
        for node in self.graph.nodes:
            if node.name not in needed:
                continue
            done = {
                i for i in node.inputs if self.graph.last_use[i] == node.name and i not in wanted
            }
            self._plan.append((node.name, node.inputs, tuple(done)))

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
        """Maps of some nodes, by name; others are freed as soon as nothing reads them."""
        kept = {INPUT: x}
        del x
        missing = set(names)
        for name, inputs, done in self._plan:
            seen = [kept[i] for i in inputs]
            for i in done:
                if i not in names:
                    del kept[i]
            # Popped one by one by the layer: who held them to its end would hold the peak.
            kept[name] = _called(self.get_submodule(name), seen)
            missing.discard(name)
            if not missing:
                break
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
