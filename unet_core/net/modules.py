"""What layers of a graph compute beside torch's own modules."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from unet_core.config.networks import layers as of

LINEAR = {2: "bilinear", 3: "trilinear"}


class Fit(nn.Module):
    """The first map, cut or zero-padded around its centre to the size of the second."""

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        """The middle of `x`, or `x` in the middle of zeros; a view where voxels are cut."""
        surplus = [a - b for a, b in zip(x.shape[2:], like.shape[2:], strict=True)]
        zeros: list[int] = []
        for axis, n in enumerate(surplus, start=2):
            if n > 0:
                x = x.narrow(axis, n // 2, x.shape[axis] - n)
            zeros = [max(0, -n) // 2, max(0, -n) - max(0, -n) // 2, *zeros]
        return functional.pad(x, zeros) if any(zeros) else x


class Place(nn.Module):
    """The first map from a voxel on, as large as the second."""

    def __init__(self, start: int) -> None:
        super().__init__()
        self.start = start

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        """A view."""
        for axis in range(2, x.ndim):
            x = x.narrow(axis, self.start, like.shape[axis])
        return x


class Cut(nn.Module):
    """Voxels taken off each axis, or zeros added where negative."""

    def __init__(self, layer: of.Cut) -> None:
        super().__init__()
        pairs = reversed(list(zip(layer.before, layer.after, strict=True)))
        self.zeros = [-n for pair in pairs for n in pair]
        self.cuts = tuple(zip(layer.before, layer.after, strict=True))

    def forward(self, x: Tensor) -> Tensor:
        """The inner part; a view where voxels are taken off alone."""
        if max(self.zeros) > 0:
            return functional.pad(x, self.zeros)
        for axis, (before, after) in enumerate(self.cuts, start=2):
            x = x.narrow(axis, before, x.shape[axis] - before - after)
        return x


class PaddedMaximum(nn.Module):
    """The largest value of windows that reach over the edge unevenly."""

    def __init__(self, pool: nn.Module, zeros: Sequence[int]) -> None:
        super().__init__()
        self.pool, self.zeros = pool, list(zeros)

    def forward(self, x: Tensor) -> Tensor:
        """Maxima; what lies outside counts for nothing."""
        padded = functional.pad(x, self.zeros, value=-torch.inf)
        return cast(Tensor, self.pool(padded))


class Means(nn.Module):
    """Means over `count` parts of the map per axis."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, x: Tensor) -> Tensor:
        """`count` voxels per axis."""
        mean = functional.adaptive_avg_pool3d if x.ndim == 5 else functional.adaptive_avg_pool2d
        return mean(x, self.count)


class Interpolate(nn.Module):
    """More voxels by interpolation."""

    def __init__(self, factor: Sequence[int], mode: str, align_corners: bool | None) -> None:
        super().__init__()
        self.factor, self.mode, self.corners = tuple(map(float, factor)), mode, align_corners

    def forward(self, x: Tensor) -> Tensor:
        """Features at a smaller voxel size."""
        mode = LINEAR[x.ndim - 2] if self.mode == "linear" else self.mode
        return functional.interpolate(
            x, scale_factor=list(self.factor), mode=mode, align_corners=self.corners
        )


class Resize(nn.Module):
    """The first map, interpolated to the size of the second."""

    def __init__(self, mode: str, align_corners: bool) -> None:
        super().__init__()
        self.mode, self.corners = mode, align_corners if mode == "linear" else None

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        """Features at the voxels of `like`."""
        mode = LINEAR[x.ndim - 2] if self.mode == "linear" else self.mode
        return functional.interpolate(x, like.shape[2:], mode=mode, align_corners=self.corners)


class Combine(nn.Module):
    """Several maps side by side, or their sum, mean or product."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, *maps: Tensor) -> Tensor:
        """One map."""
        if self.kind == "join":
            return torch.cat(maps, dim=1)
        total = maps[0]
        for one in maps[1:]:
            total = total * one if self.kind == "product" else total + one
        return total / len(maps) if self.kind == "mean" else total


class Change(nn.Module):
    """``x * scale + shift``."""

    def __init__(self, layer: of.Affine) -> None:
        super().__init__()
        self.scale, self.shift = layer.scaled, layer.shift

    def forward(self, x: Tensor) -> Tensor:
        """Changed values."""
        return x * self.scale + self.shift


class Repeat(nn.Module):
    """Channels several times over."""

    def __init__(self, layer: of.Repeated) -> None:
        super().__init__()
        self.times, self.whole = layer.times, layer.whole

    def forward(self, x: Tensor) -> Tensor:
        """More channels."""
        if self.whole:
            return torch.cat([x] * self.times, dim=1)
        return x.repeat_interleave(self.times, dim=1)
