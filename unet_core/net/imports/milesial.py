"""milesial/Pytorch-UNet: with and without biases, transposed and bilinear."""

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


def _presets(state: State) -> tuple[str, ...]:
    return ("milesial",) if "up1.up.weight" in state else ("milesial_bilinear",)


def _translate(state: State, config: NetworkConfig) -> Translation:
    config = _sized(state, config)
    blocks = {
        "encoder.0": "inc.double_conv",
        **{f"encoder.{i}": f"down{i}.maxpool_conv.1.double_conv" for i in range(1, _LEVELS)},
        "bottom": f"down{_LEVELS}.maxpool_conv.1.double_conv",
        **{f"decoder.{j}": f"up{j + 1}.conv.double_conv" for j in range(_LEVELS)},
    }
    names = names_of(blocks, {i: f".{i}" for i in (0, 1, 3, 4)})
    names |= {f"ups.{j}": f"up{j + 1}.up" for j in range(_LEVELS)}
    names["head"] = "outc.conv"
    return Translation(config, matched(state, config, names), "logits")


def _sized(state: State, config: NetworkConfig) -> NetworkConfig:
    """Channels, classes, widths and biases as the tensors have them."""
    keys = ["inc.double_conv.3.weight"]
    keys += [f"down{i + 1}.maxpool_conv.1.double_conv.3.weight" for i in range(_LEVELS)]
    widths = zip(keys, config.level_widths, strict=True)
    decoder = config.decoder_widths or config.level_widths[:-1]
    rising = ((f"up{_LEVELS - i}.conv.double_conv.3.weight", n) for i, n in enumerate(decoder))
    first, last = (
        extent(state, f"up1.conv.double_conv.{i}.weight", 0, n) for i, n in ((0, 2), (3, 1))
    )
    config = with_outputs(config, extent(state, "outc.conv.bias", 0, config.outputs))
    return replace(
        config,
        channels=extent(state, "inc.double_conv.0.weight", 1, config.channels),
        widths=tuple(extent(state, key, 0, n) for key, n in widths),
        decoder_widths=tuple(extent(state, key, 0, n) for key, n in rising),
        # Older bilinear networks narrow in the first convolution of a block.
        decoder_middle="outputs" if first == last else config.decoder_middle,
        conv_bias="inc.double_conv.0.bias" in state,
    )


SOURCE = Source(
    "milesial/Pytorch-UNet",
    share(
        r"(inc|down\d\.maxpool_conv\.1|up\d\.conv)\.double_conv\.\d\.\w+"
        r"|up\d\.up\.\w+|outc\.conv\.\w+"
    ),
    _presets,
    _translate,
)
