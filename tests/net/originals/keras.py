"""U-Nets of Keras, computed plainly: zhixuhao/unet, image-segmentation-keras, IntelAI/unet."""

from collections import Counter
from math import prod

import torch
from torch import Tensor
from torch.nn import functional

from tests.net.originals.fill import hashed

RESNET50 = ((2, 64, 3), (3, 128, 4), (4, 256, 6))
MOBILENET = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512)


class Tape:
    """Layers as functions; each weight is made when it is first used, channels last, and kept."""

    def __init__(self, *, first: int = 0, gain: float = 1.4) -> None:
        self.state: dict[str, Tensor] = {}
        self.counted = Counter({"conv2d": first, "batch_normalization": first})
        self.gain = gain

    def named(self, kind: str) -> str:
        number = self.counted[kind]
        self.counted[kind] += 1
        return f"{kind}_{number}" if number else kind

    def weight(self, key: str, *shape: int) -> Tensor:
        values = hashed(shape, key)
        if len(shape) > 1:
            terms = prod(shape[:-1]) if shape[-1] > 1 or shape[0] == 1 else 9
            values = values * (3 / terms) ** 0.5 * self.gain
        elif "variance" in key:
            values = 1 + values / 2
        else:
            values = values / 4 + ("gamma" in key)
        self.state[key] = values
        return values

    def conv(
        self, x: Tensor, outputs: int, kernel: int = 3, *, name: str = "", stride: int = 1,
        padding: int | None = None, bias: bool = True,
    ) -> Tensor:  # fmt: skip
        name, axes = name or self.named("conv2d"), x.ndim - 2
        weight = self.weight(f"{name}/kernel", *(kernel,) * axes, x.shape[1], outputs)
        shift = self.weight(f"{name}/bias", outputs) if bias else None
        if padding is None:
            # TensorFlow's "same": of an odd number of zeros the greater part is behind.
            x = functional.pad(x, [(kernel - 1) // 2, kernel // 2] * axes)
        convolve = functional.conv3d if axes == 3 else functional.conv2d
        turned = weight.permute(axes + 1, axes, *range(axes))
        return convolve(x, turned, shift, stride, padding or 0)

    def partial(self, x: Tensor, outputs: int, name: str) -> Tensor:
        """3 x 3, scaled where taps lie beyond the map, before the bias is added."""
        weight = self.weight(f"{name}/img_kernel", 3, 3, x.shape[1], outputs)
        shift = self.weight(f"{name}/bias", outputs)
        rows, columns = (torch.full((n,), 3.0) for n in x.shape[2:])
        for edge in (rows, columns):
            edge[0], edge[-1] = 2, 2
        scaled = functional.conv2d(x, weight.permute(3, 2, 0, 1), padding=1)
        return scaled * (9 / torch.outer(rows, columns)) + shift[:, None, None]

    def depthwise(self, x: Tensor, name: str, stride: int) -> Tensor:
        weight = self.weight(f"{name}/depthwise_kernel", 3, 3, x.shape[1], 1)
        turned = weight.permute(2, 3, 0, 1)
        return functional.conv2d(x, turned, None, stride, 1, groups=x.shape[1])

    def transposed(self, x: Tensor, outputs: int, name: str) -> Tensor:
        axes = x.ndim - 2
        weight = self.weight(f"{name}/kernel", *(2,) * axes, outputs, x.shape[1])
        shift = self.weight(f"{name}/bias", outputs)
        spread = functional.conv_transpose3d if axes == 3 else functional.conv_transpose2d
        return spread(x, weight.permute(axes + 1, axes, *range(axes)), shift, 2)

    def norm(self, x: Tensor, name: str = "") -> Tensor:
        name = name or self.named("batch_normalization")
        gamma, beta, mean, variance = (
            self.weight(f"{name}/{part}", x.shape[1])
            for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return functional.batch_norm(x, mean, variance, gamma, beta, eps=1e-3)


def repeated(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2)


def pooled(x: Tensor, kernel: int = 2) -> Tensor:
    pool = functional.max_pool3d if x.ndim == 5 else functional.max_pool2d
    return pool(x, kernel, 2)


def zhixuhao(tape: Tape, x: Tensor, *, w: int = 64) -> Tensor:
    def twice(x: Tensor, width: int) -> Tensor:
        return tape.conv(tape.conv(x, width).relu(), width).relu()

    skips = []
    for i in range(4):
        x = twice(x, w * 2**i)
        skips.append(x)
        x = pooled(x)
    x = twice(x, 16 * w)
    for i in reversed(range(4)):
        up = tape.conv(repeated(x), w * 2**i, 2).relu()
        x = twice(torch.cat([skips.pop(), up], dim=1), w * 2**i)
    return tape.conv(tape.conv(x, 2).relu(), 1, 1).sigmoid()


def decoded(tape: Tape, taps: list[Tensor], classes: int, feats: str) -> Tensor:
    """The expanding path that the networks of image-segmentation-keras share."""
    x = tape.norm(tape.conv(taps.pop(), 512).relu())
    for width, name in ((256, ""), (128, ""), (64, feats)):
        x = torch.cat([repeated(x), taps.pop()], dim=1)
        x = tape.norm(tape.conv(x, width, name=name).relu())
    return tape.conv(x, classes).softmax(dim=1)


def vanilla(tape: Tape, x: Tensor, *, classes: int = 2, feats: str = "seg_feats") -> Tensor:
    taps = []
    for width in (64, 128, 256, 256):
        x = pooled(tape.norm(tape.conv(x, width)).relu())
        taps.append(x)
    # A fifth level is built and not used: numbers go on behind it.
    tape.named("conv2d")
    tape.named("batch_normalization")
    return decoded(tape, taps, classes, feats)


def mini(tape: Tape, x: Tensor, *, classes: int = 2) -> Tensor:
    def twice(x: Tensor, width: int, name: str = "") -> Tensor:
        return tape.conv(tape.conv(x, width).relu(), width, name=name).relu()

    first = twice(x, 32)
    second = twice(pooled(first), 64)
    x = twice(pooled(second), 128)
    x = twice(torch.cat([repeated(x), second], dim=1), 64)
    x = twice(torch.cat([repeated(x), first], dim=1), 32, "seg_feats")
    return tape.conv(x, classes, 1).softmax(dim=1)


def vgg(tape: Tape, x: Tensor, *, classes: int = 2) -> Tensor:
    taps = []
    for i, (width, count) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3)), start=1):
        for j in range(count):
            x = tape.conv(x, width, name=f"block{i}_conv{j + 1}").relu()
        x = pooled(x)
        taps.append(x)
    return decoded(tape, taps, classes, "seg_feats")


