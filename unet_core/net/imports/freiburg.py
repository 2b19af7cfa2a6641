"""Caffe networks of Freiburg: the release of 2015, and those of the Fiji plug-in."""

from dataclasses import replace

from torch import Tensor

from unet_core.config.networks.layers import Layer
from unet_core.config.networks.settings import NetworkConfig
from unet_core.net.imports.source import (
    Entry,
    Source,
    State,
    Translation,
    extent,
    matched,
    share,
    with_outputs,
)

_LEVELS = 4
_FOLDER = "/data/"


def _presets(state: State) -> tuple[str, ...]:
    state = _plain(state)
    weight = state.get("conv_d0a-b/0")
    if weight is not None and weight.ndim == 5:
        return ("freiburg_fiji_3d",)
    kept = extent(state, "upconv_u1d_u0a/0", 1, 64)
    return (
        ("freiburg_2015",)
        if kept != extent(state, "conv_d0a-b/0", 0, 64)
        else ("freiburg_fiji_2d",)
    )


def _translate(state: State, config: NetworkConfig) -> Translation:
    state = _plain(state)
    contracting = {f"encoder.{i}": i for i in range(_LEVELS)} | {"bottom": _LEVELS}
    names = {"head": "conv_u0d-score", "ups.0": f"upconv_d{_LEVELS}c_u{_LEVELS - 1}a"}
    for ours, level in contracting.items():
        names |= {f"{ours}.0": f"conv_d{level}a-b", f"{ours}.2": f"conv_d{level}b-c"}
    for j in range(_LEVELS):
        level = _LEVELS - 1 - j
        names |= {
            f"decoder.{j}.0": f"conv_u{level}b-c",
            f"decoder.{j}.2": f"conv_u{level}c-d",
        }
        if j:
            names[f"ups.{j}"] = f"upconv_u{level + 1}d_u{level}a"
    config = replace(
        with_outputs(config, extent(state, "conv_u0d-score/1", 0, config.outputs)),
        channels=extent(state, "conv_d0a-b/0", 1, config.channels),
        widths=tuple(
            extent(state, f"conv_d{level}a-b/0", 0, width)
            for level, width in enumerate(config.level_widths)
        ),
        up_widths=tuple(
            extent(state, f"{names[f'ups.{_LEVELS - 1 - level}']}/0", 1, width)
            for level, width in enumerate(config.up_widths or config.level_widths[:-1])
        ),
    )
    return Translation(config, matched(state, config, names, dialect=_caffe), "softmax")


def _plain(state: State) -> dict[str, Tensor]:
    """Without the folder of a file; biases, which old files hold as (1, 1, 1, n), as vectors."""
    found = {key.removeprefix(_FOLDER).removeprefix(_FOLDER[1:]): state[key] for key in state}
    return {k: v.reshape(-1) if k.endswith("/1") else v for k, v in found.items()}


def _caffe(layer: Layer, name: str) -> Entry:
    return Entry({"weight": "/0", "bias": "/1"}[name])


SOURCE = Source(
    "the Caffe networks of Freiburg",
    share(r"(/?data/)?(conv_[du]\d[a-d]-(\w|score)|upconv_[du]\d[cd]_u\da)/[01]"),
    _presets,
    _translate,
)
