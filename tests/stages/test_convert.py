import json
import logging
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import mrcfile
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from unet_core.config import ConvertConfig, Resources, TruthConfig, VolumeConfig
from unet_core.errors import BlockError, ConfigError, RawFormatError
from unet_core.io.arrays import open_level
from unet_core.io.ngff import attributes_of, content_of, voxel_size_of
from unet_core.io.readers.raw import RawVolume
from unet_core.io.readers.source import band_of
from unet_core.stages.convert import convert_volume

ONE = Resources(threads=1)
SIZE = VolumeConfig(voxel_size_nm=(50.0, 4.0, 4.0))
SMALL = ConvertConfig(chunk=(2, 8, 8), shard=(4, 16, 16), smallest_level_px=10)
CUTS = [
    SMALL,
    ConvertConfig(chunk=(1, 16, 4), shard=(2, 16, 20), smallest_level_px=10, codec="lz4"),
    ConvertConfig(chunk=(64, 64, 64), shard=(64, 64, 64), smallest_level_px=10, codec="none"),
]


def values(*shape: int, dtype: str = "uint8", seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.normal(size=shape).astype(dtype)
    return rng.integers(0, 120, shape).astype(dtype)


def convert(
    raw: Path | str,
    out: Path,
    config: ConvertConfig = SMALL,
    *,
    volume: VolumeConfig = SIZE,
    truth: TruthConfig | None = None,
    resources: Resources = ONE,
) -> Path:
    convert_volume(config, volume=volume, truth=truth, raw=str(raw), out=out, resources=resources)
    return out


def stack(tmp_path: Path, data: np.ndarray, name: str = "a.tif") -> Path:
    tifffile.imwrite(tmp_path / name, data, photometric="minisblack", compression="zlib")
    return tmp_path / name


def unet(store: Path) -> dict[str, Any]:
    found: dict[str, Any] = attributes_of(store)["unet"]
    return found


def levels(store: Path) -> list[np.ndarray]:
    paths = sorted(path for path in store.iterdir() if path.is_dir())
    return [open_level(store, path.name)[...] for path in paths]


def files_of(store: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(store)): path.read_bytes()
        for path in store.rglob("*")
        if path.is_file()
    }


def write_tiff(path: Path, data: np.ndarray) -> str:
    tifffile.imwrite(path / "a.tif", data, photometric="minisblack")
    return str(path / "a.tif")


def write_hdf5(path: Path, data: np.ndarray) -> str:
    with h5py.File(path / "a.h5", "w") as file:
        file["raw"] = data
    return str(path / "a.h5::raw")


def write_mrc(path: Path, data: np.ndarray) -> str:
    with mrcfile.new(path / "a.mrc") as file:
        file.set_data(data)
    return str(path / "a.mrc")


def write_zarr(path: Path, data: np.ndarray) -> str:
    zarr.create_array(str(path / "a.zarr"), data=data, chunks=(3, 9, 9))
    return str(path / "a.zarr")


def write_series(path: Path, data: np.ndarray) -> str:
    for number, section in enumerate(data):
        Image.fromarray(section).save(path / f"{number}.png")
    return str(path / "*.png")


@pytest.mark.parametrize("write", [write_tiff, write_hdf5, write_mrc, write_zarr, write_series])
def test_every_format_becomes_the_same_store(tmp_path: Path, write: Any) -> None:
    data = values(5, 21, 34, dtype="uint16")
    out = convert(write(tmp_path, data), tmp_path / "raw.ome.zarr")
    np.testing.assert_array_equal(open_level(out)[0], data)
    assert open_level(out).dtype == np.uint16
    assert open_level(out, 1).shape == (1, 5, 11, 17)
    assert voxel_size_of(out) == (50, 4, 4)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_shards_show_in_neither_voxels_nor_statistics_nor_pyramid(
    tmp_path: Path, dtype: str
) -> None:
    data = values(5, 31, 22, dtype=dtype)
    raw = stack(tmp_path, data)
    found = [convert(raw, tmp_path / f"{n}.ome.zarr", cut) for n, cut in enumerate(CUTS)]
    for other in found[1:]:
        assert unet(other) == unet(found[0])
        for one, two in zip(levels(found[0]), levels(other), strict=True):
            np.testing.assert_array_equal(one, two)
    statistics = unet(found[0])["statistics"]
    assert len(statistics) == 1
    assert statistics[0]["count"] == data.size
    assert statistics[0]["mean"] == pytest.approx(data.mean(dtype=np.float64))
    assert statistics[0]["sd"] == pytest.approx(data.std(dtype=np.float64))
    assert (statistics[0]["min"], statistics[0]["max"]) == (data.min(), data.max())
    assert statistics[0]["percentiles"][500] == pytest.approx(np.median(data), abs=1e-3)


