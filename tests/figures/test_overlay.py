import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from unet_core.figures.overlay import (
    MISSED,
    SURPLUS,
    border_errors,
    class_errors,
    colours,
    error_picture,
    grey,
    montage,
    red_green_blue,
)
from unet_core.geometry import IGNORED_ID


def halves(column: int) -> np.ndarray:
    ids = np.ones((20, 30), np.uint32)
    ids[:, column:] = 2
    return ids


def test_a_border_that_is_off_by_less_than_the_tolerance_is_found() -> None:
    missed, surplus, found = border_errors(halves(12), halves(14))
    assert not missed.any()
    assert not surplus.any()
    assert found.any(axis=1).all()


def test_a_border_that_is_not_there_is_missed_and_one_too_many_is_surplus() -> None:
    whole = np.ones((20, 30), np.uint32)
    missed, surplus, found = border_errors(whole, halves(14))
    assert missed.sum() == 20
    assert not surplus.any()
    missed, surplus, found = border_errors(halves(14), whole)
    assert surplus.sum() == 20
    assert not missed.any()
    assert not found.any()


def test_a_wide_membrane_and_a_line_in_its_middle_are_one_border() -> None:
    wide = halves(14)
    wide[:, 9:20] = 0
    assert not any(mask.any() for mask in border_errors(halves(14), wide)[:2])
    assert not any(mask.any() for mask in border_errors(wide, halves(14))[:2])


def test_where_truth_is_ignored_nothing_is_an_error() -> None:
    ignored = np.full((20, 30), IGNORED_ID, np.uint32)
    assert not any(mask.any() for mask in border_errors(halves(14), ignored))


def test_errors_stand_out_in_their_colours() -> None:
    raw = grey(np.full((20, 30), 100), low=0, high=255)
    whole = np.ones((20, 30), np.uint32)
    missed = error_picture(raw, whole, halves(14), foreground=None)
    surplus = error_picture(raw, halves(14), whole, foreground=None)
    assert (missed == MISSED).all(-1).sum() == 20
    assert (surplus == SURPLUS).all(-1).sum() == 20


def test_of_classes_each_voxel_is_missed_surplus_or_found() -> None:
    truth = np.array([[1, 1, 0, 0, 2, IGNORED_ID]], np.uint32)
    labels = np.array([[7, 0, 8, 0, 9, 9]], np.uint64)
    of = class_errors(labels, truth, foreground=1)
    assert [mask.astype(int).tolist()[0] for mask in of] == [
        [0, 1, 0, 0, 0, 0],
        [0, 0, 1, 0, 1, 0],
        [1, 0, 0, 0, 0, 0],
    ]
    raw = grey(np.zeros((1, 6)), low=0, high=1)
    picture = error_picture(raw, labels, truth, foreground=1)
    assert picture[0, 1].tolist() == list(MISSED)
    assert picture[0, 2].tolist() == list(SURPLUS)


def test_colours_share_one_scale() -> None:
    values = np.array([10, 60, 110])[:, None, None] * np.ones((1, 2, 2))
    assert red_green_blue(values, low=10, high=110)[0, 0].tolist() == [0, 127, 255]


@given(st.lists(st.integers(1, 2**63), min_size=2, max_size=20, unique=True))
def test_ids_have_colours_of_their_own_and_nothing_is_black(ids: list[int]) -> None:
    picture = colours(np.array([[0, IGNORED_ID, *ids]], np.uint64))
    assert not picture[0, :2].any()
    if IGNORED_ID not in ids:
        assert picture[0, 2:].any(-1).all()
    assert np.array_equal(picture, colours(np.array([[0, IGNORED_ID, *ids]], np.uint64)))


def test_a_montage_holds_every_picture_below_its_caption() -> None:
    one = grey(np.full((40, 50), 255), low=0, high=255)
    page = montage([{"raw": one, "labels": one // 2}] * 3, ["a", "b", "c"])
    assert page.shape == (3 * (40 + 22), 50 + 8 + 50, 3)
    assert (page[22:62, :50] == 255).all()
    assert (page[22:62, 58:] == 127).all()
