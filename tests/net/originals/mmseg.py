"""mmsegmentation UNet-S5-D16 with its three heads."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class ConvModule(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int = 3, dilation: int = 1) -> None:
        super().__init__()
        padding = dilation * (kernel // 2)
        self.conv = nn.Conv2d(
            inputs, outputs, kernel, padding=padding, dilation=dilation, bias=False
        )
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(x)))


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(ConvModule(inputs, outputs), ConvModule(outputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.convs(x)


class InterpConv(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.interp_upsample = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
            ConvModule(inputs, outputs, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.interp_upsample(x)


class UpBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv_block = Block(2 * outputs, outputs)
        self.upsample = InterpConv(inputs, outputs)

    def forward(self, skip: Tensor, x: Tensor) -> Tensor:
        return self.conv_block(torch.cat([skip, self.upsample(x)], 1))


class Backbone(nn.Module):
    def __init__(self, channels: int, w: int) -> None:
        super().__init__()
        self.encoder = nn.ModuleList([nn.Sequential(Block(channels, w))])
        self.decoder = nn.ModuleList()
        for i in range(1, 5):
            wide, wider = w * 2 ** (i - 1), w * 2**i
            self.encoder.append(nn.Sequential(nn.MaxPool2d(2), Block(wide, wider)))
            self.decoder.append(UpBlock(wider, wide))

    def forward(self, x: Tensor) -> list[Tensor]:
        found: list[Tensor] = []
        for stage in self.encoder:
            x = stage(x)
            found.append(x)
        maps = [x]
        for i in reversed(range(4)):
            x = self.decoder[i](found[i], x)
            maps.append(x)
        return maps


class Head(nn.Module):
    def __init__(self, index: int, width: int, classes: int) -> None:
        super().__init__()
        self.index = index
        self.conv_seg = nn.Conv2d(width, classes, 1)

    def logits(self, x: Tensor) -> Tensor:
        return self.conv_seg(functional.dropout2d(x, 0.1, self.training))


class FCNHead(Head):
    def __init__(self, inputs: int, width: int, classes: int, index: int = 4) -> None:
        super().__init__(index, width, classes)
        self.convs = nn.Sequential(ConvModule(inputs, width))

    def forward(self, maps: list[Tensor]) -> Tensor:
        return self.logits(self.convs(maps[self.index]))


class PSPHead(Head):
    def __init__(self, inputs: int, width: int, classes: int) -> None:
        super().__init__(4, width, classes)
        self.psp_modules = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(n), ConvModule(inputs, width, 1))
            for n in (1, 2, 3, 6)
        )
        self.bottleneck = ConvModule(inputs + 4 * width, width)

    def forward(self, maps: list[Tensor]) -> Tensor:
        x = maps[self.index]
        parts = [x, *(resized(module(x), x) for module in self.psp_modules)]
        return self.logits(self.bottleneck(torch.cat(parts, 1)))


class ASPPHead(Head):
    def __init__(self, inputs: int, width: int, classes: int) -> None:
        super().__init__(4, width, classes)
        self.image_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), ConvModule(inputs, width, 1))
        self.aspp_modules = nn.ModuleList(
            ConvModule(inputs, width, 1 if dilation == 1 else 3, dilation)
            for dilation in (1, 12, 24, 36)
        )
        self.bottleneck = ConvModule(5 * width, width)

    def forward(self, maps: list[Tensor]) -> Tensor:
        x = maps[self.index]
        parts = [resized(self.image_pool(x), x), *(module(x) for module in self.aspp_modules)]
        return self.logits(self.bottleneck(torch.cat(parts, 1)))


def resized(x: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(x, like.shape[2:], mode="bilinear", align_corners=False)


class Segmentor(nn.Module):
    def __init__(
        self, head: str, *, channels: int = 3, classes: int = 2, auxiliary: bool = True, w: int = 64
    ) -> None:
        super().__init__()
        self.backbone = Backbone(channels, w)
        if head == "fcn":
            self.decode_head: Head = FCNHead(w, w, classes)
        else:
            self.decode_head = {"psp": PSPHead, "aspp": ASPPHead}[head](w, w // 4, classes)
        if auxiliary:
            self.auxiliary_head = FCNHead(2 * w, w, classes, index=3)

    def forward(self, x: Tensor) -> Tensor:
        return resized(self.decode_head(self.backbone(x)), x)

    def auxiliary(self, x: Tensor) -> Tensor:
        """What training sees besides."""
        return resized(self.auxiliary_head(self.backbone(x)), x)
