"""Copies to and from the device; on a CPU there are none."""

import numpy as np
import pytest
import torch

from unet_core.net.transfers import Transfers


def test_on_a_cpu_nothing_is_copied_and_nothing_waited_for() -> None:
    transfers, values = Transfers(torch.device("cpu")), np.arange(12, dtype=np.uint16).reshape(3, 4)
    sent = transfers.sent(values)
    assert sent.data_ptr() == values.ctypes.data
    (fetched,), event = transfers.fetched([sent])
    assert event is None
    assert fetched is sent


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_tiles_under_way_on_a_gpu_come_back_as_they_were_sent() -> None:
    transfers = Transfers(torch.device("cuda", 0))
    rng = np.random.default_rng(0)
    tiles = [rng.integers(0, 255, (16, 512, 512 + n)).astype(np.uint8) for n in range(9)]
    back = [transfers.fetched([transfers.sent(tile).float().add_(1)]) for tile in tiles]
    for tile, ((result,), event) in zip(tiles, back, strict=True):
        assert event is not None
        event.synchronize()
        assert np.array_equal(result.numpy(), tile.astype(np.float32) + 1)
