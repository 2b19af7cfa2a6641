"""mateuszbuda/brain-segmentation-pytorch, the `unet` of torch.hub."""

from dataclasses import replace

from unet_core.config.networks.settings import NetworkConfig
from unet_core.net.imports.source import (
    Source,
    State,
    Translation,
    extent,
    matched,
    names_of,
    share,
    with_outputs,
)

_LEVELS = 4


def _translate(state: State, config: NetworkConfig) -> Translation:
    blocks = {
        **{f"encoder.{i}": f"encoder{i + 1}.enc{i + 1}" for i in range(_LEVELS)},
        "bottom": "bottleneck.bottleneck",
        **{f"decoder.{j}": f"decoder{_LEVELS - j}.dec{_LEVELS - j}" for j in range(_LEVELS)},
    }
    names = names_of(blocks, {0: "conv1", 1: "norm1", 3: "conv2", 4: "norm2"})
    names |= {f"ups.{j}": f"upconv{_LEVELS - j}" for j in range(_LEVELS)}
    names["head"] = "conv"
    contracting = list(blocks.values())[: _LEVELS + 1]
    config = replace(
        with_outputs(config, extent(state, "conv.bias", 0, config.outputs)),
        channels=extent(state, "encoder1.enc1conv1.weight", 1, config.channels),
        widths=tuple(
            extent(state, f"{name}conv1.weight", 0, width)
            for name, width in zip(contracting, config.level_widths, strict=True)
        ),
    )
    return Translation(config, matched(state, config, names), "sigmoid")


SOURCE = Source(
    "mateuszbuda/brain-segmentation-pytorch",
    share(
        r"(encoder\d\.enc\d|decoder\d\.dec\d|bottleneck\.bottleneck)(conv|norm)\d\.\w+"
        r"|upconv\d\.\w+|conv\.\w+"
    ),
    lambda state: ("mateuszbuda",),
    _translate,
)
