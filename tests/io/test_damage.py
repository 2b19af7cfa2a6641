"""Files that are damaged, lost, cut off or shut: told by place, never taken for voxels."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.io.test_arrays import shards
from unet_core.errors import AccessError, DamageError, StoreError
from unet_core.geometry import Box, blocks
from unet_core.io import transfer
from unet_core.io.arrays import (
    create_array,
    open_level,
    read,
    read_mirrored,
    stored,
    write_block,
)


def noise(store: Path, codec: str = "zstd") -> tuple[Any, np.ndarray, Path]:
    """An array of eight shards of eight chunks, what it holds, and the file of its last shard."""
    values = np.random.default_rng(0).integers(1, 255, (1, 16, 16, 16)).astype("uint8")
    array = create_array(
        store, "0", shape=values.shape, dtype="uint8", chunk=(4, 4, 4), shard=(8, 8, 8), codec=codec
    )
    for block in blocks((16, 16, 16), block=(8, 8, 8)):
        write_block(array, block.write, values[(..., *block.write.slices)])
    return array, values, store / "0" / "c" / "0" / "1" / "1" / "1"


@pytest.mark.parametrize("codec", ["zstd", "lz4", "none"])
@given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_a_flipped_bit_is_never_taken_for_voxels(
    tmp_path_factory: pytest.TempPathFactory, codec: str, place: int, bit: int
) -> None:
    array, _, file = noise(tmp_path_factory.mktemp("flip"), codec)
    data = bytearray(file.read_bytes())
    data[place % len(data)] ^= 1 << bit
    file.write_bytes(data)
    with pytest.raises(DamageError, match="damaged"):
        read(array, Box((8, 8, 8), (16, 16, 16)))


def test_damage_is_told_by_file_and_voxels_and_harms_no_other_chunk(tmp_path: Path) -> None:
    array, values, file = noise(tmp_path)
    data = bytearray(file.read_bytes())
    data[3] ^= 1
    file.write_bytes(data)
    with pytest.raises(
        DamageError, match=r"0/c/0/1/1/1: .*\(0, 8, 8, 8\)\.\.\(1, 12, 12, 12\).*rerun"
    ):
        read_mirrored(array, Box((7, 7, 7), (17, 17, 17)))
    box = Box((12, 12, 12), (16, 16, 16))
    assert np.array_equal(read(array, box), values[(..., *box.slices)])


@pytest.mark.parametrize("left", [0, 3, 60, -1])
def test_a_shard_that_was_cut_off_is_refused(tmp_path: Path, left: int) -> None:
    array, _, file = noise(tmp_path)
    file.write_bytes(file.read_bytes()[:left])
    with pytest.raises(DamageError, match="cut off or damaged"):
        read(array, Box((8, 8, 8), (9, 9, 9)))


@pytest.mark.parametrize("place", [0, -1])
def test_a_damaged_shard_is_mended_by_writing_it_again(tmp_path: Path, place: int) -> None:
    """Also one that reaches beyond the volume's edge."""
    values = np.random.default_rng(0).integers(1, 255, (12, 10, 9)).astype("uint8")
    array = create_array(
        tmp_path, "0", shape=values.shape, dtype="uint8", chunk=(4, 4, 4), shard=(8, 8, 8)
    )
    for block in blocks(values.shape, block=(8, 8, 8)):
        write_block(array, block.write, values[block.write.slices])
    whole = shards(tmp_path / "0")
    for block in blocks(values.shape, block=(8, 8, 8)):
        file = tmp_path / "0" / "c" / "/".join(str(a // 8) for a in block.write.start)
        data = bytearray(file.read_bytes())
        data[place] ^= 1
        file.write_bytes(data)
        write_block(array, block.write, values[block.write.slices])
    assert shards(tmp_path / "0") == whole


def test_a_lost_shard_is_not_taken_for_zeros_but_a_shard_of_zeros_is(tmp_path: Path) -> None:
    array, _, file = noise(tmp_path)
    box = Box((8, 8, 8), (16, 16, 16))
    write_block(array, box, np.zeros((1, 8, 8, 8), "uint8"))
    assert not read(array, box).any()
    file.unlink()
    with pytest.raises(StoreError, match="is lost"):
        read(array, box)


def test_a_file_that_cannot_be_read_is_tried_again_and_told(tmp_path: Path) -> None:
    array, _, file = noise(tmp_path)
    file.unlink()
    file.symlink_to(file)
    with pytest.raises(AccessError, match=r"0/c/0/1/1/1.*symbolic.*start the job again") as told:
        read(array, Box((8, 8, 8), (9, 9, 9)))
    assert told.value.errno == errno.ELOOP
    assert issubclass(AccessError, OSError)


def test_a_file_that_cannot_be_written_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    array, _, file = noise(tmp_path)
    file.unlink()
    file.mkdir()
    with pytest.raises(
        AccessError, match=r"cannot write .*0/c/0/1/1/1.*start the job again"
    ) as told:
        write_block(array, Box((8, 8, 8), (16, 16, 16)), np.ones((1, 8, 8, 8), "uint8"))
    assert told.value.errno == errno.EISDIR
    assert {path.name for path in (tmp_path / "0").rglob("*")} <= {"zarr.json", "c", "0", "1"}


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("RESOURCE_EXHAUSTED: Error decoding shard index", AccessError),
        ("CANCELLED: x", AccessError),
        ("INTERNAL: x", AccessError),
        ("INTERNAL: Error decoding chunk", DamageError),
        ("INVALID_ARGUMENT: x", DamageError),
        ("DATA_LOSS: x", DamageError),
    ],
)
def test_who_is_told_to_delete_a_store_has_a_damaged_one(
    tmp_path: Path, code: str, kind: type[StoreError]
) -> None:
    array, _, _ = noise(tmp_path)
    assert type(transfer._unread(stored(array), code, (0, 0, 0, 0), (1, 4, 4, 4))) is kind


def test_metadata_that_is_none_is_refused(tmp_path: Path) -> None:
    noise(tmp_path)
    (tmp_path / "0" / "zarr.json").write_text("{")
    with pytest.raises(StoreError, match=r"not the metadata of an array"):
        open_level(tmp_path)


WRITER = """
import sys
from pathlib import Path
import numpy as np
from unet_core.geometry import Box
from unet_core.io.arrays import open_level, write_block

array = open_level(Path(sys.argv[1]), mode="r+")
print("ready", flush=True)
while True:
    for value in (1, 2):
        write_block(array, Box((0, 0, 0), (8, 512, 512)), np.full((8, 512, 512), value, "uint8"))
"""


def test_a_write_that_is_killed_leaves_the_shard_whole(tmp_path: Path) -> None:
    array = create_array(
        tmp_path,
        "0",
        shape=(8, 512, 512),
        dtype="uint8",
        chunk=(8, 16, 16),
        shard=(8, 512, 512),
    )
    box = Box((0, 0, 0), (8, 512, 512))
    write_block(array, box, np.full((8, 512, 512), 1, "uint8"))
    for round_ in range(4):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(0.02 + 0.01 * round_)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        assert len(np.unique(read(array, box))) == 1
    left = {path.name for path in (tmp_path / "0" / "c").rglob("*") if path.is_file()} - {"0"}
    assert all(name.endswith(".__lock") for name in left)  # `ledger` removes these
