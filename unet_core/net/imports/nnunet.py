"""nnU-Net v2: its plain network in 2-D and 3-D, strides and kernels as the tensors have them."""

from dataclasses import replace

from unet_core.config.networks.settings import NetworkConfig
from unet_core.net.imports.source import (
    Source,
    State,
    Translation,
    extent,
    highest,
    matched,
    share,
    with_outputs,
)

_TWICE = {".all_modules.0.": ".conv.", ".all_modules.1.": ".norm."}
"""Under which names a block has its layers a second time."""


def _presets(state: State) -> tuple[str, ...]:
    head = state.get("decoder.seg_layers.0.weight")
    return ("nnunet_2d",) if head is not None and head.ndim == 4 else ("nnunet_3d",)


def _translate(state: State, config: NetworkConfig) -> Translation:
    once = _once(state)
    levels = highest(once, r"decoder\.transpconvs\.(\d+)\.weight") + 1
    config = _sized(once, config, max(levels, 1))
    return Translation(config, matched(once, config, _names(config)), "logits")


def _once(state: State) -> State:
    """Every tensor under one name; of several, the one that the original reads last."""
    found: dict[str, tuple[tuple[bool, bool], str]] = {}
    for key in state:
        name = key.replace("decoder.encoder.", "encoder.", 1)
        for again, first in _TWICE.items():
            name = name.replace(again, first)
        rank = key.startswith("decoder.encoder."), ".all_modules." in key
        found[name] = max(found.get(name, (rank, key)), (rank, key))
    return {name: state[key] for name, (_, key) in found.items()}


def _sized(state: State, config: NetworkConfig, levels: int) -> NetworkConfig:
    """Channels, classes, widths, convolutions, strides and kernels as the tensors have them."""
    stages = [f"encoder.stages.{n}.0.convs.0.conv.weight" for n in range(levels + 1)]
    ups = [f"decoder.transpconvs.{j}.weight" for j in reversed(range(levels))]
    two, three = (2,) * config.dimensions, (3,) * config.dimensions
    strides = tuple(_axes(state, key, two) for key in ups)
    kernels = tuple(_axes(state, key, three) for key in stages)
    regular = set(strides) == {two} and set(kernels) == {three}
    counts = [
        highest(state, rf"{block}\.convs\.(\d+)\.conv\.weight") + 1
        for block in (r"encoder\.stages\.0\.0", r"decoder\.stages\.0")
    ]
    config = with_outputs(config, extent(state, "decoder.seg_layers.0.weight", 0, config.outputs))
    return replace(
        config,
        channels=extent(state, stages[0], 1, config.channels),
        widths=tuple(extent(state, key, 0, config.width) for key in stages),
        depth=levels,
        strides=None if regular else strides,
        kernels=None if regular else kernels,
        convolutions=max(counts[0], 1),
        decoder_convolutions=None if counts[1] in (counts[0], 0) else counts[1],
    )


def _axes(state: State, key: str, otherwise: tuple[int, ...]) -> tuple[int, ...]:
    shape = tuple(state[key].shape[2:]) if key in state else ()
    return shape if len(shape) == len(otherwise) else otherwise


def _names(config: NetworkConfig) -> dict[str, str]:
    levels, rising = config.levels, config.decoder_convolutions or config.convolutions
    blocks = {f"encoder.{n}": (f"encoder.stages.{n}.0", config.convolutions) for n in range(levels)}
    blocks["bottom"] = f"encoder.stages.{levels}.0", config.convolutions
    blocks |= {f"decoder.{j}": (f"decoder.stages.{j}", rising) for j in range(levels)}
    names = {
        f"{ours}.{3 * i + part}": f"{theirs}.convs.{i}.{kind}"
        for ours, (theirs, count) in blocks.items()
        for i in range(count)
        for part, kind in enumerate(("conv", "norm"))
    }
    for j, level in enumerate(reversed(range(levels))):
        names[f"ups.{j}"] = f"decoder.transpconvs.{j}"
        names[f"levels.{level}" if level else "head"] = f"decoder.seg_layers.{j}"
    return names


SOURCE = Source(
    "nnU-Net v2 (plain network)",
    share(
        r"(encoder\.stages\.\d+\.0|decoder\.encoder\.stages\.\d+\.0|decoder\.stages\.\d+)"
        r"\.convs\.\d+\.(conv|norm|all_modules\.\d)\.(weight|bias)"
        r"|decoder\.(transpconvs|seg_layers)\.\d+\.(weight|bias)"
    ),
    _presets,
    _translate,
)
