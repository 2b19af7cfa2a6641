"""What follows the expanding path: logits."""

from collections.abc import Sequence

from unet_core.config.networks.graph import Graph, Sketch
from unet_core.config.networks.layers import Interpolation
from unet_core.config.networks.settings import NetworkConfig
from unet_core.config.networks.supervision import level_heads


def head(sketch: Sketch, config: NetworkConfig, maps: Sequence[str]) -> Graph:
    """The graph with its logits; `maps`: of the levels of the expanding path, the finest first."""
    match config.head:
        case "plain":
            output = plain(sketch, config, maps[0], name="head")
        case "narrow":
            output = narrow(sketch, config, maps[0], name="head")
        case _:
            raise NotImplementedError(config.head)
    if config.skip == "after_pooling" and config.full_size:
        steps = sketch.axes(2)
        output = sketch.add("full_size", Interpolation(steps, "nearest"), output)
    if config.supervision == "levels":
        return sketch.graph(output, *level_heads(sketch, config, maps))
    return sketch.graph(output)


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


def auxiliary_head(sketch: Sketch, config: NetworkConfig, x: str) -> str:
    """Logits that training looks at besides."""
    raise NotImplementedError(config.head)
