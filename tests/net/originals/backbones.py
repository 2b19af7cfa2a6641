"""Backbones by the names of torchvision and EfficientNet-PyTorch."""

from math import ceil

import torch
from torch import Tensor, nn
from torch.nn import functional


class Residual(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int, kernels: tuple[int, ...]) -> None:
        super().__init__()
        outputs = width * (4 if len(kernels) == 3 else 1)
        widths = [inputs, *[width] * (len(kernels) - 1), outputs]
        self.count = len(kernels)
        for i, kernel in enumerate(kernels, start=1):
            step = stride if i == self.count - 1 else 1
            conv = nn.Conv2d(
                widths[i - 1], widths[i], kernel, step, padding=kernel // 2, bias=False
            )
            self.add_module(f"conv{i}", conv)
            self.add_module(f"bn{i}", nn.BatchNorm2d(widths[i]))
        self.downsample = None
        if stride > 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        for i in range(1, self.count + 1):
            x = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x))
            x = functional.relu(x) if i < self.count else functional.relu(x + shortcut)
        return x


class ResNet(nn.Module):
    def __init__(
        self, counts: tuple[int, ...], kernels: tuple[int, ...], channels: int = 3
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        factor = 4 if len(kernels) == 3 else 1
        inputs = 64
        for i, count in enumerate(counts, start=1):
            blocks = []
            for j in range(count):
                stride = 2 if i > 1 and j == 0 else 1
                blocks.append(Residual(inputs, 32 * 2**i, stride, kernels))
                inputs = 32 * 2**i * factor
            self.add_module(f"layer{i}", nn.Sequential(*blocks))
        self.widths = [64, *(64 * 2**i * factor for i in range(4))]

    def forward(self, x: Tensor) -> list[Tensor]:
        taps = [functional.relu(self.bn1(self.conv1(x)))]
        x = functional.max_pool2d(taps[0], 3, 2, 1)
        for i in range(1, 5):
            x = getattr(self, f"layer{i}")(x)
            taps.append(x)
        return taps

    def stages(self) -> list[nn.Module]:
        return [self.layer4]


class Classifier(ResNet):
    def __init__(self, counts: tuple[int, ...], kernels: tuple[int, ...], classes: int) -> None:
        super().__init__(counts, kernels)
        self.fc = nn.Linear(self.widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return self.fc(super().forward(x)[-1].mean((2, 3)))


class ConvBNReLU(nn.Sequential):
    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, groups: int) -> None:
        conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        super().__init__(conv, nn.BatchNorm2d(outputs), nn.ReLU6())


class Inverted(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        parts: list[nn.Module] = [ConvBNReLU(inputs, wide, 1, 1, 1)] if expansion > 1 else []
        parts += [
            ConvBNReLU(wide, wide, 3, stride, wide),
            nn.Conv2d(wide, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        self.conv = nn.Sequential(*parts)
        self.same = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.same else self.conv(x)


class MobileNetV2(nn.Module):
    widths = (16, 24, 32, 96, 1280)

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.features = nn.Sequential(ConvBNReLU(channels, 32, 3, 2, 1))
        inputs = 32
        for expansion, outputs, count, stride in (
            (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
            (6, 160, 3, 2), (6, 320, 1, 1),
        ):  # fmt: skip
            for i in range(count):
                step = stride if i == 0 else 1
                self.features.append(Inverted(inputs, outputs, step, expansion))
                inputs = outputs
        self.features.append(ConvBNReLU(inputs, 1280, 1, 1, 1))

    def forward(self, x: Tensor) -> list[Tensor]:
        taps = []
        for i, module in enumerate(self.features):
            x = module(x)
            if i in (1, 3, 6, 13, 18):
                taps.append(x)
        return taps

    def stages(self) -> list[nn.Module]:
        return list(self.features[14:])


class VGG16(nn.Module):
    widths = (128, 256, 512, 512, 512)

    def __init__(self, normed: bool, channels: int = 3) -> None:
        super().__init__()
        self.features = nn.Sequential()
        inputs = channels
        for outputs, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
            for _ in range(count):
                self.features.append(nn.Conv2d(inputs, outputs, 3, padding=1))
                if normed:
                    self.features.append(nn.BatchNorm2d(outputs))
                self.features.append(nn.ReLU())
                inputs = outputs
            self.features.append(nn.MaxPool2d(2))

    def forward(self, x: Tensor) -> list[Tensor]:
        taps = []
        for module in self.features:
            if isinstance(module, nn.MaxPool2d):
                taps.append(x)
            x = module(x)
        return [*taps[1:], x]


class SameConv(nn.Conv2d):
    """Padded as TensorFlow pads an input of `size`; uneven zeros are behind."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, size: int, stride: int = 1, **more: object
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride, **more)  # type: ignore[arg-type]
        zeros = max(0, (ceil(size / stride) - 1) * stride + kernel - size)
        self.zeros = (zeros // 2, zeros - zeros // 2) * 2

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(functional.pad(x, self.zeros))


class MBConv(nn.Module):
    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int, size: int
    ) -> None:
        super().__init__()
        wide = inputs * expansion
        self.expansion, self.same = expansion, stride == 1 and inputs == outputs
        if expansion > 1:
            self._expand_conv = nn.Conv2d(inputs, wide, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(wide, eps=1e-3)
        self._depthwise_conv = SameConv(
            wide, wide, kernel, stride=stride, groups=wide, bias=False, size=size
        )
        self._bn1 = nn.BatchNorm2d(wide, eps=1e-3)
        self._se_reduce = nn.Conv2d(wide, inputs // 4, 1)
        self._se_expand = nn.Conv2d(inputs // 4, wide, 1)
        self._project_conv = nn.Conv2d(wide, outputs, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.silu(self._bn0(self._expand_conv(x))) if self.expansion > 1 else x
        y = functional.silu(self._bn1(self._depthwise_conv(y)))
        weight = functional.silu(self._se_reduce(functional.adaptive_avg_pool2d(y, 1)))
        y = torch.sigmoid(self._se_expand(weight)) * y
        y = self._bn2(self._project_conv(y))
        return x + y if self.same else y


class EfficientNet(nn.Module):
    """b0 and, where it is uneven, another nominal size."""

    widths = (32, 24, 40, 112, 320)

    def __init__(self, channels: int = 3, size: int = 224) -> None:
        super().__init__()
        self._conv_stem = SameConv(channels, 32, 3, stride=2, bias=False, size=size)
        self._bn0 = nn.BatchNorm2d(32, eps=1e-3)
        self._blocks = nn.ModuleList()
        size, inputs = ceil(size / 2), 32
        for count, kernel, stride, expansion, outputs in (
            (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80),
            (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320),
        ):  # fmt: skip
            for i in range(count):
                step = stride if i == 0 else 1
                self._blocks.append(MBConv(inputs, outputs, kernel, step, expansion, size))
                size, inputs = ceil(size / step), outputs
        self._conv_head = nn.Conv2d(inputs, 1280, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(1280, eps=1e-3)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = functional.silu(self._bn0(self._conv_stem(x)))
        taps = [x]
        for i, block in enumerate(self._blocks):
            x = block(x)
            if i in (2, 4, 8, 15):
                taps.append(x)
        return taps

    def stages(self) -> list[nn.Module]:
        return list(self._blocks[9:])
