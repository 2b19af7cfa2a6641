"""milesial/Pytorch-UNet: v4 (no bias) and v1/v2 (bias), transposed or bilinear."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class DoubleConv(nn.Module):
    def __init__(self, inputs: int, outputs: int, middle: int, bias: bool) -> None:
        super().__init__()
        self.double_conv = nn.Sequential(
            nn.Conv2d(inputs, middle, 3, padding=1, bias=bias),
            nn.BatchNorm2d(middle),
            nn.ReLU(),
            nn.Conv2d(middle, outputs, 3, padding=1, bias=bias),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.double_conv(x)


class Down(nn.Module):
    def __init__(self, inputs: int, outputs: int, bias: bool) -> None:
        super().__init__()
        block = DoubleConv(inputs, outputs, outputs, bias)
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), block)

    def forward(self, x: Tensor) -> Tensor:
        return self.maxpool_conv(x)


class Up(nn.Module):
    def __init__(self, inputs: int, outputs: int, bilinear: bool, bias: bool) -> None:
        super().__init__()
        if bilinear:
            self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
            self.conv = DoubleConv(inputs, outputs, inputs // 2, bias)
        else:
            self.up = nn.ConvTranspose2d(inputs, inputs // 2, 2, stride=2)
            self.conv = DoubleConv(inputs, outputs, outputs, bias)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = self.up(x)
        rows, columns = skip.shape[2] - x.shape[2], skip.shape[3] - x.shape[3]
        x = functional.pad(x, [columns // 2, columns - columns // 2, rows // 2, rows - rows // 2])
        return self.conv(torch.cat([skip, x], dim=1))


class Milesial(nn.Module):
    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        bilinear: bool = False,
        bias: bool = False,
        w: int = 64,
    ) -> None:
        super().__init__()
        half = 2 if bilinear else 1
        self.inc = DoubleConv(channels, w, w, bias)
        self.down1 = Down(w, 2 * w, bias)
        self.down2 = Down(2 * w, 4 * w, bias)
        self.down3 = Down(4 * w, 8 * w, bias)
        self.down4 = Down(8 * w, 16 * w // half, bias)
        self.up1 = Up(16 * w, 8 * w // half, bilinear, bias)
        self.up2 = Up(8 * w, 4 * w // half, bilinear, bias)
        self.up3 = Up(4 * w, 2 * w // half, bilinear, bias)
        self.up4 = Up(2 * w, w, bilinear, bias)
        self.outc = nn.Module()
        self.outc.conv = nn.Conv2d(w, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        x1 = self.inc(x)
        x2 = self.down1(x1)
        x3 = self.down2(x2)
        x4 = self.down3(x3)
        x = self.up1(self.down4(x4), x4)
        return self.outc.conv(self.up4(self.up3(self.up2(x, x3), x2), x1))