def test_colours_stay_channels(tmp_path: Path) -> None:
    data = values(21, 34, 3)
    Image.fromarray(data).save(tmp_path / "a.png")
    out = convert(tmp_path / "a.png", tmp_path / "raw.ome.zarr")
    np.testing.assert_array_equal(open_level(out)[:, 0], np.moveaxis(data, -1, 0))
    means = [channel["mean"] for channel in unet(out)["statistics"]]
    assert means == pytest.approx(data.mean((0, 1)).tolist())
    with pytest.raises(RawFormatError, match="3 channels"):
        convert(tmp_path / "a.png", tmp_path / "t.ome.zarr", truth=TruthConfig())


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [("bool", "uint8"), ("int8", "int16"), ("float64", "float32"), ("float32", "float32")],
)
def test_number_types_are_kept_or_widened(tmp_path: Path, dtype: str, stored: str) -> None:
    data = values(3, 9, 9).astype(dtype)
    out = convert(write_hdf5(tmp_path, data), tmp_path / "raw.ome.zarr")
    assert open_level(out).dtype == stored
    np.testing.assert_array_equal(open_level(out)[0], data)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 40, 3), (9, 1, 40)])
def test_empty_and_tiny_volumes_work(
    tmp_path: Path, shape: tuple[int, int, int], dtype: str
) -> None:
    raw = write_hdf5(tmp_path, np.zeros(shape, dtype))
    out = convert(raw, tmp_path / "raw.ome.zarr")
    assert open_level(out).shape == (1, *shape)
    assert unet(out)["statistics"][0]["sd"] == 0


def test_a_range_of_sections_begins_where_it_was_asked_to(tmp_path: Path) -> None:
    data = values(9, 21, 34)
    raw = stack(tmp_path, data)
    out = convert(raw, tmp_path / "raw.ome.zarr", volume=VolumeConfig(sections=(2, 7)))
    np.testing.assert_array_equal(open_level(out)[0], data[2:7])
    with pytest.raises(ConfigError, match=r"2:10 .* has 9"):
        convert(raw, tmp_path / "b.ome.zarr", volume=VolumeConfig(sections=(2, 10)))


def test_the_sheet_knows_voxels_better_than_the_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    raw = tmp_path / "a.tif"
    about = {"spacing": 0.05, "unit": "um"}
    tifffile.imwrite(raw, values(5, 9, 9), imagej=True, resolution=(250, 250), metadata=about)
    of_file = convert(raw, tmp_path / "a.ome.zarr", volume=VolumeConfig())
    assert voxel_size_of(of_file) == pytest.approx((50, 4, 4))
    assert unet(of_file)["voxel_size_from"] == "file"
    of_sheet = convert(raw, tmp_path / "b.ome.zarr", volume=VolumeConfig(voxel_size_nm=(40, 5, 5)))
    assert voxel_size_of(of_sheet) == (40, 5, 5)
    raw = stack(tmp_path, values(5, 9, 9), "plain.tif")
    of_nobody = convert(raw, tmp_path / "c.ome.zarr", volume=VolumeConfig())
    assert voxel_size_of(of_nobody) == (1, 1, 1)
    assert "set voxel_size_nm in the volume sheet" in caplog.text


def test_damage_fails_its_block_and_keeps_the_others(tmp_path: Path) -> None:
    raw = stack(tmp_path, values(12, 21, 34))
    sound = raw.read_bytes()
    with tifffile.TiffFile(raw) as file:
        page = file.pages[6]
        offset, count = page.dataoffsets[0], page.databytecounts[0]
    raw.write_bytes(sound[:offset] + b"\x17" * count + sound[offset + count :])
    out = tmp_path / "raw.ome.zarr"
    with pytest.raises(BlockError, match=r"4-0-0.*section 6"):
        convert(raw, out)
    assert not (out / "zarr.json").exists()
    raw.write_bytes(sound)
    np.testing.assert_array_equal(open_level(convert(raw, out))[0], tifffile.imread(raw))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_floats_that_are_no_numbers_are_refused(tmp_path: Path, bad: float) -> None:
    data = values(3, 9, 9, dtype="float32")
    data[1, 1, 1] = bad
    with pytest.raises(BlockError, match="not finite"):
        convert(stack(tmp_path, data), tmp_path / "raw.ome.zarr")


