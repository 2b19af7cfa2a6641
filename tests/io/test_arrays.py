import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
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
    array[...] = 1
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


DTYPES = ["uint8", "uint16", "uint32", "uint64", "int16", "float16", "float32", "bool"]


@st.composite
def volumes(draw: st.DrawFn) -> tuple[np.ndarray, dict[str, Any]]:
    """Values of any rank and type in use, part of them zeros, and how they are stored."""
    shape = (*draw(st.lists(st.integers(1, 3), max_size=2)), *draw(zyx(1, 12)))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    values = (rng.random(shape) * draw(st.sampled_from([1, 300, 1e6]))).astype("float64")
    values *= rng.random(shape[-3:]) < draw(st.sampled_from([0.0, 0.01, 1.0]))
    dtype = draw(st.sampled_from(DTYPES))
    chunk = draw(zyx(1, 5))
    return np.clip(values, 0, 200).astype(dtype), {
        "shape": shape,
        "dtype": dtype,
        "chunk": chunk,
        "shard": tuple(c * draw(st.integers(1, 3)) for c in chunk),
        "codec": draw(st.sampled_from(["zstd", "lz4", "none"])),
    }


@given(volume=volumes())
def test_zarr_reads_what_is_written_and_what_zarr_writes_is_read(
    tmp_path_factory: pytest.TempPathFactory, volume: tuple[np.ndarray, dict[str, Any]]
) -> None:
    values, cut = volume
    store = tmp_path_factory.mktemp("both")
    ours, theirs = create_array(store, "0", **cut), create_array(store, "1", **cut)
    for block in blocks(values.shape[-3:], block=shard_of(ours)):
        write_block(ours, block.write, values[(..., *block.write.slices)])
    theirs[...] = values
    whole = Box((0, 0, 0), values.shape[-3:])
    assert np.array_equal(zarr.open_array(store / "0", mode="r")[...], values)
    assert np.array_equal(read(theirs, whole), values)
    assert np.array_equal(read(ours, whole), values)
    assert read(ours, whole).dtype == values.dtype
    if values.ndim > 3:
        last = values.shape[-4] - 1
        assert np.array_equal(read(ours, whole, channel=last), values[..., last, :, :, :])


@given(volume=volumes())
@settings(max_examples=10)
def test_equal_voxels_make_equal_files(
    tmp_path_factory: pytest.TempPathFactory, volume: tuple[np.ndarray, dict[str, Any]]
) -> None:
    values, cut = volume
    store = tmp_path_factory.mktemp("bytes")
    files = []
    for name in ("0", "1"):
        array = create_array(store, name, **cut)
        plan = blocks(values.shape[-3:], block=shard_of(array))
        for block in plan if name == "0" else reversed(plan):
            write_block(array, block.write, values[(..., *block.write.slices)])
        files.append(shards(store / name))
    assert files[0] == files[1]


def shards(array: Path) -> dict[str, bytes]:
    files = [path for path in (array / "c").rglob("*") if path.is_file()]
    return {str(path.relative_to(array)): path.read_bytes() for path in files}


def test_a_shard_that_other_programs_left_out_is_of_zeros(tmp_path: Path) -> None:
    zarr.create_array(
        tmp_path / "0", shape=(8, 8, 8), dtype="uint8", chunks=(4, 4, 4), shards=(8, 8, 8)
    )
    assert not read(open_level(tmp_path), Box((0, 0, 0), (8, 8, 8))).any()


def test_arrays_that_other_programs_cut_are_read(tmp_path: Path) -> None:
    values = np.arange(512, dtype=">u2").reshape(8, 8, 8)
    plain = {"shape": (8, 8, 8), "dtype": "uint16", "chunks": (4, 4, 4)}
    zarr.create_array(tmp_path / "0", **plain)[...] = values
    zarr.create_array(tmp_path / "1", **plain, zarr_format=2)[...] = values
    zarr.create_array(tmp_path / "2", **plain, shards=(8, 8, 8), fill_value=7)[...] = values
    for level in range(3):
        assert np.array_equal(read(open_level(tmp_path, level), Box((0, 0, 0), (8, 8, 8))), values)


def test_threads_that_work_are_few_however_many_ask(tmp_path: Path) -> None:
    code = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import numpy as np
from unet_core.geometry import Box
from unet_core.io.arrays import create_array, read, write_block

box = Box((0, 0, 0), (32, 128, 128))
cut = {"chunk": (4, 16, 16), "shard": box.shape, "shape": box.shape, "dtype": "uint8"}
arrays = [create_array(Path(sys.argv[1]), str(i), **cut) for i in range(4)]

def both(array):
    for _ in range(5):
        write_block(array, box, np.ones(box.shape, "uint8"))
        read(array, box)

with ThreadPoolExecutor(4) as pool:
    list(pool.map(both, arrays))
names = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
print(sum(name.startswith("ts_pool") for name in names))
"""
    run = [sys.executable, "-c", code, str(tmp_path)]
    threads = int(subprocess.run(run, capture_output=True, text=True, check=True).stdout)
    assert 1 <= threads <= 6  # of reading and of writing: one computes, one waits for the disk


@pytest.mark.parametrize("first", [1, 230, 70_000])
def test_labels_are_a_fiftieth_of_their_voxels_on_disk_whatever_their_numbers(
    tmp_path: Path, first: int
) -> None:
    rng = np.random.default_rng(0)
    centres, (y, x) = rng.uniform(0, 256, (50, 2)), np.mgrid[:256, :256]
    sections = []
    for _ in range(8):
        centres += rng.normal(0, 2, centres.shape)
        far = (y[..., None] - centres[:, 0]) ** 2 + (x[..., None] - centres[:, 1]) ** 2
        sections.append(far.argmin(axis=-1) + first)
    labels = np.stack(sections).astype(np.uint64)
    cut: dict[str, Any] = {"chunk": (8, 128, 128), "shard": (8, 256, 256)}
    array = create_array(tmp_path, "0", shape=labels.shape, dtype="uint64", **cut)
    write_block(array, Box((0, 0, 0), (8, 256, 256)), labels)
    (file,) = (path for path in (tmp_path / "0" / "c").rglob("*") if path.is_file())
    assert file.stat().st_size < labels.nbytes / 50
