"""A network as a graph: layers by name, each with the names of what it reads."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from unet_core.config.networks.layers import (
    Activation,
    Axes,
    Convolution,
    Layer,
    Normalisation,
)
from unet_core.errors import ConfigError

INPUT = "input"
"""Name of what the network is shown."""


@dataclass(frozen=True)
class Node:
    """One layer of a network."""

    name: str
    """Unique; of layers with weights also their name in a checkpoint, parts divided by dots."""

    layer: Layer
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class Graph:
    """Layers in an order in which they can be computed."""

    dimensions: int
    inputs: int
    """Channels that the network is shown."""

    nodes: tuple[Node, ...]
    output: str
    """Name of the logits."""

    auxiliary: tuple[tuple[str, float], ...] = ()
    """Further logits that training looks at, and the weight of the loss of each."""

    main_weight: float = 1.0
    """Weight of the loss of `output` beside those of `auxiliary`."""

    encoder: frozenset[str] = frozenset()
    """Names of the nodes of the contracting path, the deepest level included, or of a backbone."""

    @cached_property
    def channels(self) -> Mapping[str, int]:
        """Channels of every map, by name."""
        known = {INPUT: self.inputs}
        for node in self.nodes:
            known[node.name] = node.layer.channels([known[name] for name in node.inputs])
        return known

    def read_by(self, names: Iterable[str]) -> set[str]:
        """What the maps of that name are made of, themselves included."""
        needed = set(names)
        for node in reversed(self.nodes):
            if node.name in needed:
                needed.update(node.inputs)
        return needed

    def without_auxiliary(self) -> "Graph":
        """What the main logits need, and nothing else."""
        needed = self.read_by([self.output])
        kept = tuple(node for node in self.nodes if node.name in needed)
        return replace(
            self, nodes=kept, auxiliary=(), main_weight=1.0, encoder=self.encoder & needed
        )


@dataclass
class Sketch:
    """A graph being drawn: every call adds one layer and returns its name."""

    dimensions: int
    inputs: int
    nodes: list[Node] = field(default_factory=list)
    encoder: frozenset[str] = frozenset()
    """As of a `Graph`."""

    _channels: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._channels[INPUT] = self.inputs

    def add(self, name: str, layer: Layer, *inputs: str) -> str:
        """Add a layer that reads `inputs`; its name, for those that read it.

        Raises
        ------
        ConfigError
            If the name is taken, or the layer would have no channel.
        """
        if name in self._channels:
            raise ConfigError(f"two layers of a network are named {name}")
        channels = layer.channels([self._channels[i] for i in inputs])
        if channels < 1:
            raise ConfigError(
                f"layer {name} of the network would have {channels} channels; the widths of model "
                "are too small for its other settings"
            )
        self._channels[name] = channels
        self.nodes.append(Node(name, layer, inputs))
        return name

    def encoder_ends(self) -> None:
        """What was drawn so far is the encoder."""
        self.encoder = frozenset(node.name for node in self.nodes)

    def width(self, name: str) -> int:
        """Channels of a map."""
        return self._channels[name]

    def axes(self, value: int | Sequence[int]) -> Axes:
        """One number per spatial axis."""
        return (value,) * self.dimensions if isinstance(value, int) else tuple(value)

    def convolution(
        self,
        name: str,
        x: str,
        outputs: int,
        *,
        kernel: int | Sequence[int] = 3,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] | None = None,
        after: int | Sequence[int] | None = None,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        standardised: bool = False,
        partial: bool = False,
    ) -> str:
        """Add a convolution.

        `padding`: zeros in front of each axis, and behind it unless `after` says otherwise; None:
        as many as keep the size at stride 1.
        """
        taps = self.axes(kernel)
        same = tuple(dilation * (k - 1) // 2 for k in taps)
        before = same if padding is None else self.axes(padding)
        layer = Convolution(
            taps,
            self.axes(stride),
            before,
            before if after is None else self.axes(after),
            dilation,
            inputs=self.width(x),
            outputs=outputs,
            groups=groups,
            bias=bias,
            standardised=standardised,
            partial=partial,
        )
        return self.add(name, layer, x)

    def normalisation(
        self,
        name: str,
        x: str,
        *,
        kind: str = "batch",
        eps: float = 1e-5,
        momentum: float = 0.1,
        groups: int | None = None,
        affine: bool = True,
    ) -> str:
        """Add a normalisation of kind batch, instance or group.

        `groups`: how many, 1 where there are fewer channels; None: of 8 channels each.

        Raises
        ------
        ConfigError
            If the channels cannot be divided so.
        """
        width = self.width(x)
        if kind != "group":
            groups = 1
        elif groups is None:
            groups = width // CHANNELS_PER_GROUP
        elif width < groups:
            groups = 1
        if not groups or width % groups:
            raise ConfigError(
                f"the {width} channels of layer {name} cannot be normalised in {groups} groups; "
                "choose other widths, or another number for model.groups"
            )
        layer = Normalisation(
            kind,  # type: ignore[arg-type]
            self.dimensions,
            width,
            groups,
            eps,
            momentum,
            affine,
        )
        return self.add(name, layer, x)

    def activation(self, name: str, x: str, kind: str = "relu", *, slope: float = 0.1) -> str:
        """Add an activation."""
        return self.add(name, Activation(kind, slope, self.width(x)), x)  # type: ignore[arg-type]

    def graph(
        self,
        output: str,
        auxiliary: Sequence[tuple[str, float]] = (),
        main_weight: float = 1.0,
    ) -> Graph:
        """What was drawn."""
        return Graph(
            self.dimensions,
            self.inputs,
            tuple(self.nodes),
            output,
            tuple(auxiliary),
            main_weight,
            self.encoder,
        )


CHANNELS_PER_GROUP = 8
"""Of a group normalisation."""
