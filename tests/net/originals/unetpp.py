"""4uiiurz1/pytorch-nested-unet."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(x)))


class Nested(nn.Module):
    def __init__(
        self, classes: int, channels: int = 3, *, supervised: bool = False, w: int = 32
    ) -> None:
        super().__init__()
        widths = [w * 2**i for i in range(5)]
        for i, width in enumerate(widths):
            self.add_module(f"conv{i}_0", Block(widths[i - 1] if i else channels, width))
        for j in range(1, 5):
            for i in range(5 - j):
                block = Block(widths[i] * j + widths[i + 1], widths[i])
                self.add_module(f"conv{i}_{j}", block)
        self.finals = [f"final{j}" for j in range(1, 5)] if supervised else ["final"]
        for name in self.finals:
            self.add_module(name, nn.Conv2d(w, classes, 1))
        self.pool = nn.MaxPool2d(2, 2)
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps: dict[tuple[int, int], Tensor] = {}
        for i in range(5):
            x = getattr(self, f"conv{i}_0")(self.pool(x) if i else x)
            maps[i, 0] = x
            for j in range(1, i + 1):
                row = i - j
                skips = [maps[row, k] for k in range(j)]
                joined = torch.cat([*skips, self.up(maps[row + 1, j - 1])], 1)
                maps[row, j] = getattr(self, f"conv{row}_{j}")(joined)
        last = [maps[0, j] for j in range(5 - len(self.finals), 5)]
        return [getattr(self, name)(x) for name, x in zip(self.finals, last, strict=True)]
