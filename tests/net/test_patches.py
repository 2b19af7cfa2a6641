"""Which patches a step sees, and what it sees of them."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_core.config import NetworkConfig
from unet_core.net.patches import Bank, drawn, read_ahead, read_batch


@given(patches=st.integers(1, 30), batch=st.integers(1, 7), seed=st.integers(0, 9))
@settings(deadline=None, max_examples=30)
def test_every_epoch_shows_every_patch_once(patches: int, batch: int, seed: int) -> None:
    steps = 3 * patches  # whole epochs, whatever the batch
    seen = [i for step in range(steps) for i in drawn(seed, step, batch=batch, patches=patches)]
    for epoch in range(3 * batch):
        assert sorted(seen[epoch * patches : (epoch + 1) * patches]) == list(range(patches))


def test_the_order_differs_between_epochs_and_seeds() -> None:
    first, second = ([drawn(0, e * 50 + i, batch=1, patches=50) for i in range(50)] for e in (0, 1))
    other = [drawn(1, i, batch=1, patches=50) for i in range(50)]
    assert first != second != other != first


def bank(z: int, size: int) -> Bank:
    rng = np.random.default_rng(0)
    return Bank(
        raw=rng.normal(size=(3, 2, z, size, size)).astype(np.float16),
        target=rng.integers(0, 2, (3, z, size, size)).astype(np.uint8),
        border=rng.random((3, z, size, size)).astype(np.float16),
    )


def test_a_2d_batch_has_no_z_and_its_target_is_the_centre() -> None:
    model = NetworkConfig(depth=1, channels=2)
    patches = bank(1, 20)
    batch = read_batch(patches, [2, 0], model, pin=False)
    assert batch.raw.shape == (2, 2, 20, 20)
    assert batch.target.shape == batch.border.shape == (2, 4, 4)
    np.testing.assert_array_equal(batch.target[0], patches.target[2][0, 8:12, 8:12])
    np.testing.assert_array_equal(batch.border[1], patches.border[0][0, 8:12, 8:12])
    np.testing.assert_array_equal(batch.raw[0, 1], patches.raw[2][1, 0].astype(np.float32))


def test_a_3d_batch_is_cropped_along_z_too() -> None:
    model = NetworkConfig(dimensions=3, depth=1, channels=2)
    patches = bank(20, 20)
    batch = read_batch(patches, [1], model, pin=False)
    assert batch.raw.shape == (1, 2, 20, 20, 20)
    np.testing.assert_array_equal(batch.target[0], patches.target[1][8:12, 8:12, 8:12])


def test_sections_of_a_2d_batch_are_inputs_channel_by_channel_and_the_target_is_the_middle() -> (
    None
):
    model = NetworkConfig(depth=1, channels=2, sections=3)
    patches = bank(3, 20)
    batch = read_batch(patches, [2, 0], model, pin=False)
    assert batch.raw.shape == (2, 6, 20, 20)
    for channel in range(2):
        for section in range(3):
            expected = patches.raw[2][channel, section].astype(np.float32)
            np.testing.assert_array_equal(batch.raw[0, 3 * channel + section], expected)
    np.testing.assert_array_equal(batch.target[1], patches.target[0][1, 8:12, 8:12])
    np.testing.assert_array_equal(batch.border[0], patches.border[2][1, 8:12, 8:12])


def test_reading_ahead_keeps_the_order_and_stays_few_steps_ahead() -> None:
    read: list[int] = []

    def slow(step: int) -> int:
        read.append(step)
        return step * step

    got = []
    for value in read_ahead(slow, range(3, 20), ahead=2):
        got.append(value)
        assert len(read) <= len(got) + 3
        time.sleep(0.001)
    assert got == [step * step for step in range(3, 20)]


def test_a_failure_of_the_reader_reaches_the_caller() -> None:
    def fail(step: int) -> int:
        if step == 5:
            raise OSError("disk gone")
        return step

    with pytest.raises(OSError, match="disk gone"):
        list(read_ahead(fail, range(10)))
