"""wolny/pytorch-3dunet: UNet3D and UNet2D in the order group norm, convolution, ReLU."""

import torch
from torch import Tensor, nn
from torch.nn import functional

CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
POOL = {2: functional.max_pool2d, 3: functional.max_pool3d}


def single(dimensions: int, inputs: int, outputs: int) -> nn.Sequential:
    block = nn.Sequential()
    block.add_module("groupnorm", nn.GroupNorm(8 if inputs >= 8 else 1, inputs))
    block.add_module("conv", CONVOLUTION[dimensions](inputs, outputs, 3, padding=1, bias=False))
    block.add_module("ReLU", nn.ReLU())
    return block


class Level(nn.Module):
    def __init__(self, dimensions: int, inputs: int, middle: int, outputs: int) -> None:
        super().__init__()
        self.basic_module = nn.Sequential()
        self.basic_module.add_module("SingleConv1", single(dimensions, inputs, middle))
        self.basic_module.add_module("SingleConv2", single(dimensions, middle, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.basic_module(x)


class UNet(nn.Module):
    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        f_maps: int = 64,
        levels: int = 4,
        dimensions: int = 3,
        final_sigmoid: bool = True,
    ) -> None:
        super().__init__()
        widths = [f_maps * 2**level for level in range(levels)]
        inputs = [channels, *widths[:-1]]
        self.encoders = nn.ModuleList(
            Level(dimensions, i, max(i, o // 2), o) for i, o in zip(inputs, widths, strict=True)
        )
        self.decoders = nn.ModuleList(
            Level(dimensions, low + high, low, low)
            for low, high in zip(widths[-2::-1], widths[:0:-1], strict=True)
        )
        self.final_conv = CONVOLUTION[dimensions](f_maps, classes, 1)
        self.pool, self.final_sigmoid = POOL[dimensions], final_sigmoid

    def forward(self, x: Tensor) -> Tensor:
        skips: list[Tensor] = []
        for level, encoder in enumerate(self.encoders):
            x = encoder(self.pool(x, 2) if level else x)
            skips.append(x)
        skips.pop()
        for decoder in self.decoders:
            skip = skips.pop()
            x = functional.interpolate(x, size=skip.shape[2:], mode="nearest")
            x = decoder(torch.cat([skip, x], dim=1))
        x = self.final_conv(x)
        return torch.sigmoid(x) if self.final_sigmoid else torch.softmax(x, dim=1)
