"""mateuszbuda/brain-segmentation-pytorch."""

from collections import OrderedDict

import torch
from torch import Tensor, nn


def block(inputs: int, w: int, name: str) -> nn.Sequential:
    layers: list[tuple[str, nn.Module]] = [
        (f"{name}conv1", nn.Conv2d(inputs, w, 3, padding=1, bias=False)),
        (f"{name}norm1", nn.BatchNorm2d(w)),
        (f"{name}relu1", nn.ReLU()),
        (f"{name}conv2", nn.Conv2d(w, w, 3, padding=1, bias=False)),
        (f"{name}norm2", nn.BatchNorm2d(w)),
        (f"{name}relu2", nn.ReLU()),
    ]
    return nn.Sequential(OrderedDict(layers))


class Mateuszbuda(nn.Module):
    def __init__(self, channels: int = 3, classes: int = 1, w: int = 32) -> None:
        super().__init__()
        self.encoder1 = block(channels, w, "enc1")
        self.encoder2 = block(w, 2 * w, "enc2")
        self.encoder3 = block(2 * w, 4 * w, "enc3")
        self.encoder4 = block(4 * w, 8 * w, "enc4")
        self.bottleneck = block(8 * w, 16 * w, "bottleneck")
        self.upconv4 = nn.ConvTranspose2d(16 * w, 8 * w, 2, stride=2)
        self.decoder4 = block(16 * w, 8 * w, "dec4")
        self.upconv3 = nn.ConvTranspose2d(8 * w, 4 * w, 2, stride=2)
        self.decoder3 = block(8 * w, 4 * w, "dec3")
        self.upconv2 = nn.ConvTranspose2d(4 * w, 2 * w, 2, stride=2)
        self.decoder2 = block(4 * w, 2 * w, "dec2")
        self.upconv1 = nn.ConvTranspose2d(2 * w, w, 2, stride=2)
        self.decoder1 = block(2 * w, w, "dec1")
        self.conv = nn.Conv2d(w, classes, 1)
        self.pool = nn.MaxPool2d(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        e1 = self.encoder1(x)
        e2 = self.encoder2(self.pool(e1))
        e3 = self.encoder3(self.pool(e2))
        e4 = self.encoder4(self.pool(e3))
        x = self.bottleneck(self.pool(e4))
        x = self.decoder4(torch.cat((self.upconv4(x), e4), dim=1))
        x = self.decoder3(torch.cat((self.upconv3(x), e3), dim=1))
        x = self.decoder2(torch.cat((self.upconv2(x), e2), dim=1))
        x = self.decoder1(torch.cat((self.upconv1(x), e1), dim=1))
        return torch.sigmoid(self.conv(x))
