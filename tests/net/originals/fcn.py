"""wkentaro/pytorch-fcn: FCN-8s, plain and with its scores scaled (at once)."""

from torch import Tensor, nn
from torch.nn import functional

COUNTS = (2, 2, 3, 3, 3)


class FCN8s(nn.Module):
    def __init__(self, classes: int, *, w: int = 64, fc: int = 4096, at_once: bool = False) -> None:
        super().__init__()
        inputs = 3
        for level, (count, times) in enumerate(zip(COUNTS, (1, 2, 4, 8, 8), strict=True), start=1):
            for i in range(1, count + 1):
                padding = 100 if level == i == 1 else 1
                conv = nn.Conv2d(inputs, w * times, 3, padding=padding)
                self.add_module(f"conv{level}_{i}", conv)
                inputs = w * times
        self.fc6, self.fc7 = nn.Conv2d(inputs, fc, 7), nn.Conv2d(fc, fc, 1)
        self.score_fr = nn.Conv2d(fc, classes, 1)
        self.score_pool3 = nn.Conv2d(4 * w, classes, 1)
        self.score_pool4 = nn.Conv2d(8 * w, classes, 1)
        self.upscore2 = nn.ConvTranspose2d(classes, classes, 4, stride=2, bias=False)
        self.upscore8 = nn.ConvTranspose2d(classes, classes, 16, stride=8, bias=False)
        self.upscore_pool4 = nn.ConvTranspose2d(classes, classes, 4, stride=2, bias=False)
        self.scales = (0.01, 0.0001) if at_once else (1.0, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        h, pools = x, []
        for level, count in enumerate(COUNTS, start=1):
            for i in range(1, count + 1):
                h = getattr(self, f"conv{level}_{i}")(h).relu()
            h = functional.max_pool2d(h, 2, 2, ceil_mode=True)
            pools.append(h)
        h = self.fc7(self.fc6(h).relu()).relu()
        h = self.upscore2(self.score_fr(h))
        finer = self.score_pool4(pools[3] * self.scales[0])
        h = h + finer[:, :, 5 : 5 + h.shape[2], 5 : 5 + h.shape[3]]
        h = self.upscore_pool4(h)
        finer = self.score_pool3(pools[2] * self.scales[1])
        h = h + finer[:, :, 9 : 9 + h.shape[2], 9 : 9 + h.shape[3]]
        h = self.upscore8(h)
        return h[:, :, 31 : 31 + x.shape[2], 31 : 31 + x.shape[3]]
