"""jakeoung/Unet_pytorch: plain, and with batch normalisation."""

from dataclasses import replace

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

_LEVELS = 4


def _presets(state: State) -> tuple[str, ...]:
    return ("jakeoung_bn",) if "conv1.3.weight" in state else ("jakeoung",)


def _translate(state: State, config: NetworkConfig) -> Translation:
    widths = (
        extent(state, f"conv{i}.0.weight", 0, width)
        for i, width in enumerate(config.level_widths, start=1)
    )
    config = replace(
        with_outputs(config, extent(state, "conv0.0.bias", 0, config.outputs)),
        channels=extent(state, "conv1.0.weight", 1, config.channels),
        widths=tuple(widths),
    )
    names = {"head": "conv0.0"}
    places = (0, 1, 3, 4) if config.norm == "batch" else (0, 2)
    for i in places:
        names |= {f"encoder.{level}.{i}": f"conv{level + 1}.{i}" for level in range(_LEVELS)}
        names[f"bottom.{i}"] = f"conv{_LEVELS + 1}.{i}"
        names |= {f"decoder.{j}.{i}": f"conv{_LEVELS - j}m.{i}" for j in range(_LEVELS)}
    for j in range(_LEVELS):
        names[f"ups.{j}"] = f"upsample{_LEVELS + 1 - j}{_LEVELS - j}.0"
    return Translation(config, matched(state, config, names), "sigmoid")


SOURCE = Source(
    "jakeoung/Unet_pytorch",
    share(r"(conv\dm?\.\d|upsample\d\d\.0)\.\w+"),
    _presets,
    _translate,
)
