"""The U-Net: contracting path, expanding path, skips between them, along all axes of settings."""

from collections.abc import Sequence

from unet_core.config.networks.encoders import taps_of
from unet_core.config.networks.everywhere import Aligned, Resized
from unet_core.config.networks.graph import INPUT, Graph, Sketch
from unet_core.config.networks.heads import head
from unet_core.config.networks.layers import (
    Affine,
    Cut,
    Dropout,
    Fitted,
    Interpolation,
    Join,
    Pooling,
    Transposed,
)
from unet_core.config.networks.settings import NetworkConfig
from unet_core.errors import ConfigError


def unet(config: NetworkConfig) -> Graph:
    """The graph of a U-Net.

    Names of layers with weights: ``encoder.<level>.<i>``, ``bottom.<i>``, ``ups.<j>`` and
    ``decoder.<j>.<i>`` (j counts from the deepest), ``head``; a backbone's are its own.

    Raises
    ------
    ConfigError
        If settings contradict each other; so do the functions that draw its parts.
    """
    sketch = Sketch(config.dimensions, config.inputs)
    x = sketch.add("shift", Affine(1.0, config.shift), INPUT) if config.shift else INPUT
    x, skips = (
        contracted(sketch, config, x) if config.encoder == "plain" else taps_of(sketch, config, x)
    )
    if config.skip == "after_pooling":
        x = deepest(sketch, config, x, level=len(skips))
    maps = expanded(sketch, config, x, skips)
    return head(sketch, config, maps)


def contracted(sketch: Sketch, config: NetworkConfig, x: str) -> tuple[str, list[str]]:
    """The plain contracting path: its last map, and the skips, the finest first."""
    skips: list[str] = []
    after = config.skip == "after_pooling"
    widths = config.level_widths
    if after and (len(widths) < 2 or config.strides or config.kernels):
        raise ConfigError(
            "model.skip after_pooling needs two levels or more in model.widths, and neither "
            "model.strides nor model.kernels"
        )
    for level, width in enumerate(widths if after else widths[:-1]):
        x = block(sketch, config, x, name=f"encoder.{level}", outputs=width, level=level)
        x = _dropped(sketch, config, x, level)
        before = x
        if config.down == "pooling":
            x = _pooled(sketch, config, x, level)
        skips.append(x if after else before)
    if after:
        x = skips.pop()
    else:
        last = len(widths) - 1
        x = block(sketch, config, x, name="bottom", outputs=widths[-1], level=last)
        x = _dropped(sketch, config, x, last)
    sketch.encoder_ends()
    return x, skips


def deepest(sketch: Sketch, config: NetworkConfig, x: str, *, level: int) -> str:
    """The block that follows the last pooling, where skips are taken after pooling."""
    widths = config.decoder_widths or config.level_widths
    if len(widths) != level + 1:
        raise ConfigError(
            f"model.decoder_widths needs {level + 1} numbers with model.skip after_pooling, one "
            f"per level from the finest, got {list(widths)}"
        )
    return block(sketch, config, x, name="bottom", outputs=widths[-1], level=level, rising=True)


def _pooled(sketch: Sketch, config: NetworkConfig, x: str, level: int) -> str:
    steps, none = config.steps(level), sketch.axes(0)
    return sketch.add(f"pool.{level}", Pooling(steps, steps, none, none, 1), x)


def _dropped(sketch: Sketch, config: NetworkConfig, x: str, level: int) -> str:
    deepest = len(config.level_widths) - 1
    levels = (deepest,) if config.dropout_levels is None else config.dropout_levels
    if level not in levels or not config.dropout or config.dropout_place == "between":
        return x
    layer = Dropout(config.dropout, config.dimensions, config.dropout_channels)
    return sketch.add(f"dropout.{level}", layer, x)


