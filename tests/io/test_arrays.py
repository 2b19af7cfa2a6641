from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import zyx
from unet_core.errors import StoreError
from unet_core.geometry import Box, Zyx, blocks
from unet_core.io.arrays import (
    create_array,
    open_level,
    read,
    read_mirrored,
    shard_of,
    write_block,
)


@given(shape=zyx(1, 9), start=zyx(-25, 10), size=zyx(1, 30))
def test_reading_beyond_the_edge_is_numpys_reflection(
    tmp_path_factory: pytest.TempPathFactory, shape: Zyx, start: Zyx, size: Zyx
) -> None:
    store = tmp_path_factory.mktemp("mirror")
    values = np.arange(np.prod(shape), dtype="uint16").reshape(shape)
    array = create_array(store, "0", shape=shape, dtype="uint16", chunk=(2, 3, 4), shard=(4, 6, 8))
    array[:] = values
    padded = np.pad(values, 40, mode="reflect")
    box = Box(start, tuple(a + n for a, n in zip(start, size, strict=True)))
    assert np.array_equal(read_mirrored(array, box), padded[box.shift((40, 40, 40)).slices])


@pytest.mark.parametrize("codec", ["zstd", "lz4", "none"])
def test_blocks_of_whole_shards_make_the_whole(tmp_path: Path, codec: str) -> None:
    values = np.random.default_rng(0).integers(0, 9, (2, 7, 30, 21)).astype("uint8")
    array = create_array(
        tmp_path,
        "0",
        shape=values.shape,
        dtype="uint8",
        chunk=(2, 8, 8),
        shard=(4, 16, 16),
        codec=codec,
    )
    for block in blocks(values.shape[1:], block=shard_of(array)):
        write_block(array, block.write, values[(..., *block.write.slices)])
    assert np.array_equal(open_level(tmp_path)[:], values)
    files = [path for path in (tmp_path / "0" / "c").rglob("*") if path.is_file()]
    assert len(files) == 2 * 2 * 2


def test_part_of_a_shard_is_refused(tmp_path: Path) -> None:
    array = create_array(
        tmp_path, "0", shape=(8, 8, 8), dtype="uint8", chunk=(2, 2, 2), shard=(4, 4, 4)
    )
    with pytest.raises(StoreError, match="two workers would write one file"):
        write_block(array, Box((0, 0, 0), (4, 4, 2)), np.zeros((4, 4, 2), "uint8"))
    with pytest.raises(StoreError, match="uint8"):
        write_block(array, Box((0, 0, 0), (4, 4, 4)), np.zeros((4, 4, 4), "float32"))


def test_equal_blocks_have_equal_digests_and_others_have_not(tmp_path: Path) -> None:
    array = create_array(
        tmp_path, "0", shape=(2, 2, 2), dtype="uint8", chunk=(2, 2, 2), shard=(2, 2, 2)
    )
    box, data = Box((0, 0, 0), (2, 2, 2)), np.zeros((2, 2, 2), "uint8")
    first = write_block(array, box, data)
    assert write_block(array, box, data.copy()) == first
    assert write_block(array, box, data + 1) != first


def test_a_small_volume_is_not_padded_to_a_large_shard(tmp_path: Path) -> None:
    array = create_array(
        tmp_path, "0", shape=(1, 100, 50), dtype="uint8", chunk=(16, 64, 64), shard=(32, 512, 512)
    )
    assert shard_of(array) == (1, 128, 50)
    assert read(array, Box((0, 99, 49), (1, 100, 50))).shape == (1, 1, 1)


def test_a_missing_level_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="rerun the stage"):
        open_level(tmp_path, 3)


@given(data=st.data())
def test_an_array_is_opened_where_a_run_has_left_it(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    store = tmp_path_factory.mktemp("again")
    shape = data.draw(zyx(1, 5))
    make = {"shape": shape, "dtype": "int16", "chunk": (1, 2, 2), "shard": (1, 2, 2)}
    create_array(store, "0", **make)[:] = 7
    assert (create_array(store, "0", **make)[:] == 7).all()
