"""Backbones in the checkpoints of others: which one, and how its layers are called there."""

import re
from functools import cache

from unet_core.config.networks.encoders import backbone
from unet_core.config.networks.graph import INPUT, Sketch
from unet_core.config.networks.layers import Convolution
from unet_core.config.networks.settings import ENCODERS, NetworkConfig
from unet_core.errors import CheckpointError
from unet_core.net.imports.source import State

NAMES = tuple(name for name in ENCODERS if not name.startswith("keras_"))
"""Those that torch users have."""

OURS = "encoder."
"""What the names of ours begin with."""


def encoder_of(state: State, prefix: str) -> str:
    """The backbone whose kernels are most like those of which the keys begin with `prefix`.

    Raises
    ------
    CheckpointError
        If no backbone has any such kernel.
    """
    shapes = {
        key.removeprefix(prefix): tuple(tensor.shape)
        for key, tensor in state.items()
        if key.startswith(prefix) and tensor.ndim == 4
    }

    def alike(encoder: str) -> float:
        kernels = _kernels(encoder)
        same = sum(shapes.get(key) == shape for key, shape in kernels.items())
        return same / len({*kernels, *shapes})

    best = max(NAMES, key=alike)
    if not alike(best):
        raise CheckpointError(
            f"the backbone ({prefix}*) is none of those that can be read: {', '.join(NAMES)}"
        )
    return best


def called(name: str, encoder: str) -> str:
    """What others call a layer of a backbone: as we do, but EfficientNet's parts begin with _."""
    if not encoder.startswith("efficientnet"):
        return name
    return re.sub(r"\.([a-z])", r"._\1", name)


@cache
def _kernels(encoder: str) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of the kernels of a backbone that sees 3 channels, by the names of others."""
    sketch = Sketch(2, 3)
    backbone(sketch, NetworkConfig(encoder=encoder, depth=5), INPUT)
    found: dict[str, tuple[int, ...]] = {}
    for node in sketch.nodes:
        of = node.layer
        if isinstance(of, Convolution):
            key = f"{called(node.name, encoder).removeprefix(OURS)}.weight"
            found[key] = (of.outputs, of.inputs // of.groups, *of.kernel)
    return found