def resnet50(tape: Tape, x: Tensor, *, classes: int = 2) -> Tensor:
    x = tape.conv(x, 64, 7, name="conv1", stride=2, padding=3)
    taps = [x]
    x = pooled(tape.norm(x, "bn_conv1").relu(), 3)
    for stage, width, count in RESNET50:
        for i in range(count):
            at, stride = f"{stage}{'abcdef'[i]}_branch", 2 if stage > 2 and i == 0 else 1
            y = tape.conv(x, width, 1, name=f"res{at}2a", stride=stride)
            y = tape.conv(tape.norm(y, f"bn{at}2a").relu(), width, name=f"res{at}2b")
            y = tape.conv(tape.norm(y, f"bn{at}2b").relu(), 4 * width, 1, name=f"res{at}2c")
            y = tape.norm(y, f"bn{at}2c")
            if i == 0:
                x = tape.conv(x, 4 * width, 1, name=f"res{at}1", stride=stride)
                x = tape.norm(x, f"bn{at}1")
            x = (x + y).relu()
        taps.append(functional.pad(x, [1, 0, 1, 0]) if stage == 2 else x)
    return decoded(tape, taps, classes, "seg_feats")


def mobilenet(tape: Tape, x: Tensor, *, classes: int = 2) -> Tensor:
    x = tape.conv(x, 32, name="conv1", stride=2, padding=1, bias=False)
    x = functional.relu6(tape.norm(x, "conv1_bn"))
    taps, steps = [], (2, 4, 6)
    for i, width in enumerate(MOBILENET, start=1):
        if i in steps:
            taps.append(x)
        x = tape.depthwise(x, f"conv_dw_{i}", 2 if i in steps else 1)
        x = functional.relu6(tape.norm(x, f"conv_dw_{i}_bn"))
        x = tape.conv(x, width, 1, name=f"conv_pw_{i}", bias=False)
        x = functional.relu6(tape.norm(x, f"conv_pw_{i}_bn"))
    return decoded(tape, [*taps, x], classes, "seg_feats")


def intel(
    tape: Tape,
    x: Tensor,
    *,
    w: int = 16,
    outputs: int = 1,
    nearest: bool = False,
    partial: bool = False,
) -> Tensor:
    """2-D or 3-D, as the input is; only the latter has normalisations."""

    def twice(x: Tensor, width: int, name: str) -> Tensor:
        for i, letter in enumerate("ab"):
            if x.ndim == 5:
                x = tape.norm(tape.conv(x, width, name=f"{name}_conv{i}"), f"{name}_bn{i}")
            elif partial:
                x = tape.partial(x, width, f"{name}{letter}")
            else:
                x = tape.conv(x, width, name=f"{name}{letter}")
            x = x.relu()
        return x

    skips = []
    for i, letter in enumerate("ABCD"):
        x = twice(x, w * 2**i, f"encode{letter}")
        skips.append(x)
        x = pooled(x)
    x = twice(x, 16 * w, "encodeE")
    names = ("decodeC", "decodeB", "decodeA", "convOut")
    for i, letter, name in zip((3, 2, 1, 0), "ECBA", names, strict=True):
        up = repeated(x) if nearest else tape.transposed(x, w * 2**i, f"transconv{letter}")
        x = twice(torch.cat([up, skips.pop()], dim=1), w * 2**i, name)
    return tape.conv(x, outputs, 1, name="PredictionMask").sigmoid()
