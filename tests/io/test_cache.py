import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import zyx
from unet_core.geometry import Box, Zyx
from unet_core.io.arrays import ZarrArray, create_array, read_mirrored
from unet_core.io.cache import Cache, rectangles


def boxes(low: int = -12, high: int = 20, most: int = 16) -> st.SearchStrategy[Box]:
    return st.builds(
        lambda start, size: Box(start, tuple(a + n for a, n in zip(start, size, strict=True))),
        zyx(low, high),
        zyx(1, most),
    )


def filled(store: Path, shape: tuple[int, ...], chunk: Zyx, shard: Zyx) -> ZarrArray:
    array = create_array(store, "0", shape=shape, dtype="uint16", chunk=chunk, shard=shard)
    array[...] = np.arange(np.prod(shape), dtype="uint16").reshape(shape)
    return array


@given(
    shape=zyx(1, 14),
    channels=st.integers(0, 2),
    chunk=zyx(1, 6),
    per_shard=zyx(1, 3),
    wanted=st.lists(boxes(), min_size=1, max_size=6),
    most_bytes=st.integers(0, 3000),
)
def test_what_is_read_through_a_cache_is_what_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    shape: Zyx,
    channels: int,
    chunk: Zyx,
    per_shard: Zyx,
    wanted: list[Box],
    most_bytes: int,
) -> None:
    shard = tuple(c * n for c, n in zip(chunk, per_shard, strict=True))
    whole = (channels, *shape) if channels else shape
    array = filled(tmp_path_factory.mktemp("cache"), whole, chunk, shard)
    cache = Cache(array, most_bytes=most_bytes)
    for box in wanted:
        assert np.array_equal(cache.read_mirrored(box), read_mirrored(array, box))
        assert cache.kept_bytes <= most_bytes


@given(cells=st.sets(zyx(0, 4), max_size=60))
def test_rectangles_hold_every_missing_cell_once(cells: set[Zyx]) -> None:
    held = [
        (z, y, x)
        for first, last in rectangles(cells)
        for z in range(first[0], last[0] + 1)
        for y in range(first[1], last[1] + 1)
        for x in range(first[2], last[2] + 1)
    ]
    assert len(held) == len(set(held))
    assert set(held) == cells


def test_a_full_grid_is_one_rectangle() -> None:
    grid = [(z, y, x) for z in range(2, 5) for y in range(3) for x in range(4)]
    assert rectangles(grid) == [((2, 0, 0), (4, 2, 3))]


def test_a_chunk_is_decoded_once_while_it_is_kept(tmp_path: Path) -> None:
    array = filled(tmp_path, (8, 8, 8), (4, 4, 4), (8, 8, 8))
    cache = Cache(array, most_bytes=8**3 * 2)
    for start in [(0, 0, 0), (1, 1, 1), (4, 4, 4)]:
        cache.read(Box(start, tuple(a + 4 for a in start)))
    assert cache.decoded_bytes == 8**3 * 2
    assert cache.needed_bytes == 3 * 4**3 * 2


def test_threads_that_ask_at_once_decode_a_chunk_once(tmp_path: Path) -> None:
    array = filled(tmp_path, (8, 8, 8), (4, 4, 4), (8, 8, 8))
    cache = Cache(array, most_bytes=8**3 * 2)
    box, start = Box((0, 0, 0), (8, 8, 8)), threading.Barrier(4)
    results = []

    def ask() -> None:
        start.wait()
        results.append(cache.read_mirrored(box.grow((2, 2, 2))))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = read_mirrored(array, box.grow((2, 2, 2)))
    assert len(results) == 4
    assert all(np.array_equal(result, expected) for result in results)
    assert cache.decoded_bytes == 8**3 * 2
