"""VGG-16 (Simonyan and Zisserman 2014) without its classifier, named as torchvision does."""

from unet_core.config.networks.graph import Sketch
from unet_core.config.networks.layers import Pooling

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Channels and convolutions between two poolings."""


def vgg_taps(sketch: Sketch, x: str, *, normed: bool) -> list[str]:
    """Maps at 1/2, 1/4, 1/8 and 1/16 of the voxels, each before it is pooled, and the last one.

    `normed`: vgg16_bn, with a normalisation after each convolution.
    """
    taps: list[str] = []
    number = 0
    for width, count in STAGES:
        for _ in range(count):
            x = sketch.convolution(f"encoder.features.{number}", x, width)
            number += 1
            if normed:
                x = sketch.normalisation(f"encoder.features.{number}", x)
                number += 1
            x = sketch.activation(f"encoder.features.{number}", x)
            number += 1
        taps.append(x)
        none, two = sketch.axes(0), sketch.axes(2)
        x = sketch.add(f"encoder.features.{number}", Pooling(two, two, none, none, 1), x)
        number += 1
    return [*taps[1:], x]


def centre(sketch: Sketch, x: str) -> str:
    """Two convolutions more, of the kind of the expanding path, before it begins."""
    width = sketch.width(x)
    for i in range(0, 6, 3):
        x = sketch.convolution(f"bottom.{i}", x, width, bias=False)
        x = sketch.normalisation(f"bottom.{i + 1}", x)
        x = sketch.activation(f"bottom.{i + 2}", x)
    return x
