"""Where windows lie, against the formulas of those who use them."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_core.geometry import Box, Zyx, split
from unet_core.windows import Windows, starts

lengths = st.integers(1, 70)
sizes = st.integers(1, 24)


@pytest.mark.parametrize(
    ("image", "crop", "stride", "count"),
    [
        ((584, 565), 64, 42, 182),  # DRIVE
        ((605, 700), 128, 85, 56),  # STARE
        ((960, 999), 128, 85, 132),  # CHASE_DB1
        ((2336, 3504), 256, 170, 294),  # HRF
    ],
)
def test_windows_of_mmsegmentation_are_as_many_as_it_has(
    image: tuple[int, int], crop: int, stride: int, count: int
) -> None:
    windows = Windows((1, *image), (1, crop, crop), (1, stride, stride))
    assert windows.count == count


def test_the_last_window_is_pulled_back_inside() -> None:
    assert starts(960, 128, 85, even=False) == (*range(0, 766, 85), 832)
    assert starts(999, 128, 85, even=False) == (*range(0, 851, 85), 871)
    assert starts(100, 128, 85, even=False) == (0,)
    assert starts(128, 128, 85, even=False) == (0,)


def test_windows_of_nnunet_are_spread_evenly() -> None:
    assert starts(300, 128, 64, even=True) == (0, 57, 115, 172)
    assert starts(128, 128, 64, even=True) == (0,)
    assert starts(129, 128, 64, even=True) == (0, 1)


@given(lengths, sizes, st.data(), st.booleans())
@settings(deadline=None, max_examples=60)
def test_windows_cover_an_axis_and_lie_no_farther_apart_than_the_stride(
    length: int, size: int, data: st.DataObject, even: bool
) -> None:
    stride = data.draw(st.integers(1, size))
    at = starts(length, size, stride, even=even)
    assert at[0] == 0
    assert at[-1] == max(length - size, 0)
    assert all(0 < b - a <= stride for a, b in pairwise(at))
    assert len(at) == max(length - size + stride - 1, 0) // stride + 1


@given(st.tuples(lengths, lengths, lengths), st.tuples(sizes, sizes, sizes), st.data())
@settings(deadline=None, max_examples=40)
def test_windows_of_a_box_are_those_that_share_voxels_with_it(
    shape: Zyx, size: Zyx, data: st.DataObject
) -> None:
    z, y, x = (data.draw(st.integers(1, n)) for n in size)
    halo = data.draw(st.sampled_from([(0, 0, 0), (1, 2, 3)]))
    windows = Windows(shape, size, (z, y, x), halo)
    box = data.draw(st.sampled_from(list(split(shape, block=(7, 16, 30)))))
    most = (max(shape[0], size[0]), max(shape[1], size[1]), max(shape[2], size[2]))
    volume = Box((0, 0, 0), most)
    every = windows.touching(volume)
    assert len(every) == windows.count
    touching = windows.touching(box)
    assert touching == [each for each in every if each.intersection(box).size]
    assert len(touching) == windows.counted(box)
    read = windows.read(box)
    assert read.start == tuple(min(each.start[i] for each in touching) - halo[i] for i in range(3))
    assert read.stop == tuple(max(each.stop[i] for each in touching) + halo[i] for i in range(3))
    assert all(n <= m for n, m in zip(read.shape, windows.most_read(box.shape), strict=True))


def test_boxes_computed_apart_repeat_the_windows_they_share() -> None:
    windows = Windows((1, 960, 999), (1, 128, 128), (1, 85, 85))
    assert windows.repeated((1, 960, 999)) == 1
    boxes = split((1, 960, 999), block=(1, 512, 512))
    counted = sum(windows.counted(box) for box in boxes)
    assert windows.repeated((1, 512, 512)) == pytest.approx(counted / 132)
