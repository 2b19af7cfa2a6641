"""Logits on every level of the expanding path, for training to look at."""

from collections.abc import Sequence

from unet_core.config.networks.graph import Sketch
from unet_core.config.networks.settings import NetworkConfig


def level_weights(count: int) -> tuple[float, ...]:
    """Weights of the losses of `count` levels, the finest first; they sum to 1.

    ``1 / 2^i``, the coarsest of several 0, then divided by their sum (nnU-Net, Isensee 2021).
    """
    if count == 1:
        return (1.0,)
    raw = [2.0**-i for i in range(count - 1)]
    return (*(one / sum(raw) for one in raw), 0.0)


def level_heads(
    sketch: Sketch, config: NetworkConfig, maps: Sequence[str]
) -> tuple[tuple[tuple[str, float], ...], float]:
    """Heads ``levels.<level>`` of all maps but the finest with their weights; the finest's weight.

    `maps`: of the levels of the expanding path, the finest first.
    """
    weight, *weights = level_weights(len(maps))
    heads = [
        sketch.convolution(f"levels.{level}", x, config.outputs, kernel=config.head_kernel)
        for level, x in enumerate(maps[1:], start=1)
    ]
    return tuple(zip(heads, weights, strict=True)), weight
