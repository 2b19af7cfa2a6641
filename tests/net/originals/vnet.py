"""mattmacy/vnet.pytorch: its normalisation takes mean and variance from what it is shown."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class OwnStatistics(nn.BatchNorm3d):
    def forward(self, x: Tensor) -> Tensor:
        return functional.batch_norm(x, None, None, self.weight, self.bias, training=True)


class Port(nn.Module):
    """What blocks share; `own`: normalised by own statistics."""

    def __init__(self, elu: bool, own: bool) -> None:
        super().__init__()
        self.elu, self.norm = elu, OwnStatistics if own else nn.BatchNorm3d

    def act(self, width: int) -> nn.Module:
        return nn.ELU() if self.elu else nn.PReLU(width)


class LUConv(Port):
    def __init__(self, width: int, elu: bool, own: bool) -> None:
        super().__init__(elu, own)
        self.relu1 = self.act(width)
        self.conv1 = nn.Conv3d(width, width, 5, padding=2)
        self.bn1 = self.norm(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu1(self.bn1(self.conv1(x)))


class Input(Port):
    def __init__(self, channels: int, width: int, elu: bool, own: bool) -> None:
        super().__init__(elu, own)
        self.conv1 = nn.Conv3d(channels, width, 5, padding=2)
        self.bn1 = self.norm(width)
        self.relu1 = self.act(width)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn1(self.conv1(x))
        return self.relu1(out + torch.cat([x] * (out.shape[1] // x.shape[1]), dim=1))


class Down(Port):
    def __init__(self, inputs: int, count: int, elu: bool, own: bool) -> None:
        super().__init__(elu, own)
        width = 2 * inputs
        self.down_conv = nn.Conv3d(inputs, width, 2, stride=2)
        self.bn1 = self.norm(width)
        self.relu1, self.relu2 = self.act(width), self.act(width)
        self.ops = nn.Sequential(*(LUConv(width, elu, own) for _ in range(count)))

    def forward(self, x: Tensor) -> Tensor:
        down = self.relu1(self.bn1(self.down_conv(x)))
        return self.relu2(self.ops(down) + down)


class Up(Port):
    def __init__(self, inputs: int, outputs: int, count: int, elu: bool, own: bool) -> None:
        super().__init__(elu, own)
        self.up_conv = nn.ConvTranspose3d(inputs, outputs // 2, 2, stride=2)
        self.bn1 = self.norm(outputs // 2)
        self.relu1, self.relu2 = self.act(outputs // 2), self.act(outputs)
        self.ops = nn.Sequential(*(LUConv(outputs, elu, own) for _ in range(count)))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        both = torch.cat([self.relu1(self.bn1(self.up_conv(x))), skip], dim=1)
        return self.relu2(self.ops(both) + both)


class Output(Port):
    def __init__(self, inputs: int, classes: int, elu: bool, own: bool) -> None:
        super().__init__(elu, own)
        self.conv1 = nn.Conv3d(inputs, classes, 5, padding=2)
        self.bn1 = self.norm(classes)
        self.conv2 = nn.Conv3d(classes, classes, 1)
        self.relu1 = self.act(classes)

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(self.conv2(self.relu1(self.bn1(self.conv1(x)))), dim=1)


class VNet(nn.Module):
    def __init__(
        self,
        channels: int = 1,
        classes: int = 2,
        *,
        w: int = 16,
        elu: bool = False,
        own: bool = True,
    ) -> None:
        super().__init__()
        self.in_tr = Input(channels, w, elu, own)
        self.down_tr32 = Down(w, 1, elu, own)
        self.down_tr64 = Down(2 * w, 2, elu, own)
        self.down_tr128 = Down(4 * w, 3, elu, own)
        self.down_tr256 = Down(8 * w, 2, elu, own)
        self.up_tr256 = Up(16 * w, 16 * w, 2, elu, own)
        self.up_tr128 = Up(16 * w, 8 * w, 2, elu, own)
        self.up_tr64 = Up(8 * w, 4 * w, 1, elu, own)
        self.up_tr32 = Up(4 * w, 2 * w, 1, elu, own)
        self.out_tr = Output(2 * w, classes, elu, own)

    def forward(self, x: Tensor) -> Tensor:
        skips = [self.in_tr(x)]
        for down in (self.down_tr32, self.down_tr64, self.down_tr128, self.down_tr256):
            skips.append(down(skips[-1]))
        x = skips.pop()
        for up in (self.up_tr256, self.up_tr128, self.up_tr64, self.up_tr32):
            x = up(x, skips.pop())
        return self.out_tr(x)
