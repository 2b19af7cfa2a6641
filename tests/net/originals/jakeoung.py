"""jakeoung/Unet_pytorch."""

import torch
from torch import Tensor, nn


def block(inputs: int, outputs: int, norm: bool) -> nn.Sequential:
    if not norm:
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1),
            nn.ReLU(),
        )
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(0.1),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(0.1),
    )


def up(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=False), nn.ReLU()
    )


class Jakeoung(nn.Module):
    def __init__(self, norm: bool, w: int = 32) -> None:
        super().__init__()
        self.conv1 = block(1, w, norm)
        self.conv2 = block(w, 2 * w, norm)
        self.conv3 = block(2 * w, 4 * w, norm)
        self.conv4 = block(4 * w, 8 * w, norm)
        self.conv5 = block(8 * w, 16 * w, norm)
        self.conv4m = block(16 * w, 8 * w, norm)
        self.conv3m = block(8 * w, 4 * w, norm)
        self.conv2m = block(4 * w, 2 * w, norm)
        self.conv1m = block(2 * w, w, norm)
        self.upsample54 = up(16 * w, 8 * w)
        self.upsample43 = up(8 * w, 4 * w)
        self.upsample32 = up(4 * w, 2 * w)
        self.upsample21 = up(2 * w, w)
        self.conv0 = nn.Sequential(nn.Conv2d(w, 1, 3, padding=1), nn.Sigmoid())
        self.pool = nn.MaxPool2d(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        c1 = self.conv1(x)
        c2 = self.conv2(self.pool(c1))
        c3 = self.conv3(self.pool(c2))
        c4 = self.conv4(self.pool(c3))
        c5 = self.conv5(self.pool(c4))
        m4 = self.conv4m(torch.cat([self.upsample54(c5), c4], 1))
        m3 = self.conv3m(torch.cat([self.upsample43(m4), c3], 1))
        m2 = self.conv2m(torch.cat([self.upsample32(m3), c2], 1))
        m1 = self.conv1m(torch.cat([self.upsample21(m2), c1], 1))
        return self.conv0(m1)
