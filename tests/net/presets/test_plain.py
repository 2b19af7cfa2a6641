"""Presets of plain networks have the numbers of parameters that were published."""

from itertools import pairwise

import pytest

from tests.net.presets import parameters

PUBLISHED = {
    "paper": 31_030_658,
    "freiburg_2015": 31_100_354,
    "freiburg_fiji_2d": 31_030_658,
    "milesial": 31_036_546,
    "milesial_bilinear": 17_261_890,
    "jakeoung": 9_848_257,
    "jakeoung_bn": 9_854_145,
    "unet_family": 7_763_522,
    "unet_family_bilinear": 7_241_282,
    "unetpp_family": 9_045_800,
    "unetpp": 9_163_329,
    "mateuszbuda": 7_763_041,
}

CHANGED = [
    ("paper", {"channels": 3, "classes": 4}, 31_030_593 + 65 * 3 + 576 * 2),
    ("milesial", {"channels": 3}, 31_037_698),
    ("milesial", {"channels": 3, "output": "sigmoid"}, 31_037_633),
    ("milesial_bilinear", {"channels": 3}, 17_263_042),
    ("unet_family", {"width": 64}, 31_038_594),
    ("unet_family", {"width": 16}, 1_942_818),
    ("unet_family", {"norm": "none"}, 7_759_554),
    ("unet_family_bilinear", {"norm": "none"}, 7_237_314),
    ("unetpp_family", {"width": 64}, 36_165_192),
    ("unetpp_family", {"up": "bilinear", "norm": "none"}, 8_353_704),
    ("unetpp", {"supervision": "nodes"}, 9_163_428),
]


@pytest.mark.parametrize(("name", "count"), PUBLISHED.items())
def test_a_preset_has_the_published_parameters(name: str, count: int) -> None:
    assert parameters(name) == count


@pytest.mark.parametrize(("name", "changes", "count"), CHANGED)
def test_a_variant_has_the_published_parameters(
    name: str, changes: dict[str, object], count: int
) -> None:
    assert parameters(name, **changes) == count


def test_the_3d_network_of_fiji_pools_z_on_all_levels_but_the_finest() -> None:
    # Convolutions of the finest level are 1x3x3, all others 3x3x3; up-sampling 1x2x2 and 2x2x2.
    widths = [1, 64, 128, 256, 512, 1024]
    first = [9 * (1 * 64 + 64 * 64), 9 * (128 * 64 + 64 * 64), 4 * 128 * 64, 64 * 2]
    down = [27 * (a * b + b * b) for a, b in pairwise(widths[1:])]
    up = [27 * (2 * b * b + b * b) + 8 * 2 * b * b for b in widths[2:5]]
    biases = sum(2 * w for w in widths[1:]) + sum(3 * w for w in widths[1:5]) + 2
    assert parameters("freiburg_fiji_3d") == sum(first) + sum(down) + sum(up) + biases
