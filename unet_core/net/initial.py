"""Weights that training begins with."""

from math import prod, sqrt

import torch
from torch import nn

from unet_core.net.network import Network


def initialise(model: Network, *, seed: int) -> Network:
    """Draw weights from N(0, sqrt(2 / N)), N the inputs of one unit; biases 0.

    He et al. 2015, as the paper asks; scales of normalisations are left at 1, and kernels that
    stay as they are (bilinear interpolation) are left alone.
    """
    generator = torch.Generator().manual_seed(seed)
    for part in model.modules():
        if isinstance(part, nn.Conv2d | nn.Conv3d):
            inputs = part.in_channels // part.groups * prod(part.kernel_size)
        elif isinstance(part, nn.ConvTranspose2d | nn.ConvTranspose3d):
            # Each result is made of kernel / stride voxels per axis.
            taps = prod(part.kernel_size) / prod(part.stride)
            inputs = part.in_channels // part.groups * max(1, round(taps))
        else:
            continue
        if not part.weight.requires_grad:
            continue
        with torch.no_grad():
            part.weight.normal_(0.0, sqrt(2 / inputs), generator=generator)
            if part.bias is not None:
                part.bias.zero_()
    return model
