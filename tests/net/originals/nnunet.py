"""nnU-Net v2's plain network, whose state dict has every tensor several times."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
NORM = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}

Axes = Sequence[int]


class Single(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: Axes, stride: Axes) -> None:
        super().__init__()
        dimensions, padding = len(kernel), [k // 2 for k in kernel]
        self.conv = CONVOLUTION[dimensions](inputs, outputs, kernel, stride, padding)
        self.norm = NORM[dimensions](outputs, affine=True)
        self.nonlin = nn.LeakyReLU(0.01)
        self.all_modules = nn.Sequential(self.conv, self.norm, self.nonlin)

    def forward(self, x: Tensor) -> Tensor:
        return self.all_modules(x)


class Stacked(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: Axes, stride: Axes) -> None:
        super().__init__()
        once = [1] * len(kernel)
        self.convs = nn.Sequential(
            Single(inputs, outputs, kernel, stride), Single(outputs, outputs, kernel, once)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.convs(x)


class Encoder(nn.Module):
    def __init__(self, channels: int, widths: Axes, kernels: list[Axes], steps: list[Axes]) -> None:
        super().__init__()
        strides = [[1] * len(kernels[0]), *steps]
        inputs = [channels, *widths]
        self.stages = nn.Sequential(
            *(
                nn.Sequential(Stacked(i, o, k, s))
                for i, o, k, s in zip(inputs, widths, kernels, strides, strict=False)
            )
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class Decoder(nn.Module):
    def __init__(
        self, encoder: Encoder, classes: int, widths: Axes, kernels: list[Axes], steps: list[Axes]
    ) -> None:
        super().__init__()
        self.encoder = encoder
        dimensions = len(kernels[0])
        stages, ups, heads = [], [], []
        for level in reversed(range(len(steps))):
            width, once = widths[level], [1] * dimensions
            up = TRANSPOSED[dimensions](widths[level + 1], width, steps[level], steps[level])
            ups.append(up)
            stages.append(Stacked(2 * width, width, kernels[level], once))
            heads.append(CONVOLUTION[dimensions](width, classes, 1))
        self.stages, self.transpconvs = nn.ModuleList(stages), nn.ModuleList(ups)
        self.seg_layers = nn.ModuleList(heads)

    def forward(self, skips: list[Tensor]) -> list[Tensor]:
        x, logits = skips[-1], []
        levels = zip(self.transpconvs, self.stages, self.seg_layers, skips[-2::-1], strict=True)
        for up, stage, head, skip in levels:
            x = stage(torch.cat([up(x), skip], dim=1))
            logits.append(head(x))
        return logits[::-1]


class Plain(nn.Module):
    """`steps`: strides below each level; all lists begin with the finest."""

    def __init__(
        self, channels: int, classes: int, widths: Axes, kernels: list[Axes], steps: list[Axes]
    ) -> None:
        super().__init__()
        self.encoder = Encoder(channels, widths, kernels, steps)
        self.decoder = Decoder(self.encoder, classes, widths, kernels, steps)

    def levels(self, x: Tensor) -> list[Tensor]:
        return self.decoder(self.encoder(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.levels(x)[0]
