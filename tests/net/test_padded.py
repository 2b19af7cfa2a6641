"""Zero-padded networks, run without padding: exact inside, and what that saves."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.net.exact import (
    UPS,
    forward,
    in_drawn_numbers,
    torch_as_before,
    whole_numbers,
)
from unet_core.config import NetworkConfig
from unet_core.config.networks.cost import multiply_adds, multiply_adds_per_voxel
from unet_core.config.networks.geometry import geometry_of, padded_halo
from unet_core.net.folding import without_padding

__all__ = ["torch_as_before"]


@pytest.mark.parametrize("up", UPS)
@pytest.mark.parametrize("kind", [{}, {"sections": 3}, {"dimensions": 3}])
@torch.inference_mode()
def test_a_padded_network_needs_the_input_phase_of_the_grid_and_only_that(
    up: str, kind: dict
) -> None:
    """Input starts at ``-tile_halo_px`` from a multiple of 2^depth (the paper's: 2 mod 16)."""
    depth = 1 if kind.get("dimensions") == 3 else 2
    model = NetworkConfig(padding="same", width=3, depth=depth, up=up, **kind)  # type: ignore[arg-type]
    padded = in_drawn_numbers(model, 2).network().double()
    valid = without_padding(padded)
    step, around, inside = (
        geometry_of(model).stride[2],
        geometry_of(model).halo[2],
        padded_halo(model)[2],
    )
    size = 2 * inside + 3 * step
    volume = whole_numbers(model, (size if depth == 1 else model.sections, size, size)) / 4
    expected = forward(padded, volume)  # zeros beyond the edge
    for shift in range(step):
        start = inside - around + shift  # of the input
        seen = volume[..., start:, start : start + 2 * step + 2 * around]
        seen = seen[..., : 2 * step + 2 * around, :]
        if depth == 1:
            seen = seen[:, start : start + 2 * step + 2 * around]
        found = forward(valid, seen)
        first = start + geometry_of(model).lost[2]
        there = [slice(first, first + n) for n in found.shape[1:]]
        there = there if depth == 1 else [slice(None), *there[1:]]
        # only where zeros beyond the edge cannot be seen
        same = np.allclose(found, expected[(slice(None), *there)], rtol=0, atol=1e-10)
        assert same == (shift == 0)


@pytest.mark.parametrize("up", UPS)
@pytest.mark.parametrize(("depth", "convolutions"), [(2, 2), (3, 2), (2, 1)])
def test_a_padded_tile_is_exact_from_the_halo_rounded_up_to_the_grid_and_not_before(
    up: str, depth: int, convolutions: int
) -> None:
    model = NetworkConfig(
        padding="same",
        width=3,
        depth=depth,
        convolutions=convolutions,
        up=up,  # type: ignore[arg-type]
    )
    padded = in_drawn_numbers(model, 2).network().double()
    step, halo = geometry_of(model).stride[2], padded_halo(model)[2]
    assert halo - step < geometry_of(model).halo[2] <= halo
    x = whole_numbers(model, (1, 4 * step, 4 * step + 4 * halo)) / 4
    whole = forward(padded, x)
    for used, exact in ((halo, True), (halo - step, False)):
        start = 2 * halo - used
        tile = forward(padded, x[..., start : start + 2 * used + 4 * step])
        kept = tile[..., used : used + 4 * step]
        expected = whole[..., 2 * halo : 2 * halo + 4 * step]
        assert np.allclose(kept, expected, rtol=0, atol=1e-10) == exact


def test_the_halo_of_the_published_network_and_what_it_costs() -> None:
    model = NetworkConfig(padding="same")
    assert (geometry_of(model).halo[2], padded_halo(model)[2], geometry_of(model).reach[2]) == (
        94,
        96,
        107,
    )
    assert (
        -geometry_of(model).halo[2] % geometry_of(model).stride[2] == 2
    )  # inputs start at 2 mod 16
    floor = multiply_adds_per_voxel(model, 512)
    valid, core = replace(model, padding="valid"), 512**2
    assert multiply_adds(valid, 512 + 2 * 94) / core / floor == pytest.approx(1.28, abs=0.005)
    assert multiply_adds(model, 512 + 2 * 96) / core / floor == pytest.approx(1.89, abs=0.005)
    for tile_px, most in ((384, 1.40), (512, 1.30), (896, 1.16), (1024, 1.13)):
        spent = multiply_adds(valid, tile_px + 2 * 94) / tile_px**2 / floor
        assert spent <= most + 0.005
