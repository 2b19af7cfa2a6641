"""What a preset's network is and costs, without training it: `unet-core describe`."""

import json
from itertools import islice
from pathlib import Path
from typing import Any

from unet_core.config import NetworkConfig
from unet_core.config.networks.cost import convolutions, multiply_adds_per_voxel, parameters
from unet_core.config.networks.geometry import (
    geometry_of,
    input_sizes,
    nearest_input_size,
    output_size,
    padded_halo,
)
from unet_core.config.networks.memory import activation_mb
from unet_core.config.presets import read_model
from unet_core.geometry import Zyx

_SIZES_SHOWN = 8
_DEFAULT_SIZE = 572


def describe_model(preset: Path, *, size: int | None = None) -> dict[str, Any]:
    """Numbers of the network of a preset, and of one pass over `size` voxels per axis.

    Parameters
    ----------
    preset
        YAML file with the sections ``model`` and ``train``.
    size
        None: the accepted size nearest to 572.

    Raises
    ------
    ConfigError
        If the preset holds what is no setting, or the network does not accept `size`.
    """
    model = read_model(preset, {}).model
    size = nearest_input_size(model, _DEFAULT_SIZE) if size is None else size
    axes = range(3 - model.dimensions, 3)
    # Along z a network may accept other sizes than along y and x.
    sizes = [size if axis else nearest_input_size(model, size, axis) for axis in axes]
    found = geometry_of(model)
    reach = None if found.reach is None else _alike(found.reach, model)
    return {
        "dimensions": model.dimensions,
        "sections": model.sections,
        "parameters": parameters(model),
        "convolutions": convolutions(model),
        "halo_px": _alike(padded_halo(model), model),
        "tile_halo_px": _alike(found.halo, model),
        "reach_px": reach,
        "stride_px": _alike(found.stride, model),
        "exact_tiles": found.is_exact,
        "inexact": found.inexact,
        "input_sizes": list(islice(input_sizes(model), _SIZES_SHOWN)),
        "input_sizes_z": list(islice(input_sizes(model, 0), _SIZES_SHOWN))
        if model.dimensions == 3
        else [model.sections],
        "size": size,
        "output_size": output_size(model, size),
        "multiply_adds_per_voxel": round(multiply_adds_per_voxel(model, sizes)),
        "activation_mb": {
            "float32": round(activation_mb(model, sizes, bytes_per_value=4)),
            "bfloat16": round(activation_mb(model, sizes, bytes_per_value=2)),
        },
    }


def _alike(values: Zyx, model: NetworkConfig) -> int | list[int]:
    """One number, or those along (z, y, x) where they differ."""
    own = values[3 - model.dimensions :]
    return own[0] if len(set(own)) == 1 else list(own)


def described(preset: Path, *, size: int | None, as_json: bool) -> str:
    """The numbers as JSON, or as lines for a person."""
    facts = describe_model(preset, size=size)
    if as_json:
        return json.dumps(facts, indent=1)
    sizes = ", ".join(map(str, facts["input_sizes"]))
    if facts["dimensions"] == 3 and facts["input_sizes_z"] != facts["input_sizes"]:
        sizes += f", ... along y and x; {', '.join(map(str, facts['input_sizes_z']))}, ... along z"
    else:
        sizes += ", ..."
    memory = facts["activation_mb"]
    seen = "the section it predicts" if facts["sections"] == 1 else f"{facts['sections']} sections"
    lines = {
        "sees": "volumes" if facts["dimensions"] == 3 else seen,
        "parameters": f"{facts['parameters']:,}",
        "convolutions": facts["convolutions"],
        **_laid(facts),
        "input_sizes": sizes,
        f"size {facts['size']}": f"gives {facts['output_size']} voxels per axis",
        "multiply-adds": f"{facts['multiply_adds_per_voxel']:,} per output voxel at this size",
        "feature maps": f"{memory['float32']} MB in float32, {memory['bfloat16']} MB in bfloat16",
    }
    return "\n".join(f"{name + ':':18}{value}" for name, value in lines.items())


def _laid(facts: dict[str, Any]) -> dict[str, str]:
    """How the network is laid over a volume, as lines."""
    if not facts["exact_tiles"]:
        return {
            "halo_px": "none is enough: all that is seen changes a voxel's result",
            "stride_px": f"{facts['stride_px']}; sizes it accepts are multiples of it apart",
            "results of tiles": f"depend on what is seen: {facts['inexact']}; seen in windows",
        }
    return {
        "halo_px": f"{facts['halo_px']} voxels per side to see around what is predicted",
        "tile_halo_px": f"{facts['tile_halo_px']} voxels per side to see around a tile",
        "reach_px": f"{facts['reach_px']} voxels; nothing farther away changes a voxel's result",
        "stride_px": f"{facts['stride_px']}; tiles start on multiples of it",
        "results of tiles": "as if the volume were seen at once",
    }
