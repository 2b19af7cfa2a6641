"""DeepLabV3+: a backbone at 1/16 of the voxels, a pyramid of dilated kernels, one skip at 1/4."""

from unet_core.config.networks.encoders import backbone
from unet_core.config.networks.everywhere import Aligned, Bins, Resized
from unet_core.config.networks.graph import INPUT, Graph, Sketch
from unet_core.config.networks.layers import Affine, Dropout, Interpolation, Join
from unet_core.config.networks.settings import NetworkConfig

WIDTH, SKIP_WIDTH = 256, 48
"""Channels of the pyramid, and of the skip."""

FACTOR = 4
"""Voxels of the skip per voxel of the pyramid, and of the logits per voxel of the skip."""


def deeplabv3plus(config: NetworkConfig) -> Graph:
    """The graph of a DeepLabV3+ (Chen et al. 2018).

    Separable, it is that of segmentation_models.pytorch, with one convolution more after the
    pyramid; else every 3x3 convolution is a plain one, and MobileNetV2 ends with 320 channels.
    Names of layers with weights: those of the backbone, ``pyramid.<...>``, ``skip.<...>``,
    ``fused.<...>`` and ``head``.
    """
    sketch = Sketch(config.dimensions, config.inputs)
    x = sketch.add("shift", Affine(1.0, config.shift), INPUT) if config.shift else INPUT
    taps = backbone(sketch, config, x, dilated=True, widened=config.separable)
    sketch.encoder_ends()
    x = _pyramid(sketch, config, taps[-1])
    if config.separable:
        x = _finished(sketch, config, x, "pyramid.separable", kernel=3)
    x = _raised(sketch, config, x, "pyramid.full")
    skip = _finished(sketch, config, taps[1], "skip", width=SKIP_WIDTH)
    order = (skip, x) if config.join == "skip_up" else (x, skip)
    x = sketch.add("join", Join(), *order)
    x = _finished(sketch, config, x, "fused", kernel=3)
    x = sketch.convolution("head", x, config.outputs, kernel=1)
    return sketch.graph(_raised(sketch, config, x, "full"))


def _pyramid(sketch: Sketch, config: NetworkConfig, x: str) -> str:
    """Kernels of several dilations beside one of a voxel and the mean of the whole map."""
    parts = [_finished(sketch, config, x, "pyramid.0")]
    for i, dilation in enumerate(config.dilations, start=1):
        name = f"pyramid.{i}"
        parts.append(_finished(sketch, config, x, name, kernel=3, dilation=dilation))
    mean = sketch.add("pyramid.mean", Bins(), x)
    mean = _finished(sketch, config, mean, "pyramid.whole")
    parts.append(sketch.add("pyramid.resized", Resized(), mean, x))
    x = sketch.add("pyramid.join", Join(), *parts)
    x = _finished(sketch, config, x, "pyramid.project")
    if not config.dropout:
        return x
    return sketch.add("pyramid.dropout", Dropout(config.dropout, sketch.dimensions), x)


def _raised(sketch: Sketch, config: NetworkConfig, x: str, name: str) -> str:
    factor = sketch.axes(FACTOR)
    return sketch.add(
        name, Aligned(factor) if config.align_corners else Interpolation(factor, "linear"), x
    )


def _finished(
    sketch: Sketch,
    config: NetworkConfig,
    x: str,
    name: str,
    *,
    width: int = WIDTH,
    kernel: int = 1,
    dilation: int = 1,
) -> str:
    """A convolution, of two parts where it is separable, with batch normalisation and ReLU."""
    inputs = sketch.width(x)
    if config.separable and kernel > 1:
        x = sketch.convolution(
            f"{name}.depthwise",
            x,
            inputs,
            kernel=kernel,
            dilation=dilation,
            groups=inputs,
            bias=False,
        )
        kernel = dilation = 1
    x = sketch.convolution(
        f"{name}.convolution", x, width, kernel=kernel, dilation=dilation, bias=False
    )
    x = sketch.normalisation(f"{name}.norm", x, eps=config.norm_eps, momentum=config.norm_momentum)
    return sketch.activation(f"{name}.relu", x)
