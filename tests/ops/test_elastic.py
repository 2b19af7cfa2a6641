import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import CubicSpline

from unet_core.ops import elastic, symmetry

few = settings(deadline=None, max_examples=25)
sides = st.integers(3, 40)
seeds = st.integers(0, 1000)


def drawn(seed: int, nodes: int = 3, sd_px: float = 10.0) -> NDArray[np.float32]:
    return elastic.draw_displacement(np.random.default_rng(seed), nodes, sd_px)


def section_for(coordinates: NDArray[np.float32], seed: int = 0) -> tuple[NDArray, NDArray]:
    """A section that holds all that is sampled, and the coordinates within it."""
    (y0, x0), (y1, x1) = elastic.reach(coordinates)
    section = np.random.default_rng(seed).random((y1 - y0, x1 - x0), np.float32)
    return section, coordinates - np.array([y0, x0], np.float32)[:, None, None]


@few
@given(y=sides, x=sides, seed=seeds, nodes=st.integers(2, 5))
def test_the_field_passes_through_its_nodes(y: int, x: int, seed: int, nodes: int) -> None:
    pixels = ((y - 1) * (nodes - 1) + 1, (x - 1) * (nodes - 1) + 1)  # nodes fall on pixels
    grid = drawn(seed, nodes)
    field = elastic.displacement_field(grid, pixels)
    assert field.shape == (2, *pixels)
    np.testing.assert_allclose(field[:, :: y - 1, :: x - 1], grid, atol=1e-4)


@few
@given(y=sides, x=sides, seed=seeds)
def test_the_field_is_the_natural_spline_along_each_axis_in_turn(y: int, x: int, seed: int) -> None:
    grid = drawn(seed, nodes=4)
    along_y = CubicSpline(np.arange(4), grid, axis=1, bc_type="natural")(np.linspace(0, 3, y))
    both = CubicSpline(np.arange(4), along_y, axis=2, bc_type="natural")(np.linspace(0, 3, x))
    np.testing.assert_allclose(elastic.displacement_field(grid, (y, x)), both, atol=1e-4)


def test_10_px_at_3_nodes_displace_by_7_6_to_8_px() -> None:
    fields = [elastic.displacement_field(drawn(seed), (143, 143)) for seed in range(1500)]
    assert 7.6 < np.sqrt(np.mean(np.square(fields))) < 8.0


def test_10_px_never_fold_a_section_of_572_px() -> None:
    for seed in range(60):
        y, x = elastic.displacement_field(drawn(seed), (572, 572))
        (yy, yx), (xy, xx) = np.gradient(y), np.gradient(x)
        assert ((1 + yy) * (1 + xx) - yx * xy).min() > 0.4


@few
@given(seed=seeds, code=st.sampled_from(symmetry.CODES), angle=st.sampled_from([0.0, 0.7]))
def test_linear_sampling_is_that_of_scipy(seed: int, code: int, angle: float) -> None:
    at = elastic.source_coordinates((30, 43), grid=drawn(seed), angle=angle, code=code)
    section, at = section_for(at, seed)
    ours = elastic.warp(section, at, order=1)
    scipys = ndimage.map_coordinates(section, at, order=1, output=np.float64)
    np.testing.assert_allclose(ours, scipys, atol=1e-5)


@few
@given(seed=seeds, code=st.sampled_from(symmetry.CODES))
def test_nearest_sampling_is_that_of_scipy_except_at_exact_ties(seed: int, code: int) -> None:
    section, at = section_for(elastic.source_coordinates((30, 43), grid=drawn(seed), code=code))
    classes = (section * 255).astype(np.uint8)
    ties = (at % 1 == 0.5).any(axis=0)
    ours = elastic.warp(classes, at, order=0)
    scipys = ndimage.map_coordinates(classes, at, order=0)
    np.testing.assert_array_equal(ours[~ties], scipys[~ties])


