"""mattmacy/vnet.pytorch and ports with its names: PReLU and ELU."""

from dataclasses import replace

from unet_core.config.networks.settings import NetworkConfig
from unet_core.config.networks.vnet import DOWN, UP
from unet_core.net.imports.source import (
    Source,
    State,
    Translation,
    extent,
    matched,
    share,
    with_outputs,
)

_DOWN = ("down_tr32", "down_tr64", "down_tr128", "down_tr256")
_UP = ("up_tr256", "up_tr128", "up_tr64", "up_tr32")


def _translate(state: State, config: NetworkConfig) -> Translation:
    config = _sized(state, config)
    if config.norm == "instance":
        state = {key: value for key, value in state.items() if ".running_" not in key}
    return Translation(config, matched(state, config, _names()), "softmax")


def _sized(state: State, config: NetworkConfig) -> NetworkConfig:
    """Channels, classes, widths and activation as the tensors have them."""
    config = with_outputs(config, extent(state, "out_tr.conv2.weight", 0, config.outputs))
    keys = ("in_tr.conv1.weight", *(f"{name}.down_conv.weight" for name in _DOWN))
    widths = zip(keys, config.level_widths, strict=True)
    return replace(
        config,
        channels=extent(state, "in_tr.conv1.weight", 1, config.channels),
        widths=tuple(extent(state, key, 0, n) for key, n in widths),
        activation="prelu" if "in_tr.relu1.weight" in state else "elu",
    )


def _names() -> dict[str, str]:
    names = {
        "first.conv.0": "in_tr.conv1",
        "first.norm.0": "in_tr.bn1",
        "first.sum_act": "in_tr.relu1",
        "last.conv.0": "out_tr.conv1",
        "last.norm.0": "out_tr.bn1",
        "last.act.0": "out_tr.relu1",
        "last.scores": "out_tr.conv2",
    }
    for way, blocks, counts in (("down", _DOWN, DOWN), ("up", _UP, UP)):
        for number, (block, count) in enumerate(zip(blocks, counts, strict=True)):
            ours = f"{way}.{number}"
            names[f"{ours}.step"] = f"{block}.{way}_conv"
            names[f"{ours}.step_norm"] = f"{block}.bn1"
            names[f"{ours}.step_act"] = f"{block}.relu1"
            names[f"{ours}.sum_act"] = f"{block}.relu2"
            for n in range(count):
                names[f"{ours}.conv.{n}"] = f"{block}.ops.{n}.conv1"
                names[f"{ours}.norm.{n}"] = f"{block}.ops.{n}.bn1"
                names[f"{ours}.act.{n}"] = f"{block}.ops.{n}.relu1"
    return names


SOURCE = Source(
    "mattmacy/vnet.pytorch",
    share(
        r"(in_tr|out_tr|(down|up)_tr\d+(\.ops\.\d)?)"
        r"\.(conv[12]|(up|down)_conv|bn1|relu[12])\.\w+"
    ),
    lambda state: ("vnet",),
    _translate,
    by_name=("vnet_batch",),
)
