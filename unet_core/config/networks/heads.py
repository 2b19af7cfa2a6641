"""What follows the expanding path: logits."""

from collections.abc import Sequence

from unet_core.config.networks.everywhere import Bins, Resized
from unet_core.config.networks.graph import Graph, Sketch
from unet_core.config.networks.layers import Dropout, Interpolation, Join
from unet_core.config.networks.settings import NetworkConfig
from unet_core.config.networks.supervision import level_heads
from unet_core.errors import ConfigError

RATE = 0.1
"""Dropout of whole channels before the logits of fcn, psp and aspp."""

BINS = (1, 2, 3, 6)
"""Parts per axis over which psp takes means."""

DILATIONS = (12, 24, 36)
"""Of the 3x3 kernels of aspp."""


def head(sketch: Sketch, config: NetworkConfig, maps: Sequence[str]) -> Graph:
    """The graph with its logits; `maps`: of the levels of the expanding path, the finest first."""
    match config.head:
        case "plain":
            output = plain(sketch, config, maps[0], name="head")
        case "narrow":
            output = narrow(sketch, config, maps[0], name="head")
        case "fcn":
            width = sketch.width(maps[0])
            output = _fcn(sketch, config, maps[0], name="head", width=width)
        case "psp":
            output = _psp(sketch, config, maps[0])
        case "aspp":
            output = _aspp(sketch, config, maps[0])
    if config.skip == "after_pooling" and config.full_size:
        steps = sketch.axes(2)
        output = sketch.add("full_size", Interpolation(steps, "nearest"), output)
    if config.supervision == "levels":
        return sketch.graph(output, *level_heads(sketch, config, maps))
    return sketch.graph(output, [_auxiliary(sketch, config, maps)] if config.auxiliary else ())


def plain(sketch: Sketch, config: NetworkConfig, x: str, *, name: str) -> str:
    """One convolution to the logits."""
    padding = None if config.padding == "same" else 0
    return sketch.convolution(name, x, config.outputs, kernel=config.head_kernel, padding=padding)


def narrow(sketch: Sketch, config: NetworkConfig, x: str, *, name: str) -> str:
    """A convolution to as many channels as there are classes, ReLU, and one to the logits."""
    padding = None if config.padding == "same" else 0
    x = sketch.convolution(f"{name}.0", x, config.classes, kernel=config.kernel, padding=padding)
    x = sketch.activation(f"{name}.1", x)
    return sketch.convolution(f"{name}.2", x, config.outputs, kernel=1)


def _auxiliary(sketch: Sketch, config: NetworkConfig, maps: Sequence[str]) -> tuple[str, float]:
    """Logits made of the map one level below the finest, at full resolution, and their weight."""
    if len(maps) < 2:
        raise ConfigError(
            "model.auxiliary is a head one level below the finest, and there is none; set "
            "model.depth to 2 or more, or model.auxiliary to 0"
        )
    width = sketch.width(maps[0])
    x = _fcn(sketch, config, maps[1], name="auxiliary", width=width)
    x = sketch.add("auxiliary.full", Interpolation(config.steps(0), "linear"), x)
    return x, config.auxiliary


def _fcn(sketch: Sketch, config: NetworkConfig, x: str, *, name: str, width: int) -> str:
    x = _finished(sketch, config, x, f"{name}.convolution", width, kernel=3)
    return _classified(sketch, config, x, name)


def _psp(sketch: Sketch, config: NetworkConfig, x: str) -> str:
    """Pyramid pooling (Zhao et al. 2017): beside the map, means of its parts."""
    width = sketch.width(x) // 4
    parts = [x]
    for i, count in enumerate(BINS):
        y = sketch.add(f"head.bins.{i}.mean", Bins(count), x)
        y = _finished(sketch, config, y, f"head.bins.{i}.convolution", width, kernel=1)
        parts.append(sketch.add(f"head.bins.{i}.full", Resized(), y, x))
    return _fused(sketch, config, parts, width)


def _aspp(sketch: Sketch, config: NetworkConfig, x: str) -> str:
    """Pyramid of dilated kernels (Chen et al. 2017), beside the mean of the whole map."""
    width = sketch.width(x) // 4
    y = sketch.add("head.whole.mean", Bins(), x)
    y = _finished(sketch, config, y, "head.whole.convolution", width, kernel=1)
    parts = [sketch.add("head.whole.full", Resized(), y, x)]
    for i, dilation in enumerate((1, *DILATIONS)):
        kernel = 3 if i else 1
        parts.append(
            _finished(
                sketch, config, x, f"head.dilated.{i}", width, kernel=kernel, dilation=dilation
            )
        )
    return _fused(sketch, config, parts, width)


def _fused(sketch: Sketch, config: NetworkConfig, parts: Sequence[str], width: int) -> str:
    x = sketch.add("head.join", Join(), *parts)
    x = _finished(sketch, config, x, "head.bottleneck", width, kernel=3)
    return _classified(sketch, config, x, "head")


def _classified(sketch: Sketch, config: NetworkConfig, x: str, name: str) -> str:
    x = sketch.add(f"{name}.dropout", Dropout(RATE, sketch.dimensions, whole=True), x)
    return sketch.convolution(f"{name}.logits", x, config.outputs, kernel=1)


def _finished(
    sketch: Sketch,
    config: NetworkConfig,
    x: str,
    name: str,
    width: int,
    *,
    kernel: int,
    dilation: int = 1,
) -> str:
    """A convolution with batch normalisation and ReLU."""
    x = sketch.convolution(f"{name}.0", x, width, kernel=kernel, dilation=dilation, bias=False)
    x = sketch.normalisation(f"{name}.1", x, eps=config.norm_eps, momentum=config.norm_momentum)
    return sketch.activation(f"{name}.2", x)
