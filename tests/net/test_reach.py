"""How far a result reaches: off the grid and beyond the halo, to the voxel."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.net.exact import (
    UPS,
    at_once,
    bits,
    in_drawn_numbers,
    networks,
    seeds,
    torch_as_before,
    whole_numbers,
)
from unet_core.config import NetworkConfig
from unet_core.config.networks.geometry import geometry_of
from unet_core.net.folding import without_padding

__all__ = ["torch_as_before"]


@pytest.mark.parametrize("up", UPS)
@pytest.mark.parametrize("dimensions", [2, 3])
def test_off_the_grid_every_shift_gives_another_result(up: str, dimensions: int) -> None:
    """The negative control: the laws above would see a grid that does not hold."""
    model = NetworkConfig(dimensions=dimensions, up=up, width=3, depth=5 - dimensions - 1)  # type: ignore[arg-type]
    step, halo = geometry_of(model).stride[2], geometry_of(model).halo[2]
    network = without_padding(in_drawn_numbers(model, 1).network()).double()
    size = 2 * halo + 3 * step
    volume = whole_numbers(model, (size if dimensions == 3 else 1, size, size)) / 4
    whole = at_once(network, volume)
    for shift in range(1, step + 1):
        shifted = at_once(network, volume[..., shift:])
        inside = (..., slice(halo, size - shift))
        same = np.allclose(shifted[inside], whole[..., shift:][inside], rtol=0, atol=1e-6)
        assert same == (shift == step)


@given(
    model=networks,
    seed=seeds,
    before=st.booleans(),
    axis=st.integers(0, 2),
    place=st.integers(0, 9),
)
@settings(deadline=None, max_examples=30)
def test_a_voxel_beyond_the_halo_changes_nothing_and_one_at_its_edge_does(
    model: NetworkConfig, seed: int, before: bool, axis: int, place: int
) -> None:
    assume(model.depth < 3)
    step, halo = geometry_of(model).stride[2], geometry_of(model).halo[2]
    if axis == 0 and model.dimensions == 2:
        step, halo = 1, model.sections // 2
    network = without_padding(in_drawn_numbers(model, seed).network()).double()
    shape = [2 * geometry_of(model).halo[2] + 2 * geometry_of(model).stride[2]] * 3
    first = halo + 2 + -(halo + 2) % step  # of a cell of the grid, the halo and 2 voxels before it
    shape[axis] = first + step + halo + 2
    if model.dimensions == 2 and axis > 0:
        shape[0] = 1
    elif model.dimensions == 2:
        shape[1:] = [9, 9]
    volume = whole_numbers(model, (shape[0], shape[1], shape[2])) / 4
    volume[0] += 1  # no change below is none
    whole = at_once(network, volume)
    cell = [slice(None)] * 4
    cell[1 + axis] = slice(first, first + step)

    def changed_by(distance: int) -> bool:
        other = volume.copy()
        at = first - distance if before else first + step - 1 + distance
        plane = [slice(None)] * 4
        plane[1 + axis] = slice(at, at + 1)
        if distance > halo:
            plane[2 if axis != 1 else 3] = slice(place % 9, place % 9 + 1)
        other[tuple(plane)] += 8
        return bits(at_once(network, other)[tuple(cell)]) != bits(whole[tuple(cell)])

    assert changed_by(halo)
    assert not changed_by(halo + 1)
    assert not changed_by(halo + 2)


@pytest.mark.parametrize("up", UPS)
@pytest.mark.parametrize(("depth", "convolutions"), [(1, 2), (2, 1), (2, 2), (3, 1), (2, 3)])
def test_one_voxel_reaches_as_far_as_said_and_no_farther(
    up: str, depth: int, convolutions: int
) -> None:
    model = NetworkConfig(width=3, depth=depth, convolutions=convolutions, up=up)  # type: ignore[arg-type]
    network = in_drawn_numbers(model, 0).network().double()
    step, halo = geometry_of(model).stride[2], geometry_of(model).halo[2]
    size = 3 * step + 2 * halo
    x = torch.zeros(1, 1, size, size, dtype=torch.float64).normal_(
        generator=torch.Generator().manual_seed(0)
    )
    result = network(x.requires_grad_())
    beyond = halo - geometry_of(model).lost[2] + step
    reached = []
    for voxel in range(step):
        (gradient,) = torch.autograd.grad(
            result[0, :, beyond : beyond + step, beyond + voxel].square().sum(),
            x,
            retain_graph=True,
        )
        (columns,) = np.nonzero(gradient[0, 0].abs().sum(0).numpy())
        at = halo + step + voxel
        reached += [at - columns[0], columns[-1] - at]
    assert min(reached) == geometry_of(model).lost[2]
    assert max(reached) == geometry_of(model).reach[2]
