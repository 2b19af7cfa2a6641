"""The table of docs/networks.md says of every preset what its network says."""

import re
from pathlib import Path

import pytest

from unet_core.config.networks.cost import parameters
from unet_core.config.networks.geometry import geometry_of
from unet_core.config.presets import FAMILY, PRESETS, read_network

TEXT = (Path(__file__).parents[3] / "docs/networks.md").read_text()
ROWS = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([\d,]+) \| ([\d, ]+) \| ([\w, ]+) \|$", TEXT, re.M)


def test_the_table_lists_every_preset() -> None:
    assert sorted(name for name, *_ in ROWS) == sorted(path.stem for path in PRESETS.glob("*.yaml"))


@pytest.mark.parametrize(("name", "count", "stride", "halo"), ROWS)
def test_a_row_says_what_the_network_says(name: str, count: str, stride: str, halo: str) -> None:
    config = read_network(PRESETS / f"{name.replace(FAMILY, 'resnet34')}.yaml")
    geometry = geometry_of(config)
    first = 3 - config.dimensions
    assert count == f"{parameters(config):,}"
    assert stride == told(geometry.stride[first:])
    assert halo == (told(geometry.halo[first:]) if geometry.is_exact else "window")


def told(voxels: tuple[int, ...]) -> str:
    """One number where all axes agree."""
    return ", ".join(map(str, voxels)) if len(set(voxels)) > 1 else str(voxels[0])
