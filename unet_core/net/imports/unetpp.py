"""4uiiurz1/pytorch-nested-unet, with deep supervision or not."""

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
    supervised = "final1.weight" in state
    final = f"final{_LEVELS}" if supervised else "final"
    config = replace(
        with_outputs(config, extent(state, f"{final}.bias", 0, config.outputs)),
        channels=extent(state, "conv0_0.conv1.weight", 1, config.channels),
        widths=tuple(
            extent(state, f"conv{i}_0.conv1.weight", 0, width)
            for i, width in enumerate(config.level_widths)
        ),
        supervision="nodes" if supervised else "none",
    )
    blocks = {f"encoder.{i}": f"conv{i}_0" for i in range(_LEVELS)}
    blocks["bottom"] = f"conv{_LEVELS}_0"
    for i in range(_LEVELS):
        blocks |= {f"nodes.{i}_{j}": f"conv{i}_{j}" for j in range(1, _LEVELS + 1 - i)}
    names = names_of(blocks, {0: ".conv1", 1: ".bn1", 3: ".conv2", 4: ".bn2"})
    names |= {f"heads.{j}": f"final{j}" for j in range(1, _LEVELS + 1)}
    names["head"] = "final"
    return Translation(config, matched(state, config, names), "logits")


SOURCE = Source(
    "4uiiurz1/pytorch-nested-unet",
    share(r"conv\d_\d\.(conv|bn)\d\.\w+|final\d?\.\w+"),
    lambda state: ("unetpp",),
    _translate,
)
