import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from unet_core.errors import AccessError, StoreError
from unet_core.geometry import Box, blocks
from unet_core.io.arrays import create_array, open_level, read, read_mirrored, write_block
from unet_core.io.cache import Cache
from unet_core.io.ledger import building
from unet_core.io.ngff import attributes_of, content_of, multiscale, voxel_size_of
from unet_core.io.remote import Url, location

SERVER = Path(__file__).parents[2] / "benchmarks" / "slow_store.py"
VALUES = np.random.default_rng(0).integers(0, 255, (1, 12, 40, 40)).astype("uint8")
VALUES[:, :, :8, :8] = 0


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("served")
    raw = folder / "bucket" / "raw.ome.zarr"
    with building(raw, stage="convert", settings={}, inputs={}) as build:
        array = create_array(
            raw, "0", shape=VALUES.shape, dtype="uint8", chunk=(4, 8, 8), shard=(8, 16, 16)
        )
        for block in blocks(VALUES.shape[-3:], block=(8, 16, 16)):
            digest = write_block(array, block.write, VALUES[(..., *block.write.slices)])
            build.tick("convert", block.name, digest=digest, note=None)
        build.publish(ome=multiscale("raw", axes="czyx", voxel_size_nm=(50, 4, 4)), unet={})
    command = [sys.executable, str(SERVER), str(folder), "--latency-ms", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip(), folder
        server.kill()


@pytest.fixture(params=["s3", "http"])
def raw(
    served: tuple[str, Path], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Url:
    monkeypatch.setenv("AWS_ENDPOINT_URL", served[0])
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    root = "s3:/" if request.param == "s3" else served[0]
    found = location(f"{root}/bucket/raw.ome.zarr/zarr.json")
    assert isinstance(found, Url)
    return found


def test_a_store_at_an_address_is_read_as_one_in_a_folder(
    raw: Url, served: tuple[str, Path]
) -> None:
    folder = served[1] / "bucket" / "raw.ome.zarr"
    near, far = open_level(folder), open_level(raw)
    assert attributes_of(raw) == attributes_of(folder)
    assert content_of(raw) == content_of(folder)
    assert voxel_size_of(raw) == (50, 4, 4)
    box = Box((-3, 5, -9), (9, 39, 50))
    assert np.array_equal(read_mirrored(far, box), read_mirrored(near, box))
    cache = Cache(far, most_bytes=10**6)
    assert np.array_equal(cache.read_mirrored(box), read_mirrored(near, box))


def test_what_is_lost_or_damaged_there_is_told(raw: Url, served: tuple[str, Path]) -> None:
    file = served[1] / "bucket" / "raw.ome.zarr" / "0" / "c" / "0" / "0" / "1" / "1"
    whole, box = file.read_bytes(), Box((0, 16, 16), (8, 32, 32))
    try:
        file.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
        with pytest.raises(StoreError, match="damaged"):
            read(open_level(raw), box)
        file.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(StoreError, match="cut off"):
            read(open_level(raw), box)
        file.unlink()
        with pytest.raises(StoreError, match="lost"):
            read(open_level(raw), box)
    finally:
        file.write_bytes(whole)


def test_an_absent_store_is_refused(raw: Url) -> None:
    other = Url(f"{raw}.other")
    with pytest.raises(StoreError, match="does not exist"):
        attributes_of(other)
    with pytest.raises(StoreError, match="has no array"):
        open_level(other)


def test_an_address_is_not_written(raw: Url) -> None:
    with pytest.raises(StoreError, match="not written"):
        open_level(raw, mode="r+")


def test_an_address_of_no_store_is_refused_with_the_way_out() -> None:
    with pytest.raises(AccessError, match="address"):
        open_level(Url("nowhere://bucket/raw.ome.zarr"))


def test_paths_are_told_from_addresses() -> None:
    assert location("out/raw.ome.zarr/zarr.json") == Path("out/raw.ome.zarr")
    assert location("s3://bucket/raw.ome.zarr/") == Url("s3://bucket/raw.ome.zarr")
    assert Url("s3://bucket/raw.ome.zarr").name == "raw.ome.zarr"
