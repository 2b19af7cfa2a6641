"""The published network's numbers, and arithmetic that holds for all networks."""

from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_core.config import NetworkConfig, load
from unet_core.config.networks.build import graph_of
from unet_core.config.networks.cost import (
    convolutions,
    multiply_adds,
    multiply_adds_per_voxel,
    parameters,
)
from unet_core.config.networks.geometry import (
    geometry_of,
    input_sizes,
    nearest_input_size,
    nearest_patch,
    output_size,
    padded_halo,
)
from unet_core.config.networks.memory import activation_mb
from unet_core.config.networks.trace import sizes_of
from unet_core.errors import ConfigError

PAPER = NetworkConfig()

networks = st.builds(
    NetworkConfig,
    depth=st.integers(1, 5),
    convolutions=st.integers(1, 3),
    padding=st.sampled_from(["valid", "same"]),
    up=st.sampled_from(["transposed", "nearest", "bilinear"]),
    dimensions=st.sampled_from([2, 3]),
)


@given(model=networks, k=st.integers(0, 20))
@settings(deadline=None, max_examples=50)
def test_accepted_sizes_are_accepted_and_give_the_size_of_the_last_layer(
    model: NetworkConfig, k: int
) -> None:
    size = next(islice(input_sizes(model), k, None))
    assert nearest_input_size(model, size) == size
    graph = graph_of(model)
    sizes = sizes_of(graph, model.dimensions - 1, size)
    assert sizes[graph.output] == output_size(model, size) > 0
    assert min(sizes.values()) > 0


@given(model=networks, size=st.integers(-5, 600))
@settings(deadline=None, max_examples=50)
def test_the_nearest_size_is_nearest(model: NetworkConfig, size: int) -> None:
    sizes = list(islice(input_sizes(model), 400))
    assert min(abs(s - size) for s in sizes) == abs(nearest_input_size(model, size) - size)


@given(model=networks, tiles=st.integers(1, 8))
@settings(deadline=None, max_examples=50)
def test_a_tile_with_its_halo_has_an_accepted_size_and_covers_the_tile(
    model: NetworkConfig, tiles: int
) -> None:
    valid = NetworkConfig(depth=model.depth, convolutions=model.convolutions, up=model.up)
    size = tiles * geometry_of(valid).stride[2] + 2 * geometry_of(valid).halo[2]
    if size > 2 * geometry_of(valid).lost[2] and size >= next(input_sizes(valid)):
        beyond = output_size(valid, size) - tiles * geometry_of(valid).stride[2]
        assert beyond >= 0
        assert beyond % 2 == 0


def test_the_network_of_the_paper() -> None:
    assert parameters(PAPER) == 31_030_658
    assert convolutions(PAPER) == 23
    assert output_size(PAPER, 572) == 388
    assert (padded_halo(PAPER)[2], geometry_of(PAPER).stride[2], geometry_of(PAPER).halo[2]) == (
        92,
        16,
        94,
    )
    assert list(islice(input_sizes(PAPER), 3)) == [188, 204, 220]
    assert parameters(NetworkConfig(channels=3, classes=4)) == 31_030_593 + 65 * 3 + 576 * 2


def test_sections_are_inputs_of_the_first_convolution_alone() -> None:
    several = NetworkConfig(channels=2, sections=5)
    one = NetworkConfig(channels=2)
    assert (several.inputs, one.inputs) == (10, 2)
    assert parameters(several) - parameters(one) == 8 * 9 * 64
    assert multiply_adds(several, 188) - multiply_adds(one, 188) == 8 * 9 * 64 * 186**2
    assert nearest_patch(several, (1, 570, 187)) == (5, 572, 188)
    assert nearest_patch(NetworkConfig(dimensions=3, depth=1), (1, 28, 29)) == (18, 28, 30)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sections": 4}, "odd and >= 1.* got 4; the next that is: 5"),
        ({"sections": 0}, "got 0; the next that is: 1"),
        ({"sections": 3, "dimensions": 3}, "set model.sections to 1"),
    ],
)
def test_sections_that_make_no_sense_are_refused(given: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(NetworkConfig, given, section="model")


@given(model=networks, k=st.integers(0, 5))
@settings(deadline=None, max_examples=30)
def test_a_patch_that_is_accepted_is_its_own_nearest(model: NetworkConfig, k: int) -> None:
    patch = nearest_patch(model, (k, 50 * k, 400))
    assert nearest_patch(model, patch) == patch


def test_work_of_the_paper_s_network() -> None:
    assert multiply_adds(PAPER, 572) / 1e9 == pytest.approx(150.43, abs=0.005)
    for size, per_voxel in ((572, 999_232), (1020, 847_565), (3068, 765_151)):
        assert multiply_adds_per_voxel(PAPER, size) == pytest.approx(per_voxel, abs=0.5)
    assert multiply_adds_per_voxel(NetworkConfig(padding="same"), 576) == 733_888


def test_a_padded_network_with_batch_normalisation() -> None:
    assert parameters(NetworkConfig(padding="same", norm="batch")) == 31_036_546


@pytest.mark.parametrize(
    ("up", "depth", "halo"),
    [
        ("transposed", 3, 48),
        ("nearest", 4, 96),
        ("transposed", 5, 192),
        ("bilinear", 4, 112),
    ],
)
def test_the_seam_of_a_padded_network_is_exact_from(up: str, depth: int, halo: int) -> None:
    assert padded_halo(NetworkConfig(padding="same", up=up, depth=depth))[2] == halo  # type: ignore[arg-type]


def test_memory_of_one_pass_is_that_which_was_measured() -> None:
    assert activation_mb(NetworkConfig(), 2108, bytes_per_value=4) == pytest.approx(3990, rel=0.01)


def test_a_refused_size_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"does not accept 512 .* 508"):
        output_size(PAPER, 512)
    with pytest.raises(ConfigError, match="nearest size it does: 188"):
        output_size(PAPER, 100)
