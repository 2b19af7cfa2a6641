"""Backbones as Keras users have them: VGG-16, ResNet-50 of 2015, MobileNet of 2017.

Layers have the names of the Keras applications. All tap what follows the poolings to a half, a
quarter, an eighth and a sixteenth of the voxels; what lies deeper is left out.
"""

from unet_core.config.networks.graph import Sketch
from unet_core.config.networks.layers import Activation, Cut, Pooling, Sum
from unet_core.config.networks.settings import NetworkConfig

VGG16 = ((64, 2), (128, 2), (256, 3), (512, 3))
"""Channels and convolutions of each block."""

RESNET50 = ((2, 64, 3), (3, 128, 4), (4, 256, 6))
"""Number, channels inside and blocks of each stage; outputs have four times the channels."""

MOBILENET = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512)
"""Channels of each block of a convolution per channel and one with a kernel of one voxel."""


def keras_taps(sketch: Sketch, config: NetworkConfig, x: str) -> tuple[str, list[str]]:
    """The deepest map of a backbone, and its skips, the finest first."""
    match config.encoder:
        case "keras_vgg16":
            taps = _vgg16(sketch, x)
        case "keras_resnet50":
            taps = _resnet50(sketch, config, x)
        case _:
            taps = _mobilenet(sketch, config, x)
    return taps.pop(), taps


def _vgg16(sketch: Sketch, x: str) -> list[str]:
    taps = []
    for i, (width, count) in enumerate(VGG16, start=1):
        for j in range(1, count + 1):
            name = f"encoder.block{i}_conv{j}"
            x = sketch.convolution(name, x, width)
            x = sketch.activation(f"{name}_relu", x)
        x = _pooled(sketch, f"encoder.block{i}_pool", x, kernel=2)
        taps.append(x)
    return taps


def _resnet50(sketch: Sketch, config: NetworkConfig, x: str) -> list[str]:
    """The first tap is the first convolution itself; the second begins with a row of zeros.

    The largest of 3 x 3 is taken without padding, so the second tap has a row and a column less
    than a quarter of the input, and is given them in front.
    """
    x = sketch.convolution("encoder.conv1", x, 64, kernel=7, stride=2, padding=3)
    taps = [x]
    x = _normalised(sketch, config, "encoder.bn_conv1", x)
    x = sketch.activation("encoder.conv1_relu", x)
    x = _pooled(sketch, "encoder.pool1", x, kernel=3)
    for stage, width, count in RESNET50:
        for i in range(count):
            stride = 2 if i == 0 and stage > 2 else 1
            x = _bottleneck(sketch, config, x, f"{stage}{'abcdef'[i]}", width, stride, first=i == 0)
        if stage == 2:
            row = sketch.add("encoder.one_side_pad", Cut(sketch.axes(-1), sketch.axes(0)), x)
            taps.append(row)
        else:
            taps.append(x)
    return taps


def _bottleneck(
    sketch: Sketch, config: NetworkConfig, x: str, at: str, width: int, stride: int, *, first: bool
) -> str:
    """Three convolutions beside a short cut; the first of them steps, and all have biases."""
    shortcut = x
    for part, kernel, outputs in (("2a", 1, width), ("2b", 3, width), ("2c", 1, 4 * width)):
        x = sketch.convolution(
            f"encoder.res{at}_branch{part}",
            x,
            outputs,
            kernel=kernel,
            stride=stride if part == "2a" else 1,
        )
        x = _normalised(sketch, config, f"encoder.bn{at}_branch{part}", x)
        if part != "2c":
            x = sketch.activation(f"encoder.relu{at}_branch{part}", x)
    if first:
        name = f"encoder.res{at}_branch1"
        shortcut = sketch.convolution(name, shortcut, 4 * width, kernel=1, stride=stride)
        shortcut = _normalised(sketch, config, f"encoder.bn{at}_branch1", shortcut)
    x = sketch.add(f"encoder.add{at}", Sum(), x, shortcut)
    return sketch.activation(f"encoder.relu{at}", x)


def _mobilenet(sketch: Sketch, config: NetworkConfig, x: str) -> list[str]:
    x = sketch.convolution("encoder.conv1", x, 32, stride=2, padding=1, bias=False)
    x = _finished(sketch, config, "encoder.conv1", x)
    taps, before = [], 0
    for i, width in enumerate(MOBILENET, start=1):
        stride = 2 if before not in (0, width) else 1
        if stride == 2:
            taps.append(x)
        name = f"encoder.conv_dw_{i}"
        inputs = sketch.width(x)
        x = sketch.convolution(name, x, inputs, stride=stride, padding=1, groups=inputs, bias=False)
        x = _finished(sketch, config, name, x)
        name = f"encoder.conv_pw_{i}"
        x = sketch.convolution(name, x, width, kernel=1, bias=False)
        x = _finished(sketch, config, name, x)
        before = width
    return [*taps, x]


def _finished(sketch: Sketch, config: NetworkConfig, name: str, x: str) -> str:
    x = _normalised(sketch, config, f"{name}_bn", x)
    return sketch.add(f"{name}_relu", Activation("relu6"), x)


def _normalised(sketch: Sketch, config: NetworkConfig, name: str, x: str) -> str:
    return sketch.normalisation(name, x, eps=config.norm_eps, momentum=config.norm_momentum)


def _pooled(sketch: Sketch, name: str, x: str, *, kernel: int) -> str:
    none = sketch.axes(0)
    layer = Pooling(sketch.axes(kernel), sketch.axes(2), none, none, 1)
    return sketch.add(name, layer, x)
