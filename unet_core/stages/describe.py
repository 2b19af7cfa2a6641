"""What a preset's network is and costs, without training it: `unet-core describe`."""

import json
from itertools import islice
from pathlib import Path
from typing import Any

from unet_core.config.presets import read_model
from unet_core.config.shape import (
    activation_mb,
    convolutions,
    multiply_adds_per_voxel,
    parameters,
)

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
    if size is None:
        size = model.nearest_input_size(_DEFAULT_SIZE)
    return {
        "dimensions": model.dimensions,
        "sections": model.sections,
        "parameters": parameters(model),
        "convolutions": convolutions(model),
        "halo_px": model.halo_px,
        "reach_px": model.reach_px,
        "stride_px": model.stride_px,
        "exact_tiles": model.is_local,
        "input_sizes": list(islice(model.input_sizes(), _SIZES_SHOWN)),
        "size": size,
        "output_size": model.output_size(size),
        "multiply_adds_per_voxel": round(multiply_adds_per_voxel(model, size)),
        "activation_mb": {
            "float32": round(activation_mb(model, size, bytes_per_value=4)),
            "bfloat16": round(activation_mb(model, size, bytes_per_value=2)),
        },
    }


def described(preset: Path, *, size: int | None, as_json: bool) -> str:
    """The numbers as JSON, or as lines for a person."""
    facts = describe_model(preset, size=size)
    if as_json:
        return json.dumps(facts, indent=1)
    exact = (
        "as if the volume were seen at once"
        if facts["exact_tiles"]
        else "depend on the tile: its mean and deviation enter the result"
    )
    sizes = ", ".join(map(str, facts["input_sizes"]))
    memory = facts["activation_mb"]
    seen = "the section it predicts" if facts["sections"] == 1 else f"{facts['sections']} sections"
    lines = {
        "sees": "volumes" if facts["dimensions"] == 3 else seen,
        "parameters": f"{facts['parameters']:,}",
        "convolutions": facts["convolutions"],
        "halo_px": f"{facts['halo_px']} voxels per side to see around what is predicted",
        "reach_px": f"{facts['reach_px']} voxels; nothing farther away changes a voxel's result",
        "stride_px": f"{facts['stride_px']}; tiles start on multiples of it",
        "results of tiles": exact,
        "input_sizes": f"{sizes}, ...",
        f"size {facts['size']}": f"gives {facts['output_size']} voxels per axis",
        "multiply-adds": f"{facts['multiply_adds_per_voxel']:,} per output voxel at this size",
        "feature maps": f"{memory['float32']} MB in float32, {memory['bfloat16']} MB in bfloat16",
    }
    return "\n".join(f"{name + ':':18}{value}" for name, value in lines.items())
