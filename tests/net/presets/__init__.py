"""What presets of config/models describe."""

from dataclasses import replace
from typing import Any

from unet_core.config.networks.build import graph_of
from unet_core.config.presets import PRESETS, read_network


def parameters(name: str, **changes: Any) -> int:
    """Numbers that training adjusts, of a preset with some settings changed."""
    config = replace(read_network(PRESETS / f"{name}.yaml"), **changes)
    return sum(node.layer.parameters for node in graph_of(config).nodes)
