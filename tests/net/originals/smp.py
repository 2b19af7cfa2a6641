"""segmentation_models.pytorch: U-Net, UNet++ and DeepLabV3+ on a backbone."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.net.originals.backbones import VGG16, EfficientNet, MobileNetV2, ResNet, SameConv

BACKBONES: dict[str, Callable[[int], nn.Module]] = {
    "resnet18": lambda channels: ResNet((2, 2, 2, 2), (3, 3), channels),
    "resnet50": lambda channels: ResNet((3, 4, 6, 3), (1, 3, 1), channels),
    "efficientnet-b0": EfficientNet,
    "mobilenet_v2": MobileNetV2,
    "vgg16": lambda channels: VGG16(False, channels),
    "vgg16_bn": lambda channels: VGG16(True, channels),
}


def conv_relu(inputs: int, outputs: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class Block(nn.Module):
    def __init__(self, inputs: int, skip: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = conv_relu(inputs + skip, outputs)
        self.conv2 = conv_relu(outputs, outputs)

    def forward(self, x: Tensor, skips: list[Tensor]) -> Tensor:
        x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
        return self.conv2(self.conv1(torch.cat([x, *skips], 1)))


class Decoder(nn.Module):
    """`widths`: of the taps, the deepest first."""

    def __init__(self, widths: list[int], outputs: list[int], centred: bool) -> None:
        super().__init__()
        self.center = (
            nn.Sequential(conv_relu(widths[0], widths[0]), conv_relu(widths[0], widths[0]))
            if centred
            else nn.Identity()
        )
        inputs, skips = [widths[0], *outputs[:-1]], [*widths[1:], 0]
        self.blocks = nn.ModuleList(map(Block, inputs, skips, outputs))

    def forward(self, taps: list[Tensor]) -> Tensor:
        x = self.center(taps[0])
        for block, skips in zip(self.blocks, [*([tap] for tap in taps[1:]), []], strict=True):
            x = block(x, skips)
        return x


class Nested(Decoder):
    """The centre is there, but not used."""

    def __init__(self, widths: list[int], outputs: list[int], centred: bool) -> None:
        super().__init__(widths, outputs, centred)
        inputs, skips = [widths[0], *outputs[:-1]], [*widths[1:], 0]
        blocks = {}
        for row in range(4):
            for first in range(row + 1):
                wide = skips[row] * (row + 1 - first)
                if first == 0:
                    block = Block(inputs[row], wide, outputs[row])
                else:
                    block = Block(skips[row - 1], wide, skips[row])
                blocks[f"x_{first}_{row}"] = block
        blocks["x_0_4"] = Block(inputs[4], 0, outputs[4])
        self.blocks = nn.ModuleDict(blocks)  # type: ignore[assignment]

    def forward(self, taps: list[Tensor]) -> Tensor:
        maps: dict[tuple[int, int], Tensor] = {}
        for steps in range(4):
            for first in range(4 - steps):
                row = first + steps
                below = taps[first] if steps == 0 else maps[first, row - 1]
                skips = [maps[i, row] for i in range(first + 1, row + 1)]
                block = self.blocks[f"x_{first}_{row}"]  # type: ignore[index]
                maps[first, row] = block(below, [*skips, taps[row + 1]])
        return self.blocks["x_0_4"](maps[0, 3], [])  # type: ignore[index]


class Unet(nn.Module):
    kind: type[Decoder] = Decoder

    def __init__(self, encoder: str, channels: int = 3, classes: int = 1, w: int = 16) -> None:
        super().__init__()
        self.encoder = BACKBONES[encoder](channels)
        widths = list(self.encoder.widths)[::-1]  # type: ignore[arg-type]
        outputs = [w * 2**i for i in reversed(range(5))]
        self.decoder = self.kind(widths, outputs, encoder.startswith("vgg"))
        self.segmentation_head = nn.Sequential(nn.Conv2d(w, classes, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return self.segmentation_head(self.decoder(self.encoder(x)[::-1]))


class UnetPlusPlus(Unet):
    kind = Nested


def separable(inputs: int, outputs: int, dilation: int = 1) -> nn.Sequential:
    depthwise = nn.Conv2d(
        inputs, inputs, 3, padding=dilation, dilation=dilation, groups=inputs, bias=False
    )
    return nn.Sequential(depthwise, nn.Conv2d(inputs, outputs, 1, bias=False))


def finished(conv: nn.Module, outputs: int) -> list[nn.Module]:
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU()]


class ASPP(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            [nn.Sequential(*finished(nn.Conv2d(inputs, 256, 1, bias=False), 256))]
        )
        for rate in (12, 24, 36):
            self.convs.append(nn.Sequential(*finished(separable(inputs, 256, rate), 256)))
        pooled = finished(nn.Conv2d(inputs, 256, 1, bias=False), 256)
        self.convs.append(nn.Sequential(nn.AdaptiveAvgPool2d(1), *pooled))
        self.project = nn.Sequential(*finished(nn.Conv2d(5 * 256, 256, 1, bias=False), 256))

    def forward(self, x: Tensor) -> Tensor:
        *parts, pooled = (conv(x) for conv in self.convs)
        parts.append(functional.interpolate(pooled, x.shape[2:], mode="bilinear"))
        return self.project(torch.cat(parts, 1))


class PlusDecoder(nn.Module):
    def __init__(self, inputs: int, skip: int) -> None:
        super().__init__()
        self.aspp = nn.Sequential(ASPP(inputs), *finished(separable(256, 256), 256))
        self.block1 = nn.Sequential(*finished(nn.Conv2d(skip, 48, 1, bias=False), 48))
        self.block2 = nn.Sequential(*finished(separable(256 + 48, 256), 256))

    def forward(self, taps: list[Tensor]) -> Tensor:
        return self.block2(torch.cat([quadrupled(self.aspp(taps[-1])), self.block1(taps[1])], 1))


class DeepLabV3Plus(nn.Module):
    def __init__(self, encoder: str, channels: int = 3, classes: int = 1) -> None:
        super().__init__()
        self.encoder = BACKBONES[encoder](channels)
        for stage in self.encoder.stages():  # type: ignore[operator]
            for module in stage.modules():
                if isinstance(module, nn.Conv2d):
                    dilate(module)
        widths = list(self.encoder.widths)  # type: ignore[arg-type]
        self.decoder = PlusDecoder(widths[-1], widths[1])
        self.segmentation_head = nn.Sequential(nn.Conv2d(256, classes, 1))

    def forward(self, x: Tensor) -> Tensor:
        return quadrupled(self.segmentation_head(self.decoder(self.encoder(x))))


def dilate(conv: nn.Conv2d) -> None:
    """Step over no voxel, spread the kernel to twice its reach."""
    conv.stride, conv.dilation = (1, 1), (2, 2)
    zeros = conv.kernel_size[0] // 2 * 2
    conv.padding = (zeros, zeros)
    if isinstance(conv, SameConv):
        conv.zeros = (0, 0, 0, 0)


def quadrupled(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=4.0, mode="bilinear", align_corners=True)
