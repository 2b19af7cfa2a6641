"""The parts of a U-Net in two and three dimensions: blocks, up-sampling, joins."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from unet_core.config import UNetConfig


class Conv3d(nn.Conv3d):
    """A 3-D convolution that gives and learns the right numbers however few its sections.

    oneDNN 3.12 leaves memory unwritten where it pads few sections in bfloat16 (`AVX512_BF16`):
    weights' gradients of 2 sections, results of 1 section of 1 channel. There, sections are added
    before the convolution; for 3 or more it pads correctly.
    """

    def forward(self, input: Tensor) -> Tensor:
        """What `nn.Conv3d` gives."""
        z, y, x = cast(tuple[int, int, int], self.padding)
        if not z or input.shape[2] > 2:
            return super().forward(input)
        padded = functional.pad(input, (0, 0, 0, 0, z, z))
        return functional.conv3d(padded, self.weight, self.bias, self.stride, (0, y, x))


CONVOLUTION = {2: nn.Conv2d, 3: Conv3d}
TRANSPOSED = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
POOLING = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
BATCH_NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
INSTANCE_NORM = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}

CHANNELS_PER_GROUP = 8
LEAK = 0.1


class Block(nn.Sequential):
    """3x3 convolutions, each normalised and activated: (n, inputs, ...) -> (n, outputs, ...).

    Without padding every convolution takes one voxel per side.
    """

    def __init__(self, config: UNetConfig, inputs: int, outputs: int) -> None:
        parts: list[nn.Module] = []
        for i in range(config.convolutions):
            parts += [
                CONVOLUTION[config.dimensions](
                    outputs if i else inputs,
                    outputs,
                    kernel_size=3,
                    padding=1 if config.padding == "same" else 0,
                    bias=config.norm == "none",
                ),
                *_norm(config, outputs),
                nn.LeakyReLU(LEAK, inplace=True)
                if config.activation == "leaky_relu"
                else nn.ReLU(inplace=True),
            ]
        super().__init__(*parts)


def _norm(config: UNetConfig, channels: int) -> list[nn.Module]:
    match config.norm:
        case "batch":
            return [BATCH_NORM[config.dimensions](channels)]
        case "instance":
            return [INSTANCE_NORM[config.dimensions](channels, affine=True)]
        case "group":
            return [nn.GroupNorm(channels // CHANNELS_PER_GROUP, channels)]
        case "none":
            return []


class Interpolation(nn.Module):
    """1x1 convolution, then twice the voxels per axis: (n, inputs, y, x) -> (n, outputs, 2y, 2x).

    In this order because interpolation is linear and its weights sum to 1: the result is that of
    a convolution afterwards, at a quarter of the work (2-D). Without padding, bilinear
    up-sampling drops its outermost voxels, which need neighbours that are not there.
    """

    def __init__(self, config: UNetConfig, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convolution = CONVOLUTION[config.dimensions](inputs, outputs, kernel_size=1)
        linear = {2: "bilinear", 3: "trilinear"}[config.dimensions]
        self.mode = linear if config.up == "bilinear" else "nearest"
        self.drop = 1 if config.up == "bilinear" and config.padding == "valid" else 0

    def forward(self, x: Tensor) -> Tensor:
        """Features at half the voxel size."""
        x = functional.interpolate(self.convolution(x), scale_factor=2, mode=self.mode)
        return crop(x, [size - 2 * self.drop for size in x.shape[2:]]) if self.drop else x


def up_sampling(config: UNetConfig, inputs: int, outputs: int) -> nn.Module:
    """Twice the voxels per axis, `outputs` channels."""
    if config.up == "transposed":
        return TRANSPOSED[config.dimensions](inputs, outputs, kernel_size=2, stride=2)
    return Interpolation(config, inputs, outputs)


def crop(x: Tensor, sizes: list[int]) -> Tensor:
    """The centre of `x`, `sizes` voxels along the spatial axes; a view."""
    for axis, size in enumerate(sizes, start=2):
        x = x.narrow(axis, (x.shape[axis] - size) // 2, size)
    return x


def join(skip: Tensor, up: Tensor) -> Tensor:
    """Channels of the skip's centre, then of `up`."""
    return torch.cat([crop(skip, list(up.shape[2:])), up], dim=1)
