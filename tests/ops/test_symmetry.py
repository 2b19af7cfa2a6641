import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_core.ops import symmetry

sides = st.integers(1, 6)


@given(code=st.sampled_from(symmetry.CODES), z=sides, y=sides, x=sides)
def test_the_inverse_undoes_a_symmetry_of_any_section(code: int, z: int, y: int, x: int) -> None:
    volume = np.arange(z * y * x).reshape(z, y, x)
    back = symmetry.apply(symmetry.apply(volume, code), symmetry.inverse(code))
    np.testing.assert_array_equal(back, volume)


def test_the_eight_symmetries_differ_and_are_closed() -> None:
    section = np.arange(9).reshape(3, 3)
    images = {symmetry.apply(section, code).tobytes() for code in symmetry.CODES}
    assert len(images) == 8
    for first, second in itertools.product(symmetry.CODES, repeat=2):
        both = symmetry.apply(symmetry.apply(section, first), second)
        assert both.tobytes() in images


def test_a_quarter_turn_and_two_flips_are_those_of_numpy() -> None:
    section = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(symmetry.apply(section, 0), section)
    np.testing.assert_array_equal(symmetry.apply(section, 1), section[:, ::-1])
    np.testing.assert_array_equal(symmetry.apply(section, 2), section[::-1])
    np.testing.assert_array_equal(symmetry.apply(section, 3), np.rot90(section, 2))
    np.testing.assert_array_equal(symmetry.apply(section, 4), section.T)
    np.testing.assert_array_equal(symmetry.apply(section, 6), np.rot90(section))
    np.testing.assert_array_equal(symmetry.apply(section, 5), np.rot90(section, -1))


@pytest.mark.parametrize("code", symmetry.CODES)
def test_the_shape_before_is_the_shape_it_came_from(code: int) -> None:
    after = symmetry.apply(np.zeros((2, 5)), code).shape
    assert symmetry.shape_before((after[0], after[1]), code) == (2, 5)


@pytest.mark.parametrize("code", [-1, 8])
def test_a_code_that_is_none_is_refused(code: int) -> None:
    with pytest.raises(ValueError, match="from 0 to 7"):
        symmetry.apply(np.zeros((2, 2)), code)
