"""mmsegmentation UNet-S5-D16, with the head of FCN, PSPNet or DeepLabV3."""

import re
from collections.abc import Callable
from dataclasses import replace

from unet_core.config.networks.settings import NetworkConfig
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

_DEEPEST = 4

_PARTS = ("conv", "bn")
"""Names of the layers that ours number 0 and 1."""

_HEADS = {"head": "decode_head", "auxiliary": "auxiliary_head"}


def _numbered(number: str) -> str:
    """A layer of a block, in which kernels, normalisations and activations take turns."""
    return f"convs.{int(number) // 3}.{_PARTS[int(number) % 3]}"


def _level(j: str) -> int:
    """Theirs are numbered from the finest."""
    return _DEEPEST - 1 - int(j)


_UP = "upsample.interp_upsample.1"

_NAMES: dict[str, Callable[[re.Match[str]], str]] = {
    r"encoder\.0\.(\d)": lambda m: f"backbone.encoder.0.0.{_numbered(m[1])}",
    r"encoder\.(\d)\.(\d)": lambda m: f"backbone.encoder.{m[1]}.1.{_numbered(m[2])}",
    r"bottom\.(\d)": lambda m: f"backbone.encoder.{_DEEPEST}.1.{_numbered(m[1])}",
    r"ups\.(\d)\.convolution": lambda m: f"backbone.decoder.{_level(m[1])}.{_UP}.conv",
    r"ups\.(\d)_norm": lambda m: f"backbone.decoder.{_level(m[1])}.{_UP}.bn",
    r"decoder\.(\d)\.(\d)": lambda m: (
        f"backbone.decoder.{_level(m[1])}.conv_block.{_numbered(m[2])}"
    ),
    r"(head|auxiliary)\.logits": lambda m: f"{_HEADS[m[1]]}.conv_seg",
    r"(head|auxiliary)\.convolution\.(\d)": lambda m: f"{_HEADS[m[1]]}.convs.0.{_PARTS[int(m[2])]}",
    r"head\.bins\.(\d)\.convolution\.(\d)": lambda m: (
        f"decode_head.psp_modules.{m[1]}.1.{_PARTS[int(m[2])]}"
    ),
    r"head\.whole\.convolution\.(\d)": lambda m: f"decode_head.image_pool.1.{_PARTS[int(m[1])]}",
    r"head\.dilated\.(\d)\.(\d)": lambda m: f"decode_head.aspp_modules.{m[1]}.{_PARTS[int(m[2])]}",
    r"head\.bottleneck\.(\d)": lambda m: f"decode_head.bottleneck.{_PARTS[int(m[1])]}",
}
"""Patterns of our names, and what makes theirs of them."""


def _presets(state: State) -> tuple[str, ...]:
    if any(key.startswith("decode_head.psp_modules.") for key in state):
        return ("mmseg_pspnet",)
    if any(key.startswith("decode_head.aspp_modules.") for key in state):
        return ("mmseg_deeplabv3",)
    return ("mmseg_fcn",)


def _translate(state: State, config: NetworkConfig) -> Translation:
    first = "backbone.encoder.0.0.convs.0.conv.weight"
    outputs = extent(state, "decode_head.conv_seg.weight", 0, config.outputs)
    config = with_outputs(config, outputs)
    trained = any(key.startswith("auxiliary_head.") for key in state)
    config = replace(
        config,
        channels=extent(state, first, 1, config.channels),
        width=extent(state, first, 0, config.width),
        auxiliary=config.auxiliary if trained else 0.0,
    )
    names = {name: _theirs(name) for name in layers_of(config)}
    return Translation(config, matched(state, config, names), "logits")


def _theirs(name: str) -> str:
    """Their name of a layer of ours."""
    found = ((re.fullmatch(pattern, name), named) for pattern, named in _NAMES.items())
    return next(named(match) for match, named in found if match)


SOURCE = Source(
    "mmsegmentation UNet-S5-D16",
    share(
        r"backbone\.(encoder\.\d\.\d\.convs|decoder\.\d\.(upsample|conv_block))\..+"
        r"|(decode_head|auxiliary_head)\..+"
    ),
    _presets,
    _translate,
    ignores=r"data_preprocessor\..+",
)
