"""Means over windows: those of whole images written plainly, and the same bits for every cut."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from torch import Tensor

from unet_core.geometry import Box, Zyx, split
from unet_core.net.windows import (
    Windowed,
    mean_over_windows,
    totals_of,
    weights_along,
    weights_of,
)
from unet_core.windows import Weight, Windows

Array = np.ndarray[Any, np.dtype[Any]]


def values(x: Tensor) -> Tensor:
    """(n, 1, z, y, x) -> (n, 2, z, y, x); every result depends on the whole window."""
    mean = x.mean(dim=(2, 3, 4), keepdim=True)
    place = torch.linspace(-1, 1, x.shape[-1])
    return torch.cat([(x - mean) * place, torch.tanh(x + 3 * mean)], dim=1)


def image(shape: Zyx) -> Array:
    return np.random.default_rng(1).normal(size=(1, *shape)).astype(np.float32)


def mmsegmentation(raw: Array, crop: tuple[int, int], stride: tuple[int, int]) -> Array:
    """What its slide inference does with a section (1, 1, y, x)."""
    height, width = raw.shape[2:]
    total, count = np.zeros((2, 1, height, width)), np.zeros((height, width))
    rows = max(height - crop[0] + stride[0] - 1, 0) // stride[0] + 1
    columns = max(width - crop[1] + stride[1] - 1, 0) // stride[1] + 1
    for row in range(rows):
        for column in range(columns):
            y2 = min(row * stride[0] + crop[0], height)
            x2 = min(column * stride[1] + crop[1], width)
            y, x = slice(max(y2 - crop[0], 0), y2), slice(max(x2 - crop[1], 0), x2)
            total[..., y, x] += values(torch.from_numpy(raw[None, ..., y, x]))[0].numpy()
            count[y, x] += 1
    assert count.min() > 0
    return total / count


def nnunet(raw: Array, patch: Zyx) -> Array:
    """What its sliding window does with a volume (1, z, y, x), half a patch apart."""
    steps = []
    for size, tile in zip(raw.shape[1:], patch, strict=True):
        count = int(np.ceil((size - tile) / (tile * 0.5))) + 1
        each = (size - tile) / (count - 1) if count > 1 else 1e11
        steps.append([int(np.round(each * i)) for i in range(count)])
    point = np.zeros(patch)
    point[tuple(n // 2 for n in patch)] = 1
    weight = gaussian_filter(point, [n / 8 for n in patch], mode="constant", cval=0)
    weight /= weight.max()
    weight[weight == 0] = weight[weight > 0].min()
    total, norm = np.zeros((2, *raw.shape[1:])), np.zeros(raw.shape[1:])
    for corner in itertools.product(*steps):
        z, y, x = (slice(a, a + n) for a, n in zip(corner, patch, strict=True))
        total[:, z, y, x] += weight * values(torch.from_numpy(raw[None, :, z, y, x]))[0].numpy()
        norm[z, y, x] += weight
    return total / norm


def mean_of(raw: Array, windows: Windows, core: Box, *, batch: int = 1) -> Tensor:
    """Of a part of the volume, mirrored beyond its end."""
    tile = Windowed(core, windows)
    beyond = [(0, max(0, n - m)) for n, m in zip(tile.read.stop, raw.shape[1:], strict=True)]
    seen = np.pad(raw, [(0, 0), *beyond], mode="symmetric")[(..., *tile.read.slices)]
    return mean_over_windows(
        tile, torch.from_numpy(np.ascontiguousarray(seen)), values, batch=batch
    )


@pytest.mark.parametrize("size", [(60, 75), (32, 41), (33, 32)])
def test_count_averaged_windows_are_those_of_mmsegmentation(size: tuple[int, int]) -> None:
    raw = image((1, *size))
    windows = Windows((1, *size), (1, 32, 32), (1, 21, 21))
    found = mean_of(raw, windows, Box((0, 0, 0), (1, *size)))
    assert np.abs(found.numpy() - mmsegmentation(raw, (32, 32), (21, 21))).max() < 1e-6


@pytest.mark.parametrize("size", [(20, 50, 43), (8, 33, 16), (9, 16, 16)])
def test_gaussian_windows_are_those_of_nnunet(size: Zyx) -> None:
    raw = image(size)
    windows = Windows(size, (8, 16, 16), (4, 8, 8), weight="gaussian")
    found = mean_of(raw, windows, Box((0, 0, 0), size))
    assert np.abs(found.numpy() - nnunet(raw, (8, 16, 16))).max() < 1e-6


@given(
    st.tuples(st.integers(1, 9), st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(1, 4), st.integers(1, 16), st.integers(1, 16)),
    st.sampled_from(["count", "gaussian"]),
    st.data(),
)
@settings(deadline=None, max_examples=25)
def test_every_cut_of_a_volume_gives_the_same_bits(
    shape: Zyx, size: Zyx, weight: Weight, data: st.DataObject
) -> None:
    z, y, x = (data.draw(st.integers(-(-n // 3), n)) for n in size)
    fitted = (max(shape[0], size[0]), max(shape[1], size[1]), max(shape[2], size[2]))
    windows = Windows(fitted, size, (z, y, x), weight=weight)
    raw = image(fitted)
    whole = mean_of(raw, windows, Box((0, 0, 0), fitted))
    block = data.draw(st.tuples(st.integers(3, 9), st.integers(9, 40), st.integers(9, 40)))
    for core in split(fitted, block=block):
        part = mean_of(raw, windows, core)
        assert torch.equal(part, whole[(..., *core.slices)])


def test_batches_of_windows_are_all_of_one_size() -> None:
    raw = image((1, 40, 40))
    windows = Windows((1, 40, 40), (1, 16, 16), (1, 12, 12))
    core = Box((0, 0, 0), (1, 40, 40))
    given_sizes = []

    def noted(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def run(x: Tensor) -> Tensor:
            given_sizes.append(len(x))
            return function(x)

        return run

    found = mean_over_windows(
        Windowed(core, windows), torch.from_numpy(raw), noted(values), batch=4
    )
    assert given_sizes == [4, 4, 4]
    assert torch.allclose(found, mean_of(raw, windows, core), atol=1e-6)


def test_a_constant_stays_the_same() -> None:
    windows = Windows((5, 40, 40), (2, 16, 16), (1, 5, 7), weight="gaussian")
    core = Box((1, 3, 5), (4, 40, 31))
    seen = torch.full((1, *Windowed(core, windows).read.shape), 0.625)
    found = mean_over_windows(Windowed(core, windows), seen, lambda x: x.clone(), batch=1)
    assert found.shape == (1, 3, 37, 26)
    assert (found - 0.625).abs().max() < 1e-6


@given(st.integers(1, 70), st.integers(1, 24), st.sampled_from(["count", "gaussian"]), st.data())
@settings(deadline=None, max_examples=40)
def test_totals_are_the_sums_of_the_weights_of_all_windows(
    length: int, size: int, weight: Weight, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(1, size))
    windows = Windows((1, 1, length), (1, 1, size), (1, 1, stride), weight=weight)
    total = np.zeros(max(length, size))
    for _, _, a in itertools.product(*windows.starts):
        total[a : a + size] += weights_of(windows)[2]
    start = data.draw(st.integers(0, length - 1))
    found = totals_of(windows, Box((0, 0, start), (1, 1, length)))
    assert np.allclose(found[2], total[start:length], rtol=1e-6)
    assert found[0].tolist() == [1.0]


@pytest.mark.parametrize("size", [8, 15, 64, 128])
def test_the_gaussian_is_that_of_a_point_blurred_by_an_eighth(size: int) -> None:
    point = np.zeros((size, 8, size))
    point[size // 2, 4, size // 2] = 1
    blurred = gaussian_filter(point, [size / 8, 1, size / 8], mode="constant", cval=0)
    blurred /= blurred.max()
    one, small = weights_along(size, "gaussian"), weights_along(8, "gaussian")
    made = one[:, None, None] * small[:, None] * one
    assert made.max() == 1
    assert made.min() > 0
    assert np.allclose(made, blurred, rtol=1e-5, atol=0)
