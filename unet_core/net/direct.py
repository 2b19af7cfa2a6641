"""The network's layers on a CPU: one library for all convolutions, and a faster pooling."""

from collections.abc import Sequence
from functools import lru_cache
from typing import cast

import torch
from torch import Tensor, nn

from unet_core.config.networks.layers import Convolution, Pooling
from unet_core.net.layers import Conv2d, Conv3d
from unet_core.net.network import Network


class Direct(nn.Module):
    """A convolution by oneDNN.

    torch itself takes other kernels for inputs of few voxels, and for one channel in float32 in
    3-D also for large ones: these round otherwise, are 2 to 7 times slower, make copies and leave
    the layout that the next layer wants.
    """

    def __init__(self, convolution: Conv2d | Conv3d) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, x: Tensor) -> Tensor:
        """What the convolution gives."""
        own = self.convolution
        if x.dtype == torch.float64 or (x.dtype == torch.bfloat16 and not _has_bfloat16()):
            return cast(Tensor, own(x))
        x, padding = own.padded(x)
        return torch.mkldnn_convolution(
            x, own.kernels(), own.bias, padding, own.stride, own.dilation, own.groups
        )


@lru_cache(maxsize=1)
def _has_bfloat16() -> bool:
    """Does oneDNN compute it here? It has no float64, and no bfloat16 before AVX-512."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class Pool(nn.Module):
    """The largest of windows that do not overlap: (n, c, ..., y, x) -> (n, c, ..., y / s, x / s).

    As maxima of strided views: up to 7 times as fast as torch's pooling, which also writes where
    each was found, in 8 bytes. NaN stays NaN.
    """

    def __init__(self, steps: Sequence[int]) -> None:
        super().__init__()
        self.steps = tuple(steps)

    def forward(self, x: Tensor) -> Tensor:
        """Features at a larger voxel size; what fills no window is left out."""
        for axis, step in enumerate(self.steps, start=2):
            if step == 1:
                continue
            before = (slice(None),) * axis
            stop = x.shape[axis] // step * step
            first, *others = (x[(*before, slice(i, stop, step))] for i in range(step))
            for other in others:
                first = torch.maximum(first, other)
            x = first
        return x


def made_direct(network: Network) -> Network:
    """The network with all convolutions by oneDNN, where torch was built with it; changes it."""
    direct = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    for node in network.graph.nodes:
        layer = node.layer
        if isinstance(layer, Pooling) and layer.kind == "max" and layer.is_disjoint:
            network.put(node.name, Pool(layer.kernel))
        elif isinstance(layer, Convolution) and direct and not layer.partial:
            network.put(node.name, Direct(cast(Conv2d | Conv3d, network.at(node.name))))
    return network
