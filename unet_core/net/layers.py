"""The layers of a graph as torch computes them."""

from collections.abc import Callable
from functools import singledispatch
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from unet_core.config.networks import everywhere
from unet_core.config.networks import layers as of
from unet_core.net.modules import (
    Change,
    Combine,
    Cut,
    Fit,
    Interpolate,
    Means,
    PaddedMaximum,
    Place,
    Repeat,
    Resize,
)


class _Own:
    """What our convolutions do before torch's: pad unevenly, standardise their kernels."""

    zeros: tuple[int, ...] = ()
    """In front of and behind the axes, the last axis first, where these differ."""

    standardised: bool = False
    weight: Tensor

    def kernels(self) -> Tensor:
        """The kernels as they are used."""
        if not self.standardised:
            return self.weight
        axes = tuple(range(1, self.weight.ndim))
        centred = self.weight - self.weight.mean(axes, keepdim=True)
        return centred / (centred.square().mean(axes, keepdim=True) + 1e-5).sqrt()


class Conv2d(_Own, nn.Conv2d):
    """A 2-D convolution."""

    def padded(self, x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """The input with the zeros that the kernel cannot add, and those that it can."""
        return (functional.pad(x, self.zeros) if self.zeros else x), _numbers(self.padding)

    def forward(self, input: Tensor) -> Tensor:
        """What `nn.Conv2d` gives of the padded input."""
        padded, _ = self.padded(input)
        return cast(Tensor, self._conv_forward(padded, self.kernels(), self.bias))


class Partial2d(Conv2d):
    """A 2-D convolution whose results at the edge are scaled as if no tap lay beyond it.

    Partial convolution as padding (Liu et al. 2018): times taps over taps within, then the bias.
    """

    def forward(self, input: Tensor) -> Tensor:
        """What `Conv2d` gives, scaled where zeros were added."""
        padded, beyond = self.padded(input)
        inside, _ = self.padded(input.new_ones(1, 1, *input.shape[2:]))
        taps = input.new_ones(1, 1, *self.kernel_size)
        within = functional.conv2d(inside, taps, None, self.stride, beyond, self.dilation)
        plain = cast(Tensor, self._conv_forward(padded, self.kernels(), None))
        scaled = plain * (taps.numel() / within)
        return scaled if self.bias is None else scaled + self.bias[:, None, None]


class Conv3d(_Own, nn.Conv3d):
    """A 3-D convolution that gives and learns the right numbers however few its sections.

    oneDNN 3.12 leaves memory unwritten where it pads few sections in bfloat16 (`AVX512_BF16`):
    weights' gradients of 2 sections, results of 1 section of 1 channel. There, sections are added
    before the convolution; for 3 or more it pads correctly.
    """

    def padded(self, x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """The input with the zeros that the kernel cannot add, and those that it can."""
        z, *plane = _numbers(self.padding)
        if self.zeros:
            x = functional.pad(x, self.zeros)
        if not z or x.shape[2] > 2:
            return x, (z, *plane)
        return functional.pad(x, (0, 0, 0, 0, z, z)), (0, *plane)

    def forward(self, input: Tensor) -> Tensor:
        """What `nn.Conv3d` gives of the padded input."""
        padded, beyond = self.padded(input)
        return functional.conv3d(
            padded, self.kernels(), self.bias, self.stride, beyond, self.dilation, self.groups
        )


def _numbers(padding: str | tuple[int, ...]) -> tuple[int, ...]:
    return cast(tuple[int, ...], padding)


CONVOLUTION: dict[int, type[Conv2d] | type[Conv3d]] = {2: Conv2d, 3: Conv3d}
TRANSPOSED = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
MAXIMUM = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
MEAN = {2: nn.AvgPool2d, 3: nn.AvgPool3d}
BATCH_NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
INSTANCE_NORM = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
DROPOUT = {2: nn.Dropout2d, 3: nn.Dropout3d}

POINTWISE: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "relu6": lambda: nn.ReLU6(inplace=True),
    "elu": lambda: nn.ELU(inplace=True),
    "swish": lambda: nn.SiLU(inplace=True),
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "softmax": lambda: nn.Softmax(dim=1),
}


@singledispatch
def made(layer: of.Layer) -> nn.Module:
    """The module that computes a layer."""
    raise TypeError(f"no module for {type(layer).__name__}")


@made.register
def _(layer: of.Convolution) -> nn.Module:
    even = layer.before == layer.after
    kind = Partial2d if layer.partial else CONVOLUTION[len(layer.kernel)]
    own = kind(
        layer.inputs,
        layer.outputs,
        layer.kernel,  # type: ignore[arg-type]
        layer.stride,  # type: ignore[arg-type]
        layer.before if even else 0,  # type: ignore[arg-type]
        dilation=layer.dilation,
        groups=layer.groups,
        bias=layer.bias,
    )
    own.zeros = () if even else _pairs(layer.before, layer.after)
    own.standardised = layer.standardised
    return own


@made.register
def _(layer: of.Transposed) -> nn.Module:
    own = TRANSPOSED[len(layer.kernel)](
        layer.inputs,
        layer.outputs,
        layer.kernel,  # type: ignore[arg-type]
        layer.stride,  # type: ignore[arg-type]
        layer.padding,  # type: ignore[arg-type]
        groups=layer.groups,
        bias=layer.bias,
    )
    if not layer.learnt:
        own.requires_grad_(False)
        fill_bilinear(own.weight)
    return own


@made.register
def _(layer: of.Normalisation) -> nn.Module:
    if layer.kind == "group":
        return nn.GroupNorm(layer.groups, layer.width, eps=layer.eps, affine=layer.affine)
    if layer.kind == "instance":
        return INSTANCE_NORM[layer.dimensions](layer.width, eps=layer.eps, affine=layer.affine)
    return BATCH_NORM[layer.dimensions](
        layer.width, eps=layer.eps, momentum=layer.momentum, affine=layer.affine
    )


@made.register
def _(layer: of.Activation) -> nn.Module:
    if layer.kind == "leaky_relu":
        return nn.LeakyReLU(layer.slope, inplace=True)
    return nn.PReLU(layer.width) if layer.kind == "prelu" else POINTWISE[layer.kind]()


@made.register
def _(layer: of.Pooling) -> nn.Module:
    kind = MAXIMUM if layer.kind == "max" else MEAN
    even = layer.before == layer.after
    pool = kind[len(layer.kernel)](
        layer.kernel,  # type: ignore[arg-type]
        layer.stride,  # type: ignore[arg-type]
        layer.before if even else 0,  # type: ignore[arg-type]
        ceil_mode=layer.partial,
    )
    return pool if even else PaddedMaximum(pool, _pairs(layer.before, layer.after))


@made.register
def _(layer: everywhere.Bins) -> nn.Module:
    return Means(layer.count)


@made.register
def _(layer: everywhere.Resized) -> nn.Module:
    return Resize(layer.mode, layer.align_corners)


@made.register
def _(layer: everywhere.Aligned) -> nn.Module:
    return Interpolate(layer.factor, "linear", True)


@made.register
def _(layer: of.Interpolation) -> nn.Module:
    return Interpolate(layer.factor, layer.mode, False if layer.mode == "linear" else None)


@made.register
def _(layer: of.Cut) -> nn.Module:
    return Cut(layer)


@made.register
def _(layer: of.Fitted) -> nn.Module:
    return Fit()


@made.register
def _(layer: of.Placed) -> nn.Module:
    return Place(layer.start)


@made.register
def _(layer: of.Join) -> nn.Module:
    return Combine("join")


@made.register
def _(layer: of.Sum) -> nn.Module:
    return Combine("mean" if layer.mean else "sum")


@made.register
def _(layer: of.Product) -> nn.Module:
    return Combine("product")


@made.register
def _(layer: of.Dropout) -> nn.Module:
    return DROPOUT[layer.dimensions](layer.rate) if layer.whole else nn.Dropout(layer.rate)


@made.register
def _(layer: of.Affine) -> nn.Module:
    return Change(layer)


@made.register
def _(layer: of.Repeated) -> nn.Module:
    return Repeat(layer)


def fill_bilinear(kernels: Tensor) -> None:
    """Kernels (in, out, [z,] y, x) of interpolation between centres, every channel by itself."""
    taps = torch.ones(())
    for size in kernels.shape[2:]:
        factor = (size + 1) // 2
        centre = factor - 1 if size % 2 else factor - 0.5
        ramp = 1 - (torch.arange(size) - centre).abs() / factor
        taps = taps[..., None] * ramp
    with torch.no_grad():
        kernels.zero_()
        for channel in range(min(kernels.shape[:2])):
            kernels[channel, channel] = taps


def _pairs(before: of.Axes, after: of.Axes) -> tuple[int, ...]:
    """Zeros in the order of `torch.nn.functional.pad`: the last axis first."""
    return tuple(n for pair in reversed(list(zip(before, after, strict=True))) for n in pair)
