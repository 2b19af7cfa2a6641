"""The U-Net of Ronneberger et al. 2015 and its relatives, 2-D and 3-D, padded or not."""

from dataclasses import replace
from math import sqrt
from typing import cast

import torch
from torch import Tensor, nn

from unet_core.config import UNetConfig
from unet_core.net.blocks import CONVOLUTION, POOLING, Block, join, up_sampling


class UNet(nn.Module):
    """Logits per class: (n, inputs, [z,] y, x) -> (n, classes, [z',] y', x').

    The inputs are the channels of the volume, in a 2.5-D network `sections` of each, channel by
    channel (`UNetConfig.sections`).
    Skips are the features before pooling, cropped to their centre. Dropout acts on the result of
    the deepest block (the paper: "at the end of the contracting path"; the network its authors
    released also drops units of the block above).
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.width * 2**level for level in range(config.depth + 1)]
        self.encoder = nn.ModuleList(
            Block(config, inputs, outputs)
            for inputs, outputs in zip([config.inputs, *widths], widths[:-1], strict=False)
        )
        self.pool = POOLING[config.dimensions](2)
        self.bottom = Block(config, widths[-2], widths[-1])
        self.dropout = nn.Dropout(config.dropout)
        rising = widths[-2::-1]
        self.ups = nn.ModuleList(up_sampling(config, 2 * width, width) for width in rising)
        self.decoder = nn.ModuleList(Block(config, 2 * width, width) for width in rising)
        self.head = CONVOLUTION[config.dimensions](config.width, config.classes, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits; the spatial axes must have sizes of `config.input_sizes()`."""
        # Layers are called one by one, and x is rebound each time: a call of a whole block would
        # hold its input to its end, a third of the peak memory of inference.
        skips = []
        for block in self.encoder:
            for layer in cast(Block, block):
                x = layer(x)
            skips.append(x)
            x = self.pool(x)
        for layer in self.bottom:
            x = layer(x)
        x = self.dropout(x)
        for up, block in zip(self.ups, self.decoder, strict=True):
            x = up(x)
            x = join(skips.pop(), x)
            for layer in cast(Block, block):
                x = layer(x)
        return cast(Tensor, self.head(x))

    def blocks(self) -> list[Block]:
        """All blocks, in the order they are computed."""
        return [cast(Block, block) for block in (*self.encoder, self.bottom, *self.decoder)]

    def as_valid(self) -> "UNet":
        """The same network run without padding; it shares this one's parameters.

        Where this one is zero-padded, the result is the same inside (see
        `UNetConfig.tile_halo_px` for the boxes to show it).
        """
        with torch.device("meta"):
            valid = UNet(replace(self.config, padding="valid"))
        valid.load_state_dict(self.state_dict(), assign=True)
        return valid.train(self.training)

    def folded(self) -> "UNet":
        """The network for inference: batch normalisation made part of the convolutions."""
        if self.config.norm != "batch":
            return self.eval()
        folded = UNet(replace(self.config, norm="none")).to(self.head.weight)
        for mine, block in zip(folded.blocks(), self.blocks(), strict=True):
            for i in range(self.config.convolutions):
                _fold(mine[2 * i], block[3 * i], block[3 * i + 1])
        folded.ups.load_state_dict(self.ups.state_dict())
        folded.head.load_state_dict(self.head.state_dict())
        return folded.eval()


def _fold(target: nn.Module, convolution: nn.Module, norm: nn.Module) -> None:
    deviation = torch.sqrt(cast(Tensor, norm.running_var) + cast(float, norm.eps))
    scale = cast(Tensor, norm.weight) / deviation
    weight, shift = cast(Tensor, convolution.weight), cast(Tensor, norm.running_mean)
    scale = scale.reshape(-1, *[1] * (weight.ndim - 1))
    bias = cast(Tensor, norm.bias) - shift * scale.flatten()
    target.load_state_dict({"weight": weight * scale, "bias": bias})


def initialise(model: UNet, *, seed: int) -> UNet:
    """Draw weights from N(0, sqrt(2 / N)), N the inputs of one unit; biases 0.

    He et al. 2015, as the paper asks; scales of normalisations are left at 1.
    """
    generator = torch.Generator().manual_seed(seed)
    dimensions = model.config.dimensions
    for part in model.modules():
        if isinstance(part, nn.Conv2d | nn.Conv3d):
            inputs = part.in_channels * part.kernel_size[0] ** dimensions
        elif isinstance(part, nn.ConvTranspose2d | nn.ConvTranspose3d):
            inputs = part.in_channels  # kernel = stride: one tap per output voxel
        else:
            continue
        with torch.no_grad():
            part.weight.normal_(0.0, sqrt(2 / inputs), generator=generator)
            if part.bias is not None:
                part.bias.zero_()
    return model
