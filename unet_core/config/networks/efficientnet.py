"""EfficientNet b0 to b7 (Tan and Le 2019), as its TensorFlow weights want it."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from unet_core.config.networks.everywhere import Bins
from unet_core.config.networks.graph import Sketch
from unet_core.config.networks.layers import Activation, Product, Sum

EPS, MOMENTUM = 1e-3, 0.01
"""Of its normalisations."""

STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Of b0, per stage: blocks, kernel, stride, expansion and channels."""

STEM, HEAD = 32, 1280
"""Channels of b0's first and last convolution."""


@dataclass(frozen=True)
class Scaling:
    """What tells the members of the family apart."""

    width: float
    depth: float
    nominal_px: int
    """Size of the images that it was trained on. Padding is that of TensorFlow's "SAME" for this
    size, whatever the size of the input: published weights want it so."""

    taps: tuple[int, int, int, int]
    """Blocks whose results are skips; b0's third is, unlike all others, not the last of its
    stage."""


MEMBERS = {
    "efficientnet-b0": Scaling(1.0, 1.0, 224, (2, 4, 8, 15)),
    "efficientnet-b1": Scaling(1.0, 1.1, 240, (4, 7, 15, 22)),
    "efficientnet-b2": Scaling(1.1, 1.2, 260, (4, 7, 15, 22)),
    "efficientnet-b3": Scaling(1.2, 1.4, 300, (4, 7, 17, 25)),
    "efficientnet-b4": Scaling(1.4, 1.8, 380, (5, 9, 21, 31)),
    "efficientnet-b5": Scaling(1.6, 2.2, 456, (7, 12, 26, 38)),
    "efficientnet-b6": Scaling(1.8, 2.6, 528, (8, 14, 30, 44)),
    "efficientnet-b7": Scaling(2.0, 3.1, 600, (10, 17, 37, 54)),
}


@dataclass(frozen=True)
class Block:
    """One inverted bottleneck (MBConv)."""

    kernel: int
    stride: int
    expansion: int
    inputs: int
    outputs: int


def efficientnet_taps(sketch: Sketch, encoder: str, x: str, *, dilated: bool = False) -> list[str]:
    """Maps at 1/2, 1/4, ..., 1/32 of the voxels.

    The last 1x1 convolution, which only a classifier reads, is there for the sake of published
    weights; no result depends on it.

    `dilated`: what follows the map at 1/16 keeps its voxels, and spreads its kernels instead;
    those of one voxel too, for the same bits as others have.
    """
    member = MEMBERS[encoder]
    size = member.nominal_px
    before, after = _same(size, 3, 2)
    x = sketch.convolution(
        "encoder.conv_stem",
        x,
        _rounded(STEM, member),
        stride=2,
        padding=before,
        after=after,
        bias=False,
    )
    x = _normalised(sketch, "encoder.bn0", x)
    x = sketch.activation("encoder.swish", x, "swish")
    taps = [x]
    size = ceil(size / 2)
    for i, block in enumerate(_blocks(member)):
        spread = dilated and i > member.taps[2]
        x = _drawn(sketch, f"encoder.blocks.{i}", x, block, size=size, spread=spread)
        size = ceil(size / block.stride)
        if i in member.taps:
            taps.append(x)
    unread = sketch.convolution(
        "encoder.conv_head", x, _rounded(HEAD, member), kernel=1, bias=False
    )
    _normalised(sketch, "encoder.bn1", unread)
    return taps


def _blocks(member: Scaling) -> Iterator[Block]:
    inputs = _rounded(STEM, member)
    for count, kernel, stride, expansion, width in STAGES:
        outputs = _rounded(width, member)
        for i in range(ceil(count * member.depth)):
            yield Block(kernel, stride if i == 0 else 1, expansion, inputs, outputs)
            inputs = outputs


def _drawn(sketch: Sketch, name: str, x: str, block: Block, *, size: int, spread: bool) -> str:
    """One block: expansion, convolution per channel, weights for the channels, projection."""
    shortcut, dilation = x, 1 + spread
    width = block.inputs * block.expansion
    if block.expansion > 1:
        x = sketch.convolution(
            f"{name}.expand_conv", x, width, kernel=1, dilation=dilation, bias=False
        )
        x = _normalised(sketch, f"{name}.bn0", x)
        x = sketch.activation(f"{name}.swish0", x, "swish")
    before, after = _same(size, block.kernel, block.stride)
    if spread:
        before = after = block.kernel // 2 * 2
    x = sketch.convolution(
        f"{name}.depthwise_conv",
        x,
        width,
        kernel=block.kernel,
        stride=1 if spread else block.stride,
        padding=before,
        after=after,
        dilation=dilation,
        groups=width,
        bias=False,
    )
    x = _normalised(sketch, f"{name}.bn1", x)
    x = sketch.activation(f"{name}.swish1", x, "swish")
    x = _weighted(sketch, name, x, block.inputs // 4, dilation)
    x = sketch.convolution(
        f"{name}.project_conv", x, block.outputs, kernel=1, dilation=dilation, bias=False
    )
    x = _normalised(sketch, f"{name}.bn2", x)
    if block.stride > 1 or block.inputs != block.outputs:
        return x
    return sketch.add(f"{name}.sum", Sum(), x, shortcut)


def _weighted(sketch: Sketch, name: str, x: str, squeezed: int, dilation: int) -> str:
    """Channels times weights that are made of the means of all (squeeze and excite)."""
    y = sketch.add(f"{name}.mean", Bins(), x)
    y = sketch.convolution(f"{name}.se_reduce", y, max(1, squeezed), kernel=1, dilation=dilation)
    y = sketch.activation(f"{name}.se_swish", y, "swish")
    y = sketch.convolution(f"{name}.se_expand", y, sketch.width(x), kernel=1, dilation=dilation)
    y = sketch.add(f"{name}.se_sigmoid", Activation("sigmoid"), y)
    return sketch.add(f"{name}.weighted", Product(), x, y)


def _normalised(sketch: Sketch, name: str, x: str) -> str:
    return sketch.normalisation(name, x, eps=EPS, momentum=MOMENTUM)


def _same(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros in front and behind with which `size` voxels become ``ceil(size / stride)``."""
    zeros = max(0, (ceil(size / stride) - 1) * stride + kernel - size)
    return zeros // 2, zeros - zeros // 2


def _rounded(width: int, member: Scaling) -> int:
    """Channels times the width of the member, to a multiple of 8 that is not a tenth less."""
    wanted = width * member.width
    nearest = max(8, int(wanted + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * wanted else nearest + 8
