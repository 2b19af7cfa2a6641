"""ShawnBIT/UNet-family: U-Net and UNet++, with batch normalisation or not, both up-samplings."""

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
AVERAGED, LAST = "unetpp_family", "unetpp_family_last"


def _presets(state: State) -> tuple[str, ...]:
    if any(key.startswith("final_") for key in state):
        return AVERAGED, LAST
    return ("unet_family_bilinear",) if "up_concat4.up.1.weight" in state else ("unet_family",)


def _translate(state: State, config: NetworkConfig) -> Translation:
    nested = config.architecture == "unetpp"
    blocks = {f"encoder.{i}": f"conv{i}0" if nested else f"conv{i + 1}" for i in range(_LEVELS)}
    blocks["bottom"] = f"conv{_LEVELS}0" if nested else "center"
    config = _sized(state, config, list(blocks.values()), nested)
    second = 3 if config.norm == "batch" else 2
    names: dict[str, str] = {}
    for ours, theirs in blocks.items():
        names |= {f"{ours}.0": f"{theirs}.conv1.0", f"{ours}.{second}": f"{theirs}.conv2.0"}
        if config.norm == "batch":
            names |= {f"{ours}.1": f"{theirs}.conv1.1", f"{ours}.4": f"{theirs}.conv2.1"}
    for up, node, theirs in _rising(nested):
        names |= {f"{node}.0": f"{theirs}.conv.conv1.0", f"{node}.2": f"{theirs}.conv.conv2.0"}
        names |= {up: f"{theirs}.up", f"{up}.convolution": f"{theirs}.up.1"}
    names |= {f"heads.{j}": f"final_{j}" for j in range(1, _LEVELS + 1)}
    names["head"] = f"final_{_LEVELS}" if nested else "final"
    if nested and config.supervision == "none":
        state = {
            k: v for k, v in state.items() if k[:8] not in ("final_1.", "final_2.", "final_3.")
        }
    return Translation(config, matched(state, config, names), "logits")


def _rising(nested: bool) -> list[tuple[str, str, str]]:
    """Of every block of the expanding path our names of up-sampling and block, and theirs."""
    if not nested:
        return [(f"ups.{j}", f"decoder.{j}", f"up_concat{_LEVELS - j}") for j in range(_LEVELS)]
    return [
        (f"ups.{i}_{j}", f"nodes.{i}_{j}", f"up_concat{i}{j}")
        for i in range(_LEVELS)
        for j in range(1, _LEVELS + 1 - i)
    ]


def _sized(state: State, config: NetworkConfig, blocks: list[str], nested: bool) -> NetworkConfig:
    """Everything that keys and shapes tell."""
    first, up = blocks[0], "up_concat01.up" if nested else "up_concat1.up"
    final = f"final_{_LEVELS}" if nested else "final"
    config = replace(
        with_outputs(config, extent(state, f"{final}.bias", 0, config.outputs)),
        channels=extent(state, f"{first}.conv1.0.weight", 1, config.channels),
        widths=tuple(
            extent(state, f"{name}.conv1.0.weight", 0, width)
            for name, width in zip(blocks, config.level_widths, strict=True)
        ),
        norm="batch" if f"{first}.conv1.1.weight" in state else "none",
    )
    if f"{up}.1.weight" in state:
        return replace(config, up="bilinear", align_corners=True)
    return replace(config, up="transposed", align_corners=False)


SOURCE = Source(
    "ShawnBIT/UNet-family",
    share(
        r"(conv\d0?|center|up_concat\d\d?\.conv)\.conv\d\.\d\.\w+"
        r"|up_concat\d\d?\.up\.(1\.)?\w+|final(_\d)?\.\w+"
    ),
    _presets,
    _translate,
)