def block(
    sketch: Sketch,
    config: NetworkConfig,
    x: str,
    *,
    name: str,
    outputs: int,
    level: int,
    rising: bool = False,
) -> str:
    """Convolutions, each with its normalisation and activation; `level`: 0 is the finest."""
    count = (rising and config.decoder_convolutions) or config.convolutions
    norm = config.decoder_norm if rising and config.decoder_norm else config.norm
    middle = outputs
    if rising and config.decoder_middle == "half_inputs":
        middle = sketch.width(x) // 2
    elif not rising and config.middle == "half_outputs":
        middle = max(outputs // 2, sketch.width(x))
    order = (rising and config.decoder_order) or config.order
    number = 0
    for i in range(count):
        width = outputs if i == count - 1 else middle
        strided = not rising and config.down == "convolution" and i == 0 and level
        stride = config.steps(level - 1) if strided else 1
        # In the order of the settings, numbered one after the other.
        for part in order.split("_"):
            if part == "norm" and norm == "none":
                continue
            at = f"{name}.{number}"
            number += 1
            if part == "conv":
                x = _convolved(sketch, config, x, at, width, level, stride, norm)
            elif part == "norm":
                x = normalised(sketch, config, x, at, norm)
            else:
                x = sketch.activation(at, x, config.activation, slope=config.slope)
        if i == 0 and _between(config, level, rising):
            layer = Dropout(config.dropout, config.dimensions, config.dropout_channels)
            x = sketch.add(f"{name}.dropout", layer, x)
    if "norm" not in order and norm != "none":
        x = normalised(sketch, config, x, f"{name}.{number}", norm)
    return x


def normalised(sketch: Sketch, config: NetworkConfig, x: str, name: str, kind: str) -> str:
    """A normalisation with the settings' epsilon and momentum."""
    return sketch.normalisation(
        name,
        x,
        kind=kind,
        eps=config.norm_eps,
        momentum=config.norm_momentum,
        groups=config.groups,
        affine=config.norm_affine,
    )


def _between(config: NetworkConfig, level: int, rising: bool) -> bool:
    if rising and not config.decoder_dropout:
        return False
    levels = config.dropout_levels
    inside = level == len(config.level_widths) - 1 if levels is None else level in levels
    return bool(config.dropout and config.dropout_place == "between" and inside)


def _convolved(
    sketch: Sketch,
    config: NetworkConfig,
    x: str,
    name: str,
    outputs: int,
    level: int,
    stride: int | Sequence[int],
    norm: str,
) -> str:
    taps = config.taps(level)
    padding = None if config.padding == "same" else 0
    bias = norm == "none" if config.conv_bias is None else config.conv_bias
    if not config.separable or x in (INPUT, "shift"):
        return sketch.convolution(
            name, x, outputs, kernel=taps, stride=stride, padding=padding, bias=bias,
            partial=config.partial_padding,
        )  # fmt: skip
    x = sketch.convolution(
        f"{name}.depthwise", x, sketch.width(x), kernel=taps, stride=stride, padding=padding,
        groups=sketch.width(x), bias=False, standardised=config.standardised,
    )  # fmt: skip
    return sketch.convolution(f"{name}.pointwise", x, outputs, kernel=1, bias=bias)


def expanded(sketch: Sketch, config: NetworkConfig, x: str, skips: Sequence[str]) -> list[str]:
    """The expanding path: the maps of its levels, the finest first."""
    widths = config.decoder_widths or config.level_widths
    if config.skip == "after_pooling" or not config.decoder_widths:
        widths = widths[: len(skips)]
    # A backbone's skips begin below the finest levels, which then have none.
    bare = len(widths) - len(skips)
    maps: list[str] = []
    for j, level in enumerate(reversed(range(len(widths)))):
        skip = skips[level - bare] if level >= bare else None
        outputs = widths[level]
        made = made_by_up(config, level, len(widths), outputs)
        x = raised(sketch, config, x, name=f"ups.{j}", outputs=made, level=level)
        if skip is not None:
            x = joined(sketch, config, [skip], x, name=f"join.{j}")
        x = block(sketch, config, x, name=f"decoder.{j}", outputs=outputs, level=level, rising=True)
        maps.append(x)
    return maps[::-1]


def made_by_up(config: NetworkConfig, level: int, levels: int, otherwise: int) -> int:
    """Channels that up-sampling to a level makes."""
    if config.up_widths is None:
        return otherwise
    if len(config.up_widths) != levels:
        raise ConfigError(
            f"model.up_widths needs {levels} numbers here, one per level from the finest, got "
            f"{list(config.up_widths)}"
        )
    return config.up_widths[level]


def joined(
    sketch: Sketch, config: NetworkConfig, skips: Sequence[str], up: str, *, name: str
) -> str:
    """Skips and up-sampled map side by side."""
    if config.fit == "crop":
        skips = [sketch.add(f"{name}.skip{i}", Fitted(), skip, up) for i, skip in enumerate(skips)]
    else:
        first, *others = skips
        fitting = Resized(mode="nearest") if config.fit == "resize" else Fitted()
        up = sketch.add(f"{name}.up", fitting, up, first)
        fitted = (sketch.add(f"{name}.skip{i}", Fitted(), x, first) for i, x in enumerate(others))
        skips = [first, *fitted]
    if config.join == "up_newest":
        skips = skips[::-1]
    order = (*skips, up) if config.join == "skip_up" else (up, *skips)
    return sketch.add(f"{name}.join", Join(), *order)


def raised(
    sketch: Sketch, config: NetworkConfig, x: str, *, name: str, outputs: int, level: int
) -> str:
    """The map of one level at the voxels of the one above: `outputs` channels."""
    steps, kernel = config.steps(level), config.up_kernel
    if config.up == "transposed":
        x = _transposed(sketch, config, x, name, outputs, steps)
    else:
        # Interpolation is linear and its weights sum to 1: a 1x1 convolution with nothing after it
        # gives the same before it, at a quarter of the work (2-D).
        # Not with aligned corners, which published networks have: those are met bit by bit.
        plain = not (config.align_corners or config.up_norm != "none" or config.up_activation)
        first = kernel in (None, 1) and plain
        if first:
            x = _beside(sketch, config, x, f"{name}.convolution", outputs)
        x = interpolated(sketch, config, x, name=f"{name}.interpolation", steps=steps)
        if not first and kernel != 0:
            x = _beside(sketch, config, x, f"{name}.convolution", outputs)
    if config.up_norm != "none":
        x = normalised(sketch, config, x, f"{name}_norm", config.up_norm)
    if config.up_activation:
        kind = "relu" if config.up_activation == "relu" else config.activation
        x = sketch.activation(f"{name}_activation", x, kind, slope=config.slope)
    return x


def _transposed(
    sketch: Sketch, config: NetworkConfig, x: str, name: str, outputs: int, steps: Sequence[int]
) -> str:
    wide = config.up_kernel == 4
    layer = Transposed(
        sketch.width(x),
        outputs,
        kernel=tuple(2 * s if wide and s > 1 else s for s in steps),
        stride=tuple(steps),
        padding=tuple(int(wide and s > 1) for s in steps),
        bias=config.up_bias,
    )
    return sketch.add(name, layer, x)


def _beside(sketch: Sketch, config: NetworkConfig, x: str, name: str, outputs: int) -> str:
    """The convolution of an up-sampling; an even kernel is padded behind."""
    kernel = 1 if config.up_kernel is None else config.up_kernel
    before, after = (kernel - 1) // 2, kernel // 2
    if config.padding == "valid":
        before = after = 0
    return sketch.convolution(
        name, x, outputs, kernel=kernel, padding=before, after=after, bias=config.up_bias
    )


def interpolated(
    sketch: Sketch, config: NetworkConfig, x: str, *, name: str, steps: Sequence[int]
) -> str:
    """More voxels by interpolation."""
    if config.up == "bilinear" and config.align_corners:
        return sketch.add(name, Aligned(tuple(steps)), x)
    mode = "linear" if config.up == "bilinear" else "nearest"
    x = sketch.add(name, Interpolation(tuple(steps), mode), x)  # type: ignore[arg-type]
    if mode == "nearest" or config.padding == "same":
        return x
    # Without padding, the outermost voxels lack neighbours that they are made of.
    drop = tuple(int(step > 1) for step in steps)
    return sketch.add(f"{name}_cut", Cut(drop, drop), x)
