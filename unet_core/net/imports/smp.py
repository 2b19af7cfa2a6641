"""segmentation_models.pytorch: U-Net, UNet++ and DeepLabV3+ with a backbone."""

import re
from dataclasses import replace

from unet_core.config.networks.build import graph_of
from unet_core.config.networks.graph import INPUT
from unet_core.config.networks.settings import NetworkConfig
from unet_core.net.imports.backbones import OURS, called, encoder_of
from unet_core.net.imports.source import (
    Source,
    State,
    Translation,
    extent,
    layers_of,
    matched,
    share,
    with_outputs,
)

_KINDS = {
    "unetpp": r"decoder\.blocks\.x_\d_\d\..+",
    "deeplabv3plus": r"decoder\.(aspp|block[12])\..+",
    "unet": r"decoder\.(blocks\.\d|center)\..+",
}
"""Keys that tell the networks apart."""

_FINAL = 4
"""Number, from the deepest, of the finest level of the expanding path."""

_PYRAMID = {
    "pyramid.whole.convolution": "aspp.0.convs.4.1",
    "pyramid.whole.norm": "aspp.0.convs.4.2",
    "pyramid.project.convolution": "aspp.0.project.0",
    "pyramid.project.norm": "aspp.0.project.1",
    "pyramid.separable.depthwise": "aspp.1.0",
    "pyramid.separable.convolution": "aspp.1.1",
    "pyramid.separable.norm": "aspp.2",
    "pyramid.0.convolution": "aspp.0.convs.0.0",
    "pyramid.0.norm": "aspp.0.convs.0.1",
    **{
        f"pyramid.{i}.{ours}": f"aspp.0.convs.{i}.{theirs}"
        for i in (1, 2, 3)
        for ours, theirs in (("depthwise", "0.0"), ("convolution", "0.1"), ("norm", "1"))
    },
    "skip.convolution": "block1.0",
    "skip.norm": "block1.1",
    "fused.depthwise": "block2.0.0",
    "fused.convolution": "block2.0.1",
    "fused.norm": "block2.1",
}
"""Names of ours in a DeepLabV3+, and of theirs after ``decoder.``."""


def _presets(state: State) -> tuple[str, ...]:
    found = {
        kind: sum(re.fullmatch(pattern, key) is not None for key in state)
        for kind, pattern in _KINDS.items()
    }
    return (f"smp_{max(found, key=found.__getitem__)}_{encoder_of(state, 'encoder.')}",)


def _translate(state: State, config: NetworkConfig) -> Translation:
    config = with_outputs(config, extent(state, "segmentation_head.0.bias", 0, config.outputs))
    names = {name: _theirs(name, config.encoder) for name in layers_of(config)}
    first = next(node.name for node in graph_of(config).nodes if INPUT in node.inputs)
    config = replace(config, channels=extent(state, f"{names[first]}.weight", 1, config.channels))
    if config.decoder_widths:
        block = "x_0_{}" if config.architecture == "unetpp" else "{}"
        keys = [f"decoder.blocks.{block.format(_FINAL - i)}.conv2.0.weight" for i in range(5)]
        widths = zip(keys, config.decoder_widths, strict=True)
        config = replace(config, decoder_widths=tuple(extent(state, k, 0, n) for k, n in widths))
    return Translation(config, matched(state, config, names), "logits")


def _theirs(name: str, encoder: str) -> str:
    """Their name of a layer of ours."""
    if name.startswith(OURS):
        return called(name, encoder)
    if name == "head":
        return "segmentation_head.0"
    if name in _PYRAMID:
        return f"decoder.{_PYRAMID[name]}"
    *place, number = name.split(".")
    part, layer = divmod(int(number), 3)
    if place == ["bottom"]:
        return f"decoder.center.{part}.{layer}"
    kind, at = place
    if kind == "nodes":
        # Of the block in column j of level i: theirs is numbered from the deepest level, and by
        # the level that the row of blocks began on.
        i, j = map(int, at.split("_"))
        at = f"x_{_FINAL + 1 - i - j}_{_FINAL - i}"
    return f"decoder.blocks.{at}.conv{part + 1}.{layer}"


SOURCE = Source(
    "segmentation_models.pytorch",
    share(
        r"encoder\.(conv1|bn1|layer\d|features|_conv_stem|_conv_head|_bn\d|_blocks)\..+"
        r"|decoder\.(blocks|center|aspp|block[12])\..+|segmentation_head\.0\.\w+"
    ),
    _presets,
    _translate,
    ignores=r"(encoder\.(_?fc|classifier)|classification_head)\..+",
)
