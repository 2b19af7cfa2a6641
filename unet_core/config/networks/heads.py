"""What follows the expanding path: logits."""

from collections.abc import Sequence

from unet_core.config.networks.graph import Graph, Sketch
from unet_core.config.networks.layers import Affine, Sum
from unet_core.config.networks.settings import NetworkConfig


def head(sketch: Sketch, config: NetworkConfig, maps: Sequence[str]) -> Graph:
    """The graph with its logits; `maps`: of the levels of the expanding path, the finest first."""
    match config.head:
        case "plain":
            output = plain(sketch, config, maps[0], name="head")
        case _:
            raise NotImplementedError(config.head)
    return sketch.graph(output)


def plain(sketch: Sketch, config: NetworkConfig, x: str, *, name: str) -> str:
    """One convolution to the logits."""
    padding = None if config.padding == "same" else 0
    return sketch.convolution(name, x, config.outputs, kernel=config.head_kernel, padding=padding)


def auxiliary_head(sketch: Sketch, config: NetworkConfig, x: str) -> str:
    """Logits that training looks at besides."""
    raise NotImplementedError(config.head)
