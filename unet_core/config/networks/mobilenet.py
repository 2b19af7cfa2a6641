"""MobileNetV2 (Sandler et al. 2018) without its classifier, named as torchvision does."""

from unet_core.config.networks.graph import Sketch
from unet_core.config.networks.layers import Activation, Sum

STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Per stage: expansion, channels, blocks and stride."""

TAPS = (1, 3, 6, 13)
"""Blocks whose results are skips."""

LAST = 1280
"""Channels of the last convolution."""


def mobilenet_taps(
    sketch: Sketch, x: str, *, dilated: bool = False, widened: bool = True
) -> list[str]:
    """Maps at 1/2, 1/4, ..., 1/32 of the voxels.

    `dilated`: what follows the map at 1/16 keeps its voxels, and spreads its kernels instead; those
    of one voxel too, for the same bits as others have. `widened`: the last 1x1 convolution, to 1280
    channels, is there.
    """
    x = _finished(sketch, x, "encoder.features.0", 32, kernel=3, stride=2)
    taps: list[str] = []
    number = 1
    for expansion, width, count, stride in STAGES:
        for i in range(count):
            spread = dilated and number > TAPS[-1]
            x = _block(sketch, x, number, width, expansion, stride if i == 0 else 1, spread)
            if number in TAPS:
                taps.append(x)
            number += 1
    if widened:
        name = f"encoder.features.{number}"
        x = _finished(sketch, x, name, LAST, kernel=1, dilation=1 + dilated)
    return [*taps, x]


def _block(
    sketch: Sketch, x: str, number: int, width: int, expansion: int, stride: int, spread: bool
) -> str:
    shortcut, name = x, f"encoder.features.{number}.conv"
    wide = expansion * sketch.width(x)
    part = 0
    if expansion > 1:
        x = _finished(sketch, x, f"{name}.0", wide, kernel=1, dilation=1 + spread)
        part = 1
    step = 1 if spread else stride
    x = _finished(
        sketch, x, f"{name}.{part}", wide, kernel=3, stride=step, dilation=1 + spread, groups=wide
    )
    x = sketch.convolution(
        f"{name}.{part + 1}", x, width, kernel=1, dilation=1 + spread, bias=False
    )
    x = sketch.normalisation(f"{name}.{part + 2}", x)
    if stride > 1 or sketch.width(shortcut) != width:
        return x
    return sketch.add(f"encoder.features.{number}.sum", Sum(), x, shortcut)


def _finished(
    sketch: Sketch,
    x: str,
    name: str,
    width: int,
    *,
    kernel: int,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
) -> str:
    """A convolution with its normalisation and activation."""
    x = sketch.convolution(
        f"{name}.0",
        x,
        width,
        kernel=kernel,
        stride=stride,
        dilation=dilation,
        groups=groups,
        bias=False,
    )
    x = sketch.normalisation(f"{name}.1", x)
    return sketch.add(f"{name}.2", Activation("relu6"), x)
