"""wkentaro/pytorch-fcn: FCN-8s, whose names are ours."""

from dataclasses import replace

from unet_core.config.networks.build import graph_of
from unet_core.config.networks.fcn import CONVOLUTIONS
from unet_core.config.networks.settings import NetworkConfig
from unet_core.net.imports.source import (
    Source,
    State,
    Translation,
    extent,
    matched,
    share,
    with_outputs,
)


def _translate(state: State, config: NetworkConfig) -> Translation:
    last = [f"conv{level}_{count}" for level, count in enumerate(CONVOLUTIONS, start=1)]
    widths = zip((*last, "fc6"), config.level_widths, strict=True)
    config = with_outputs(config, extent(state, "score_fr.weight", 0, config.outputs))
    config = replace(
        config,
        channels=extent(state, "conv1_1.weight", 1, config.channels),
        widths=tuple(extent(state, f"{name}.weight", 0, n) for name, n in widths),
    )
    names = {node.name: node.name for node in graph_of(config).nodes}
    return Translation(config, matched(state, config, names), "logits")


SOURCE = Source(
    "wkentaro/pytorch-fcn (FCN-8s)",
    share(r"(conv\d_\d|fc[67]|score_(fr|pool[34])|upscore(2|8|_pool4))\.(weight|bias)"),
    lambda state: ("fcn8s",),
    _translate,
    by_name=("fcn8s_at_once",),
)
