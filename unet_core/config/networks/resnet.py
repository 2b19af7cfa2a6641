"""ResNet (He et al. 2015) without its classifier, named as torchvision names its layers."""

from unet_core.config.networks.graph import Sketch
from unet_core.config.networks.layers import Pooling, Sum

STAGES = {
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
    "resnet152": (3, 8, 36, 3),
}
"""Blocks per stage."""

BASIC = ("resnet18", "resnet34")
"""Made of blocks of two 3x3 convolutions; the others of 1x1, 3x3 and 1x1 to four times as many."""


def resnet_taps(sketch: Sketch, encoder: str, x: str, *, dilated: bool = False) -> list[str]:
    """Maps at 1/2, 1/4, ..., 1/32 of the voxels.

    `dilated`: the last stage keeps the voxels of the one before, and spreads its kernels instead.
    """
    x = sketch.convolution("encoder.conv1", x, 64, kernel=7, stride=2, padding=3, bias=False)
    x = sketch.normalisation("encoder.bn1", x)
    x = sketch.activation("encoder.relu", x)
    taps = [x]
    one = sketch.axes(1)
    pool = Pooling(sketch.axes(3), sketch.axes(2), one, one, 1)
    x = sketch.add("encoder.maxpool", pool, x)
    for stage, count in enumerate(STAGES[encoder], start=1):
        spread = dilated and stage == 4
        for i in range(count):
            stride = 2 if i == 0 and stage > 1 and not spread else 1
            name = f"encoder.layer{stage}.{i}"
            x = _block(sketch, x, name, 32 * 2**stage, stride, 1 + spread, encoder in BASIC)
        taps.append(x)
    return taps


def _block(
    sketch: Sketch, x: str, name: str, width: int, stride: int, dilation: int, basic: bool
) -> str:
    """Convolutions beside a short cut; one of 3x3 steps.

    Kernels of one voxel are dilated too: that changes nothing but how torch computes them, and
    with it the last bits of their results, which are to be those of others.
    """
    kernels = (3, 3) if basic else (1, 3, 1)
    outputs = width if basic else 4 * width
    shortcut = x
    if stride > 1 or sketch.width(x) != outputs:
        shortcut = sketch.convolution(
            f"{name}.downsample.0",
            x,
            outputs,
            kernel=1,
            stride=stride,
            dilation=dilation,
            bias=False,
        )
        shortcut = sketch.normalisation(f"{name}.downsample.1", shortcut)
    for i, kernel in enumerate(kernels, start=1):
        last = i == len(kernels)
        x = sketch.convolution(
            f"{name}.conv{i}",
            x,
            outputs if last else width,
            kernel=kernel,
            stride=stride if i == len(kernels) - 1 else 1,
            dilation=dilation,
            bias=False,
        )
        x = sketch.normalisation(f"{name}.bn{i}", x)
        if not last:
            x = sketch.activation(f"{name}.relu{i}", x)
    x = sketch.add(f"{name}.sum", Sum(), x, shortcut)
    return sketch.activation(f"{name}.relu", x)
