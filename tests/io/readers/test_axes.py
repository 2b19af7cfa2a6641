import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_core.errors import RawFormatError
from unet_core.geometry import Box
from unet_core.io.readers.axes import Layout, guess_axes, nanometres, voxel_size

LENGTHS = {"t": 1, "c": 2, "s": 3, "z": 4, "y": 5, "x": 6}


@given(axes=st.permutations("tcszyx"), drop=st.sets(st.sampled_from("tcsz")))
def test_any_order_of_axes_becomes_czyx(axes: list[str], drop: set[str]) -> None:
    wanted = np.arange(720).reshape(2, 3, 4, 5, 6)
    wanted = wanted[tuple(slice(0, 1) if a in drop else slice(None) for a in "cszyx")]
    kept = [a for a in axes if a not in drop]
    full = dict(zip("cszyx", range(5), strict=True))
    stored = wanted[..., None].transpose([full.get(a, 5) for a in axes])
    stored = stored.reshape([LENGTHS[a] for a in kept])
    layout = Layout.of("".join(kept), stored.shape, "file")
    box = Box((0, 1, 2), (layout.shape[1], 5, 4))
    found = layout.arrange(stored[layout.index(box)])
    np.testing.assert_array_equal(found, wanted.reshape(-1, *wanted.shape[2:])[(..., *box.slices)])
    assert layout.shape == (wanted.shape[0] * wanted.shape[1], *wanted.shape[2:])


def test_pages_without_a_name_are_sections() -> None:
    assert Layout.of("QYX", (3, 4, 5), "file").shape == (1, 3, 4, 5)
    assert Layout.of("IYXS", (7, 4, 5, 3), "file").shape == (3, 7, 4, 5)


@pytest.mark.parametrize(
    ("axes", "sizes", "why"),
    [("TYX", (2, 4, 5), "time"), ("PYX", (2, 4, 5), "'p'"), ("ZX", (4, 5), "y and x")],
)
def test_what_cannot_be_a_volume_is_refused(axes: str, sizes: tuple[int, ...], why: str) -> None:
    with pytest.raises(RawFormatError, match=why):
        Layout.of(axes, sizes, "file")


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((50, 60), "yx"),
        ((50, 60, 70), "zyx"),
        ((50, 60, 3), "yxc"),
        ((3, 50, 60), "zyx"),
        ((50, 60, 55, 2), "zyxc"),
        ((3, 24, 24, 24), "czyx"),
    ],
)
def test_axes_without_names_are_guessed_by_length(shape: tuple[int, ...], axes: str) -> None:
    assert guess_axes(shape, "file") == axes


@pytest.mark.parametrize("shape", [(9,), (3, 3, 3, 3), (20, 50, 60, 70), (1, 1, 9, 9, 9)])
def test_axes_that_could_be_either_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(RawFormatError, match="axes"):
        guess_axes(shape, "file")


def test_units_are_known_by_all_their_names() -> None:
    for unit in ("µm", "μm", "um", "micron", "micrometer"):
        assert nanometres(unit) == 1000
    assert nanometres("angstrom") == 0.1
    assert nanometres("pixel") is None
    assert nanometres(None) is None


def test_an_unknown_thickness_is_that_of_a_pixel_and_nonsense_is_unknown() -> None:
    assert voxel_size({"y": 5, "x": 4}) == (5, 5, 4)
    for bad in itertools.chain((0, -1, float("nan"), float("inf")), [None]):
        assert voxel_size({"z": 1, "y": bad, "x": 4}) is None
