"""V-Net (Milletari, Navab and Ahmadi 2016): blocks that add to what they are given."""

from unet_core.config.networks.graph import INPUT, Graph, Sketch
from unet_core.config.networks.layers import Affine, Dropout, Join, Repeated, Sum, Transposed
from unet_core.config.networks.settings import NetworkConfig
from unet_core.errors import ConfigError

DOWN = (1, 2, 3, 2)
"""Convolutions per block of the contracting path, from the second level on."""

UP = (2, 2, 1, 1)
"""The same of the expanding path, the deepest first."""

_DROPPED_DOWN, _DROPPED_UP = (2, 3), (0, 1)
"""Blocks with dropout of their own."""


def vnet(config: NetworkConfig) -> Graph:
    """The graph of a V-Net.

    Names of layers with weights: ``first``, ``down.<i>``, ``up.<j>`` (j counts from the deepest)
    and ``last``; in each ``step`` (the one that changes the size), ``conv.<n>`` with ``norm.<n>``
    and ``act.<n>``, and ``sum_act`` after the sum.

    Raises
    ------
    ConfigError
        If the network has another depth, or its channels do not divide its first width.
    """
    _check(config)
    sketch = Sketch(config.dimensions, config.inputs)
    widths = config.level_widths
    x = sketch.add("shift", Affine(1.0, config.shift), INPUT) if config.shift else INPUT
    # The input stands in for what the first block adds to, once for every channel of it.
    copies = sketch.add("first.copies", Repeated(widths[0] // config.inputs), x)
    x = _normalised(sketch, config, _convolved(sketch, config, x, "first.conv.0", widths[0]))
    x = _added(sketch, config, "first", x, copies)
    skips = [x]
    for i, (width, count) in enumerate(zip(widths[1:], DOWN, strict=True)):
        x = _lowered(sketch, config, x, f"down.{i}", width, count, dropped=i in _DROPPED_DOWN)
        skips.append(x)
    skips.pop()
    sketch.encoder_ends()
    for j, count in enumerate(UP):
        x = _raised(sketch, config, x, skips.pop(), f"up.{j}", count, dropped=j in _DROPPED_UP)
    x = _unit(sketch, config, x, "last", 0, config.outputs)
    return sketch.graph(sketch.convolution("last.scores", x, config.outputs, kernel=1))


def _check(config: NetworkConfig) -> None:
    if set(config.depths) != {len(DOWN)}:
        raise ConfigError(
            f"model.architecture vnet needs model.depth {len(DOWN)}, got {config.depth}"
        )
    finest = config.level_widths[0]
    if finest % config.inputs:
        raise ConfigError(
            f"model.architecture vnet adds the input to its first {finest} channels, so that its "
            f"own channels must divide them; it has {config.inputs}"
        )


def _lowered(
    sketch: Sketch, config: NetworkConfig, x: str, name: str, width: int, count: int, dropped: bool
) -> str:
    """A block of the contracting path, at half the voxels per axis."""
    step = sketch.convolution(f"{name}.step", x, width, kernel=2, stride=2, padding=0)
    step = _active(sketch, config, _normalised(sketch, config, step), f"{name}.step_act")
    x = _dropped(sketch, config, step, name) if dropped else step
    return _added(sketch, config, name, _units(sketch, config, x, name, count), step)


def _raised(
    sketch: Sketch, config: NetworkConfig, x: str, skip: str, name: str, count: int, dropped: bool
) -> str:
    """A block of the expanding path, at twice the voxels per axis."""
    x = _dropped(sketch, config, x, name) if dropped else x
    two = sketch.axes(2)
    layer = Transposed(sketch.width(x), sketch.width(skip), two, two, sketch.axes(0))
    x = _normalised(sketch, config, sketch.add(f"{name}.step", layer, x))
    x = _active(sketch, config, x, f"{name}.step_act")
    both = sketch.add(f"{name}.join", Join(), x, _dropped(sketch, config, skip, f"{name}.skip"))
    return _added(sketch, config, name, _units(sketch, config, both, name, count), both)


def _units(sketch: Sketch, config: NetworkConfig, x: str, name: str, count: int) -> str:
    for number in range(count):
        x = _unit(sketch, config, x, name, number, sketch.width(x))
    return x


def _unit(
    sketch: Sketch, config: NetworkConfig, x: str, name: str, number: int, outputs: int
) -> str:
    x = _convolved(sketch, config, x, f"{name}.conv.{number}", outputs)
    return _active(sketch, config, _normalised(sketch, config, x), f"{name}.act.{number}")


def _convolved(sketch: Sketch, config: NetworkConfig, x: str, name: str, outputs: int) -> str:
    bias = config.norm == "none" if config.conv_bias is None else config.conv_bias
    return sketch.convolution(name, x, outputs, kernel=config.kernel, bias=bias)


def _normalised(sketch: Sketch, config: NetworkConfig, x: str) -> str:
    """Normalised, under the name of the layer before with ``norm`` for ``conv``."""
    if config.norm == "none":
        return x
    name = x.replace(".conv.", ".norm.").replace(".step", ".step_norm")
    return sketch.normalisation(
        name,
        x,
        kind=config.norm,
        eps=config.norm_eps,
        momentum=config.norm_momentum,
        groups=config.groups,
        affine=config.norm_affine,
    )


def _active(sketch: Sketch, config: NetworkConfig, x: str, name: str) -> str:
    return sketch.activation(name, x, config.activation, slope=config.slope)


def _added(sketch: Sketch, config: NetworkConfig, name: str, x: str, to: str) -> str:
    return _active(sketch, config, sketch.add(f"{name}.sum", Sum(), x, to), f"{name}.sum_act")


def _dropped(sketch: Sketch, config: NetworkConfig, x: str, name: str) -> str:
    if not config.dropout:
        return x
    layer = Dropout(config.dropout, config.dimensions, config.dropout_channels)
    return sketch.add(f"{name}_drop", layer, x)
