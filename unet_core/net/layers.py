"""The layers of a graph as torch computes them."""

from collections.abc import Callable, Sequence
from functools import singledispatch
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from unet_core.config.networks import layers as of


class _Own:
    """What our convolutions do before torch's: pad unevenly, standardise their kernels."""

    zeros: tuple[int, ...] = ()
    """In front of and behind the axes, the last axis first, where these differ."""

    standardised: bool = False
    weight: nn.Parameter

    def kernels(self) -> Tensor:
        """The kernels as they are used."""
        if not self.standardised:
            return self.weight
        axes = tuple(range(1, self.weight.ndim))
        centred = self.weight - self.weight.mean(axes, keepdim=True)
        return centred / (centred.square().mean(axes, keepdim=True) + 1e-5).sqrt()


class Conv2d(_Own, nn.Conv2d):
    """A 2-D convolution."""

    def forward(self, input: Tensor) -> Tensor:
        """What `nn.Conv2d` gives of the padded input."""
        padded = functional.pad(input, self.zeros) if self.zeros else input
        return self._conv_forward(padded, self.kernels(), self.bias)


class Conv3d(_Own, nn.Conv3d):
    """A 3-D convolution that gives and learns the right numbers however few its sections.

    oneDNN 3.12 leaves memory unwritten where it pads few sections in bfloat16 (`AVX512_BF16`):
    weights' gradients of 2 sections, results of 1 section of 1 channel. There, sections are added
    before the convolution; for 3 or more it pads correctly.
    """

    def forward(self, input: Tensor) -> Tensor:
        """What `nn.Conv3d` gives of the padded input."""
        padded = functional.pad(input, self.zeros) if self.zeros else input
        z, y, x = cast(tuple[int, int, int], self.padding)
        if not z or input.shape[2] > 2:
            return self._conv_forward(padded, self.kernels(), self.bias)
        padded = functional.pad(padded, (0, 0, 0, 0, z, z))
        return functional.conv3d(
            padded, self.kernels(), self.bias, self.stride, (0, y, x), self.dilation, self.groups
        )


class Fit(nn.Module):
    """The first map, cut or zero-padded around its centre to the size of the second."""

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        """The middle of `x`, or `x` in the middle of zeros; a view where voxels are cut."""
        surplus = [a - b for a, b in zip(x.shape[2:], like.shape[2:], strict=True)]
        zeros: list[int] = []
        for axis, n in enumerate(surplus, start=2):
            if n > 0:
                x = x.narrow(axis, n // 2, x.shape[axis] - n)
            zeros = [max(0, -n) // 2, max(0, -n) - max(0, -n) // 2, *zeros]
        return functional.pad(x, zeros) if any(zeros) else x


class Cut(nn.Module):
    """Voxels taken off each axis, or zeros added where negative."""

    def __init__(self, layer: of.Cut) -> None:
        super().__init__()
        pairs = reversed(list(zip(layer.before, layer.after, strict=True)))
        self.zeros = [-n for pair in pairs for n in pair]

    def forward(self, x: Tensor) -> Tensor:
        """The inner part; a view where voxels are taken off alone."""
        return functional.pad(x, self.zeros)


class PaddedMaximum(nn.Module):
    """The largest value of windows that reach over the edge unevenly."""

    def __init__(self, pool: nn.Module, zeros: Sequence[int]) -> None:
        super().__init__()
        self.pool, self.zeros = pool, list(zeros)

    def forward(self, x: Tensor) -> Tensor:
        """Maxima; what lies outside counts for nothing."""
        padded = functional.pad(x, self.zeros, value=-torch.inf)
        return cast(Tensor, self.pool(padded))


class Interpolate(nn.Module):
    """More voxels by interpolation."""

    def __init__(self, factor: Sequence[int], mode: str, align_corners: bool | None) -> None:
        super().__init__()
        self.factor, self.mode, self.corners = tuple(map(float, factor)), mode, align_corners

    def forward(self, x: Tensor) -> Tensor:
        """Features at a smaller voxel size."""
        mode = LINEAR[x.ndim - 2] if self.mode == "linear" else self.mode
        return functional.interpolate(
            x, scale_factor=list(self.factor), mode=mode, align_corners=self.corners
        )


class Resize(nn.Module):
    """The first map, interpolated linearly to the size of the second."""

    def __init__(self, align_corners: bool) -> None:
        super().__init__()
        self.corners = align_corners

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        """Features at the voxels of `like`."""
        mode = LINEAR[x.ndim - 2]
        return functional.interpolate(x, like.shape[2:], mode=mode, align_corners=self.corners)


class Combine(nn.Module):
    """Several maps side by side, or their sum, mean or product."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, *maps: Tensor) -> Tensor:
        """One map."""
        if self.kind == "join":
            return torch.cat(maps, dim=1)
        total = maps[0]
        for one in maps[1:]:
            total = total * one if self.kind == "product" else total + one
        return total / len(maps) if self.kind == "mean" else total


class Change(nn.Module):
    """``x * scale + shift``."""

    def __init__(self, layer: of.Affine) -> None:
        super().__init__()
        self.scale, self.shift = layer.scaled, layer.shift

    def forward(self, x: Tensor) -> Tensor:
        """Changed values."""
        return x * self.scale + self.shift


class Repeat(nn.Module):
    """Channels several times over."""

    def __init__(self, layer: of.Repeated) -> None:
        super().__init__()
        self.times, self.whole = layer.times, layer.whole

    def forward(self, x: Tensor) -> Tensor:
        """More channels."""
        if self.whole:
            return torch.cat([x] * self.times, dim=1)
        return x.repeat_interleave(self.times, dim=1)


CONVOLUTION: dict[int, type["Conv2d"] | type["Conv3d"]] = {2: Conv2d, 3: Conv3d}
TRANSPOSED = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
MAXIMUM = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
MEAN = {2: nn.AvgPool2d, 3: nn.AvgPool3d}
ADAPTIVE = {2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}
BATCH_NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
INSTANCE_NORM = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
DROPOUT = {2: nn.Dropout2d, 3: nn.Dropout3d}
LINEAR = {2: "bilinear", 3: "trilinear"}

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
    own = CONVOLUTION[len(layer.kernel)](
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
    return own.requires_grad_(layer.learnt)


@made.register
def _(layer: of.Normalisation) -> nn.Module:
    if layer.kind == "group":
        return nn.GroupNorm(layer.groups, layer.width, eps=layer.eps)
    if layer.kind == "instance":
        return INSTANCE_NORM[layer.dimensions](layer.width, eps=layer.eps, affine=True)
    return BATCH_NORM[layer.dimensions](layer.width, eps=layer.eps, momentum=layer.momentum)


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
        layer.kernel,
        layer.stride,
        layer.before if even else 0,
        ceil_mode=layer.partial,
    )
    return pool if even else PaddedMaximum(pool, _pairs(layer.before, layer.after))


@made.register
def _(layer: of.Bins) -> nn.Module:
    return nn.AdaptiveAvgPool2d(layer.count)


@made.register
def _(layer: of.Resized) -> nn.Module:
    return Resize(layer.align_corners)


@made.register
def _(layer: of.Aligned) -> nn.Module:
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


def _pairs(before: of.Axes, after: of.Axes) -> tuple[int, ...]:
    """Zeros in the order of `torch.nn.functional.pad`: the last axis first."""
    return tuple(n for pair in reversed(list(zip(before, after, strict=True))) for n in pair)
