"""FCN-8s (Long, Shelhamer and Darrell 2015): scores of three levels, summed."""

from unet_core.config.networks.graph import INPUT, Graph, Sketch
from unet_core.config.networks.layers import Affine, Dropout, Placed, Pooling, Sum, Transposed
from unet_core.config.networks.settings import NetworkConfig
from unet_core.errors import ConfigError

CONVOLUTIONS = (2, 2, 3, 3, 3)
"""Per level of VGG-16, the finest first."""

_BORDER = 100
"""Zeros around the input, so that the 7 x 7 convolution has something to see of small ones."""

_STARTS = {"pool4": 5, "pool3": 9, "output": 31}
"""First voxel of a map that lies where the coarser one begins, given `_BORDER`."""

_AT_ONCE = {"pool4": 1e-2, "pool3": 1e-4}


def fcn8s(config: NetworkConfig) -> Graph:
    """The graph of FCN-8s; widths: of VGG-16's five levels, then of its two last layers.

    Names of layers with weights: ``conv<level>_<i>``, ``fc6``, ``fc7``, ``score_...`` and
    ``upscore...``, counted from 1 as in VGG-16.

    Raises
    ------
    ConfigError
        If the network is 3-D, or has another depth.
    """
    if config.dimensions != 2 or config.depth != len(CONVOLUTIONS):
        raise ConfigError(
            f"model.architecture fcn8s needs model.dimensions 2 and model.depth "
            f"{len(CONVOLUTIONS)}, got {config.dimensions} and {config.depth}"
        )
    sketch = Sketch(2, config.inputs)
    x, pooled = _vgg(sketch, config)
    sketch.encoder_ends()
    x = _scored(sketch, config, x, "fr")
    x = _raised(sketch, config, x, "upscore2", 2)
    x = _summed(sketch, config, x, pooled, "pool4")
    x = _raised(sketch, config, x, "upscore_pool4", 2)
    x = _summed(sketch, config, x, pooled, "pool3")
    x = _raised(sketch, config, x, "upscore8", 8)
    return sketch.graph(sketch.add("output", Placed(_STARTS["output"]), x, INPUT))


def _vgg(sketch: Sketch, config: NetworkConfig) -> tuple[str, dict[str, str]]:
    """VGG-16 with its last layers as convolutions; all its pooled maps."""
    pooled: dict[str, str] = {}
    *widths, last = config.level_widths
    x = sketch.add("shift", Affine(1.0, config.shift), INPUT) if config.shift else INPUT
    for level, (width, count) in enumerate(zip(widths, CONVOLUTIONS, strict=True), start=1):
        for i in range(1, count + 1):
            padding = _BORDER if level == i == 1 else 1
            x = sketch.convolution(f"conv{level}_{i}", x, width, padding=padding)
            x = sketch.activation(f"relu{level}_{i}", x)
        x = sketch.add(f"pool{level}", Pooling((2, 2), (2, 2), (0, 0), (0, 0), 1, partial=True), x)
        pooled[f"pool{level}"] = x
    for number, kernel in ((6, 7), (7, 1)):
        x = sketch.convolution(f"fc{number}", x, last, kernel=kernel, padding=0)
        x = sketch.activation(f"relu{number}", x)
        if config.dropout:
            x = sketch.add(f"drop{number}", Dropout(config.dropout, 2, config.dropout_channels), x)
    return x, pooled


def _scored(sketch: Sketch, config: NetworkConfig, x: str, name: str) -> str:
    return sketch.convolution(f"score_{name}", x, config.outputs, kernel=1)


def _summed(
    sketch: Sketch, config: NetworkConfig, x: str, pooled: dict[str, str], level: str
) -> str:
    """Scores so far, and those of a finer level where they lie."""
    finer = pooled[level]
    if config.at_once:
        finer = sketch.add(f"scaled_{level}", Affine(_AT_ONCE[level]), finer)
    finer = _scored(sketch, config, finer, level)
    finer = sketch.add(f"cut_{level}", Placed(_STARTS[level]), finer, x)
    return sketch.add(f"sum_{level}", Sum(), x, finer)


def _raised(sketch: Sketch, config: NetworkConfig, x: str, name: str, factor: int) -> str:
    kernel, n = (2 * factor,) * 2, config.outputs
    layer = Transposed(n, n, kernel, (factor,) * 2, (0, 0), bias=False, learnt=False)
    return sketch.add(name, layer, x)