def test_palettes_and_wide_integers_are_refused_before_work_begins(tmp_path: Path) -> None:
    image = Image.fromarray(values(9, 9)).convert("P")
    image.putpalette([255, 0, 0] * 256)
    image.save(tmp_path / "a.png")
    with pytest.raises(RawFormatError, match="palette"):
        convert(tmp_path / "a.png", tmp_path / "raw.ome.zarr")
    convert(tmp_path / "a.png", tmp_path / "t.ome.zarr", truth=TruthConfig())
    with pytest.raises(RawFormatError, match="uint32"):
        convert(stack(tmp_path, values(9, 9, dtype="uint32")), tmp_path / "raw.ome.zarr")
    assert not (tmp_path / "raw.ome.zarr").exists()


def test_a_file_with_other_content_is_converted_anew(tmp_path: Path) -> None:
    out = tmp_path / "raw.ome.zarr"
    contents = set()
    for seed in (0, 1, 0):
        data = values(3, 9, 9, seed=seed)
        np.testing.assert_array_equal(open_level(convert(stack(tmp_path, data), out))[0], data)
        contents.add(content_of(out))
    assert len(contents) == 2


def test_blocks_are_as_wide_as_what_the_file_stores_together() -> None:
    def volume(shape: tuple[int, int, int, int], unit: tuple[int, int, int]) -> RawVolume:
        return RawVolume("a", shape, np.dtype(np.uint8), None, unit, lambda box: np.zeros(0))

    shard = (32, 512, 512)
    sections = volume((1, 100, 4000, 4000), (1, 4000, 4000))
    assert band_of(sections, (100, 4000, 4000), shard) == (32, 2048, 4096)
    large = volume((1, 100, 40000, 40000), (1, 40000, 40000))
    assert band_of(large, (100, 40000, 40000), shard) == (32, 512, 16384)
    strips = volume((1, 100, 4000, 4000), (1, 1, 4000))
    assert band_of(strips, (100, 4000, 4000), shard) == (32, 512, 4096)
    tiles = volume((1, 100, 4000, 4000), (1, 256, 256))
    assert band_of(tiles, (100, 4000, 4000), shard) == shard


def test_workers_do_not_show_in_the_bytes(tmp_path: Path) -> None:
    raw = stack(tmp_path, values(5, 21, 19))
    truth = TruthConfig(kind="binary")
    cut = ConvertConfig(chunk=(2, 8, 8), shard=(2, 32, 32), smallest_level_px=10)
    one = convert(raw, tmp_path / "one" / "t.ome.zarr", cut, truth=truth)
    two = tmp_path / "two" / "t.ome.zarr"
    convert(raw, two, cut, truth=truth, resources=Resources(threads=2))
    assert files_of(one) == files_of(two)


KILLED = """
import os, signal, sys, time
import unet_core.stages.convert as stage
from unet_core.cli import main
plain = stage.{function}
def dies(block, *more, **rest):
    if block.write.start[0] >= 4:
        time.sleep(1)  # for the ledger to be told of the blocks before
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(block, *more, **rest)
stage.{function} = dies
main(sys.argv[1:])
"""


@pytest.mark.parametrize("function", ["copy_block", "write_objects"])
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(
    tmp_path: Path, function: str, caplog: pytest.LogCaptureFixture
) -> None:
    raw = stack(tmp_path, values(5, 21, 19))
    truth = TruthConfig(kind="binary") if function == "write_objects" else None
    whole = convert(raw, tmp_path / "whole" / "a.ome.zarr", truth=truth)
    out = tmp_path / "killed" / "a.ome.zarr"
    config = {
        "convert": {"chunk": SMALL.chunk, "shard": SMALL.shard, "smallest_level_px": 10},
        "volume": {"voxel_size_nm": SIZE.voxel_size_nm},
        "truth": {"kind": "binary"} if truth else None,
    }
    options = ["convert", "--config", json.dumps(config), "--raw", raw, "--out", out]
    died = subprocess.run(
        [sys.executable, "-c", KILLED.format(function=function), *options]
        + (["--truth"] if truth else []),
        capture_output=True,
        check=False,
    )
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    assert not (out / "zarr.json").exists()
    with caplog.at_level(logging.INFO):
        convert(raw, out, truth=truth)
    assert any("resumed" in line and "resumed 0" not in line for line in caplog.messages)
    assert files_of(out) == files_of(whole)
