"""wolny/pytorch-3dunet: its plain U-Net in the order group norm, convolution, ReLU."""

from dataclasses import replace

from unet_core.config.networks.settings import NetworkConfig
from unet_core.net.imports.source import (
    Returns,
    Source,
    State,
    Translation,
    extent,
    highest,
    matched,
    share,
    with_outputs,
)


def _translate(state: State, config: NetworkConfig) -> Translation:
    levels = max(highest(state, r"encoders\.(\d+)\..+"), 1)
    config = _sized(state, config, levels)
    returns: Returns = "sigmoid" if config.output == "sigmoid" else "softmax"
    return Translation(config, matched(state, config, _names(levels)), returns)


def _sized(state: State, config: NetworkConfig, levels: int) -> NetworkConfig:
    """Dimensions, channels, classes, widths and depth as the tensors have them."""
    head = state.get("final_conv.weight")
    config = with_outputs(config, extent(state, "final_conv.weight", 0, config.outputs))
    last = [f"encoders.{n}.basic_module.SingleConv2.conv.weight" for n in range(levels + 1)]
    first = "encoders.0.basic_module.SingleConv1.conv.weight"
    return replace(
        config,
        dimensions=2 if head is not None and head.ndim == 4 else 3,
        channels=extent(state, first, 1, config.channels),
        widths=tuple(extent(state, key, 0, config.width) for key in last),
        depth=levels,
    )


def _names(levels: int) -> dict[str, str]:
    blocks = {f"encoder.{level}": f"encoders.{level}" for level in range(levels)}
    blocks["bottom"] = f"encoders.{levels}"
    blocks |= {f"decoder.{j}": f"decoders.{j}" for j in range(levels)}
    names = {
        f"{ours}.{3 * i + part}": f"{theirs}.basic_module.SingleConv{i + 1}.{kind}"
        for ours, theirs in blocks.items()
        for i in (0, 1)
        for part, kind in enumerate(("groupnorm", "conv"))
    }
    return {**names, "head": "final_conv"}


SOURCE = Source(
    "wolny/pytorch-3dunet",
    share(
        r"(en|de)coders\.\d+\.basic_module\.SingleConv[12]\.(groupnorm|conv)\.(weight|bias)"
        r"|final_conv\.(weight|bias)"
    ),
    lambda state: ("unet3d_gcr",),
    _translate,
    by_name=("unet3d_gcr_softmax",),
)