@few
@given(seed=seeds)
def test_cubic_sampling_is_the_cubic_convolution(seed: int) -> None:
    section, at = section_for(elastic.source_coordinates((30, 43), grid=drawn(seed)), seed)
    low = np.floor(at).astype(int)
    wanted = np.zeros(at.shape[1:])
    for i in range(-1, 3):
        for j in range(-1, 3):
            weight = keys(at[0] - low[0] - i) * keys(at[1] - low[1] - j)
            wanted += weight * section[low[0] + i, low[1] + j]
    np.testing.assert_allclose(elastic.warp(section, at, order=3), wanted, atol=2e-5)


def keys(t: NDArray, a: float = -0.75) -> NDArray:
    t = np.abs(t.astype(float))
    near = (a + 2) * t**3 - (a + 3) * t**2 + 1
    return np.where(t <= 1, near, np.where(t < 2, a * (t**3 - 5 * t**2 + 8 * t - 4), 0))


@few
@given(y=sides, x=sides, code=st.sampled_from(symmetry.CODES), order=st.sampled_from([0, 1, 3]))
def test_without_displacement_a_section_is_its_symmetry(
    y: int, x: int, code: int, order: int
) -> None:
    section = np.random.default_rng(y).normal(size=(y, x)).astype(np.float32)
    shape = symmetry.apply(section, code).shape
    at = elastic.source_coordinates((shape[0], shape[1]), code=code)
    ours = elastic.warp(section, at, order=order)  # type: ignore[arg-type]
    np.testing.assert_array_equal(ours, symmetry.apply(section, code))


@few
@given(seed=seeds, y=sides, x=sides)
def test_reach_holds_all_that_is_sampled(seed: int, y: int, x: int) -> None:
    at = elastic.source_coordinates((y, x), grid=drawn(seed), angle=seed)
    section, within = section_for(at)
    around = np.full((section.shape[0] + 8, section.shape[1] + 8), 1e6, np.float32)
    around[4:-4, 4:-4] = section
    np.testing.assert_allclose(  # what lies beyond does not matter
        elastic.warp(section, within, order=3), elastic.warp(around, within + 4, order=3), atol=1e-3
    )


def test_all_sections_and_channels_are_warped_alike() -> None:
    at = elastic.source_coordinates((9, 8), grid=drawn(1, sd_px=2))
    section, at = section_for(at)
    volume = np.stack([section, section[::-1]])[None]
    ours = elastic.warp(volume, at, order=3)
    assert ours.shape == (1, 2, 9, 8)
    np.testing.assert_array_equal(ours[0, 0], elastic.warp(section, at, order=3))
    np.testing.assert_array_equal(ours[0, 1], elastic.warp(section[::-1].copy(), at, order=3))


def test_a_quarter_turn_by_angle_is_that_by_symmetry() -> None:
    section = np.random.default_rng(0).random((7, 7), np.float32)
    turned = elastic.warp(section, elastic.source_coordinates((7, 7), angle=np.pi / 2), order=1)
    np.testing.assert_allclose(turned, np.rot90(section, -1), atol=1e-5)


def test_a_shift_of_all_nodes_shifts_the_section() -> None:
    section = np.arange(40, dtype=np.float32).reshape(5, 8)
    grid = np.zeros((2, 3, 3), np.float32)
    grid[1] = 2
    at = elastic.source_coordinates((5, 6), grid=grid)
    np.testing.assert_array_equal(elastic.warp(section, at, order=1), section[:, 2:])


def test_twice_the_size_shows_half_of_the_section_about_its_centre() -> None:
    section = np.arange(9, dtype=np.float32) * np.ones((9, 1), np.float32)
    at = elastic.source_coordinates((9, 9), scale=2)
    np.testing.assert_allclose(at[1][0], np.arange(9) / 2 + 2)
    np.testing.assert_allclose(elastic.warp(section, at, order=1)[0], np.arange(9) / 2 + 2)
    np.testing.assert_allclose(
        elastic.source_coordinates((9, 9), scale=0.5)[0][:, 0][[0, 8]], [-4, 12]
    )


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 3)])
def test_tiny_sections_are_deformed_too(shape: tuple[int, int]) -> None:
    section, at = section_for(elastic.source_coordinates(shape, grid=drawn(3)))
    assert elastic.warp(section, at, order=3).shape == shape
