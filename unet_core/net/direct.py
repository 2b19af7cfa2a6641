"""The network's layers on a CPU: one library for all convolutions, and a faster pooling."""

from functools import lru_cache
from typing import cast

import torch
from torch import Tensor, nn

from unet_core.net.unet import UNet


class Direct(nn.Module):
    """A convolution by oneDNN.

    torch itself takes other kernels for inputs of few voxels, and for one channel in float32 in
    3-D also for large ones: these round otherwise, are 2 to 7 times slower, make copies and leave
    the layout that the next layer wants.
    """

    def __init__(self, convolution: nn.Conv2d | nn.Conv3d) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, x: Tensor) -> Tensor:
        """What the convolution gives, without padding."""
        own = self.convolution
        if x.dtype == torch.float64 or (x.dtype == torch.bfloat16 and not _has_bfloat16()):
            return cast(Tensor, own(x))
        return torch.mkldnn_convolution(
            x, own.weight, own.bias, [0] * (x.ndim - 2), own.stride, own.dilation, 1
        )


@lru_cache(maxsize=1)
def _has_bfloat16() -> bool:
    """Does oneDNN compute it here? It has no float64, and no bfloat16 before AVX-512."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class Pool(nn.Module):
    """The largest of 2 voxels per axis: (n, c, ..., y, x) -> (n, c, ..., y / 2, x / 2).

    As maxima of strided views: up to 7 times as fast as torch's pooling, which also writes where
    each was found, in 8 bytes. NaN stays NaN.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Features at twice the voxel size; sizes are even."""
        for axis in range(2, x.ndim):
            before = (slice(None),) * axis
            x = torch.maximum(x[(*before, slice(0, None, 2))], x[(*before, slice(1, None, 2))])
        return x


def made_direct(network: UNet) -> UNet:
    """The network with all convolutions by oneDNN, where torch was built with it; changes it."""
    network.register_module("pool", Pool())
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return network
    for parent in list(network.modules()):
        for name, part in list(parent.named_children()):
            if isinstance(part, nn.Conv2d | nn.Conv3d):
                setattr(parent, name, Direct(part))
    return network
