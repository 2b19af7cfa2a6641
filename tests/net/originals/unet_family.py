"""ShawnBIT/UNet-family: U-Net and UNet++."""

import torch
from torch import Tensor, nn


class Pair(nn.Module):
    def __init__(self, inputs: int, outputs: int, norm: bool) -> None:
        super().__init__()
        for name, channels in (("conv1", inputs), ("conv2", outputs)):
            layers: list[nn.Module] = [nn.Conv2d(channels, outputs, 3, padding=1)]
            layers += [nn.BatchNorm2d(outputs)] if norm else []
            self.add_module(name, nn.Sequential(*layers, nn.ReLU()))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x))


class Up(nn.Module):
    def __init__(self, inputs: int, outputs: int, deconv: bool, skips: int = 1) -> None:
        super().__init__()
        if deconv:
            self.up = nn.ConvTranspose2d(inputs, outputs, 2, stride=2)
        else:
            self.up = nn.Sequential(
                nn.UpsamplingBilinear2d(scale_factor=2), nn.Conv2d(inputs, outputs, 1)
            )
        self.conv = Pair(outputs * (1 + skips), outputs, False)

    def forward(self, below: Tensor, *skips: Tensor) -> Tensor:
        return self.conv(torch.cat([self.up(below), *skips], 1))


class Family(nn.Module):
    def __init__(
        self, channels: int, classes: int, *, w: int = 32, deconv: bool = True, norm: bool = True
    ) -> None:
        super().__init__()
        self.conv1 = Pair(channels, w, norm)
        self.conv2 = Pair(w, 2 * w, norm)
        self.conv3 = Pair(2 * w, 4 * w, norm)
        self.conv4 = Pair(4 * w, 8 * w, norm)
        self.center = Pair(8 * w, 16 * w, norm)
        self.up_concat4 = Up(16 * w, 8 * w, deconv)
        self.up_concat3 = Up(8 * w, 4 * w, deconv)
        self.up_concat2 = Up(4 * w, 2 * w, deconv)
        self.up_concat1 = Up(2 * w, w, deconv)
        self.final = nn.Conv2d(w, classes, 1)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        c1 = self.conv1(x)
        c2 = self.conv2(self.pool(c1))
        c3 = self.conv3(self.pool(c2))
        c4 = self.conv4(self.pool(c3))
        x = self.up_concat4(self.center(self.pool(c4)), c4)
        x = self.up_concat2(self.up_concat3(x, c3), c2)
        return self.final(self.up_concat1(x, c1))


class FamilyNested(nn.Module):
    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        w: int = 32,
        deconv: bool = True,
        norm: bool = True,
        supervised: bool = True,
    ) -> None:
        super().__init__()
        self.supervised = supervised
        widths = [w * 2**i for i in range(5)]
        for i, width in enumerate(widths):
            inputs = widths[i - 1] if i else channels
            self.add_module(f"conv{i}0", Pair(inputs, width, norm))
        for j in range(1, 5):
            for i in range(5 - j):
                self.add_module(f"up_concat{i}{j}", Up(widths[i + 1], widths[i], deconv, j))
        for j in range(1, 5):
            self.add_module(f"final_{j}", nn.Conv2d(w, classes, 1))
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        maps: dict[tuple[int, int], Tensor] = {}
        for i in range(5):
            x = getattr(self, f"conv{i}0")(self.pool(x) if i else x)
            maps[i, 0] = x
        for j in range(1, 5):
            for i in range(5 - j):
                skips = [maps[i, k] for k in range(j)]
                maps[i, j] = getattr(self, f"up_concat{i}{j}")(maps[i + 1, j - 1], *skips)
        finals = [getattr(self, f"final_{j}")(maps[0, j]) for j in range(1, 5)]
        return (finals[0] + finals[1] + finals[2] + finals[3]) / 4 if self.supervised else finals[3]
