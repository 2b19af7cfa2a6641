"""Padded networks run without padding: the same results inside a volume, and nothing made up.

Of every map that part is computed whose dependencies were all read. Where the layers of two paths
lose differently, or a step would begin off the grid, voxels are cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from unet_core.config.networks.graph import INPUT, Graph, Node
from unet_core.config.networks.layers import (
    Axes,
    Convolution,
    Cut,
    Fitted,
    Interpolation,
    Interval,
    Layer,
    Placed,
    Pooling,
    Transposed,
)
from unet_core.config.networks.trace import seen_by, sizes_of, stride_of

Intervals = tuple[Interval, ...]
"""Per axis, voxels of a map of the padded network, counted from the first that a volume has."""

_TILES = 4
"""Strides that the tile has on which cuts are found; they are the same for all."""


@dataclass(frozen=True)
class Unpadded:
    """A network for tiles that start and end on multiples of the stride, seen with a halo."""

    graph: Graph
    halo: Axes
    """Voxels per side to see around a tile; one this far away matters, none farther away does."""

    lost: Axes
    """Voxels per side by which the result is smaller than what is seen; at most the halo."""


def unpadded(graph: Graph) -> Unpadded:
    """`graph` (padded, local but for normalisations over tiles) run without padding.

    Layers with weights keep their names.
    """
    axes = range(graph.dimensions)
    halo = tuple(halo_of(graph, axis) for axis in axes)
    # Large enough that no map is empty, whatever its layers lose.
    tile = tuple(
        stride * (_TILES + 2 * -(-n // stride))
        for stride, n in ((stride_of(graph, axis), halo[axis]) for axis in axes)
    )
    drawn = _Drawing([sizes_of(graph, axis, tile[axis]) for axis in axes])
    drawn.spans[INPUT] = tuple((-h, n + h) for h, n in zip(halo, tile, strict=True))
    drawn.names[INPUT] = INPUT
    for node in graph.nodes:
        drawn.add(node)
    spans = drawn.spans[graph.output]
    lost = tuple(
        max(start + h, n + h - stop) for (start, stop), h, n in zip(spans, halo, tile, strict=True)
    )
    even = tuple((n - h, m + h - n) for n, m, h in zip(lost, tile, halo, strict=True))
    output = drawn.cut(f"{graph.output}_even", graph.output, even)
    return Unpadded(Graph(graph.dimensions, graph.inputs, tuple(drawn.nodes), output), halo, lost)


def halo_of(graph: Graph, axis: int) -> int:
    """Voxels per side that results on the grid of the stride depend on, beyond themselves."""
    size = stride_of(graph, axis) * _TILES
    start, stop = seen_by(graph, axis, (0, size), size)
    return max(-start, stop - size, 0)


@dataclass
class _Drawing:
    """A network without padding, as far as it is drawn."""

    sizes: Sequence[dict[str, int]]
    """Of the padded network's maps, per axis."""

    nodes: list[Node] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    """Of the maps here, by those of the padded network."""

    spans: dict[str, Intervals] = field(default_factory=dict)
    """What of the padded network's maps is computed."""

    def add(self, node: Node) -> None:
        """Draw what computes a node of the padded network."""
        match node.layer:
            case Cut() | Fitted() | Placed():
                self._moved(node)
            case Convolution() | Pooling():
                self._windowed(node, node.layer)
            case Transposed() | Interpolation():
                self._spread(node, node.layer)
            case _:
                self._together(node)

    def cut(self, name: str, x: str, to: Intervals) -> str:
        """The part `to` of a map, of which at least that is computed; its name here."""
        pairs = list(zip(self.spans[x], to, strict=True))
        before = tuple(b[0] - a[0] for a, b in pairs)
        after = tuple(a[1] - b[1] for a, b in pairs)
        if not any((*before, *after)):
            return self.names[x]
        self.nodes.append(Node(name, Cut(before, after), (self.names[x],)))
        return name

    def _draw(self, node: Node, layer: Layer, inputs: Sequence[str], spans: Intervals) -> None:
        self.nodes.append(Node(node.name, layer, tuple(inputs)))
        self.names[node.name], self.spans[node.name] = node.name, spans

    def _moved(self, node: Node) -> None:
        """What pads or cuts alone: nothing is computed, voxels have other numbers."""
        x, *_ = node.inputs
        spans = []
        for axis, (start, stop) in enumerate(self.spans[x]):
            sizes = [self.sizes[axis][name] for name in node.inputs]
            by = node.layer.seen(axis, (0, 1), sizes)[0][0]
            spans.append((start - by, stop - by))
        self.names[node.name], self.spans[node.name] = self.names[x], tuple(spans)

    def _windowed(self, node: Node, layer: Convolution | Pooling) -> None:
        (x,) = node.inputs
        none = (0,) * len(layer.kernel)
        spans, begun = [], []
        for axis, (start, stop) in enumerate(self.spans[x]):
            step, zeros = layer.stride[axis], layer.before[axis]
            wide = layer.dilation * (layer.kernel[axis] - 1) + 1
            first = -(-(start + zeros) // step)
            spans.append((first, (stop - wide + zeros) // step + 1))
            begun.append((first * step - zeros, stop))
        read = self.cut(f"{node.name}_begin", x, tuple(begun))
        plain: Layer = replace(layer, before=none, after=none, partial=False)
        self._draw(node, plain, [read], tuple(spans))

    def _spread(self, node: Node, layer: Transposed | Interpolation) -> None:
        """What makes more voxels: those at the edge lack neighbours that they are made of."""
        (x,) = node.inputs
        whole, complete = [], []
        for axis, (start, stop) in enumerate(self.spans[x]):
            first = start * layer.scale(axis)[1]
            last = first + layer.size(axis, [stop - start])
            whole.append((first, last))
            complete.append(_complete(layer, axis, (first, last), (start, stop)))
        self._draw(node, layer, [self.names[x]], tuple(whole))
        self.names[node.name] = self.cut(f"{node.name}_cut", node.name, tuple(complete))
        self.spans[node.name] = tuple(complete)

    def _together(self, node: Node) -> None:
        """Voxel by voxel: what is computed of all inputs."""
        spans = [self.spans[name] for name in node.inputs]
        common = tuple(
            (max(start for start, _ in along), min(stop for _, stop in along))
            for along in zip(*spans, strict=True)
        )
        read = [self.cut(f"{node.name}_cut{i}", name, common) for i, name in enumerate(node.inputs)]
        self._draw(node, node.layer, read, common)


def _complete(layer: Layer, axis: int, made: Interval, given: Interval) -> Interval:
    """Of the results `made` those that depend on nothing beyond `given`."""
    size = given[1] - given[0]

    def inside(voxel: int) -> bool:
        start, stop = layer.seen(axis, (voxel, voxel + 1), [size])[0]
        return given[0] <= start and stop <= given[1]

    first, last = made
    while not inside(first):
        first += 1
    while not inside(last - 1):
        last -= 1
    return first, last
