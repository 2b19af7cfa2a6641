import pickle
from pathlib import Path

import numpy as np
import pytest
import tifffile

from unet_core.errors import RawFormatError
from unet_core.geometry import Box
from unet_core.io.readers import open_raw
from unet_core.io.readers.raw import RawVolume

RNG = np.random.default_rng(0)


def volume(*shape: int, dtype: str = "uint8") -> np.ndarray:
    return RNG.integers(0, 200, shape).astype(dtype)


def whole(opened: RawVolume) -> np.ndarray:
    return opened.read(Box((0, 0, 0), opened.shape[1:]))


def saved(path: Path, values: np.ndarray, **options: object) -> RawVolume:
    tifffile.imwrite(path, values, **options)
    return open_raw(str(path))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bigtiff": True, "byteorder": ">"},
        {"compression": "lzw"},
        {"compression": "zlib", "predictor": True, "rowsperstrip": 7},
        {"compression": "zstd", "tile": (16, 32)},
        {"tile": (16, 16)},
        {"byteorder": ">", "rowsperstrip": 5, "compression": "packbits"},
        {"metadata": None},
    ],
    ids=str,
)
def test_every_box_of_a_stack_is_what_was_written(
    tmp_path: Path, dtype: str, options: dict[str, object]
) -> None:
    values = volume(5, 37, 53, dtype=dtype)
    opened = saved(tmp_path / "a.tif", values, photometric="minisblack", **options)
    assert opened.shape == (1, 5, 37, 53)
    assert opened.dtype == values.dtype
    assert opened.dtype.isnative
    np.testing.assert_array_equal(whole(opened)[0], values)
    box = Box((1, 6, 15), (4, 36, 34))
    np.testing.assert_array_equal(opened.read(box)[0], values[box.slices])


@pytest.mark.parametrize("shape", [(1, 1, 9, 9), (1, 9, 9), (9, 9), (1, 5, 9, 9)])
def test_axes_of_length_one_do_not_count(tmp_path: Path, shape: tuple[int, ...]) -> None:
    values = volume(*shape)
    for compression in (None, "lzw"):
        options = {"photometric": "minisblack", "compression": compression}
        opened = saved(tmp_path / "a.tif", values, **options)
        np.testing.assert_array_equal(whole(opened)[0], values.reshape(-1, 9, 9))


@pytest.mark.parametrize("compression", [None, "lzw"])
@pytest.mark.parametrize("planar", [False, True])
def test_colours_are_channels_whether_planar_or_not(
    tmp_path: Path, planar: bool, compression: str | None
) -> None:
    values = volume(4, 3, 20, 30)
    written = values if planar else np.moveaxis(values, 1, -1)
    opened = saved(
        tmp_path / "a.tif",
        np.ascontiguousarray(written),
        photometric="rgb",
        planarconfig="separate" if planar else "contig",
        compression=compression,
    )
    np.testing.assert_array_equal(whole(opened), np.moveaxis(values, 1, 0))


@pytest.mark.parametrize("compression", [None, "lzw"])
def test_alpha_is_dropped(tmp_path: Path, compression: str | None) -> None:
    values = volume(20, 30, 4)
    opened = saved(
        tmp_path / "a.tif",
        values,
        photometric="rgb",
        extrasamples=["unassalpha"],
        compression=compression,
    )
    np.testing.assert_array_equal(whole(opened)[:, 0], np.moveaxis(values[:, :, :3], -1, 0))


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_imagej_hyperstacks_have_channels_and_voxel_sizes(
    tmp_path: Path, compression: str | None
) -> None:
    values = volume(4, 2, 20, 30, dtype="uint16")  # z c y x
    opened = saved(
        tmp_path / "a.tif",
        values,
        imagej=True,
        compression=compression,
        resolution=(1 / 0.004, 1 / 0.005),
        metadata={"axes": "ZCYX", "spacing": 0.05, "unit": "um"},
    )
    assert opened.shape == (2, 4, 20, 30)
    np.testing.assert_array_equal(whole(opened), values.swapaxes(0, 1))
    assert opened.voxel_size_nm == pytest.approx((50, 5, 4))


def test_ome_names_axes_and_voxel_sizes(tmp_path: Path) -> None:
    values = volume(2, 4, 20, 30, dtype="uint16")
    about = {"axes": "CZYX", "PhysicalSizeX": 4, "PhysicalSizeXUnit": "nm"}
    about |= {"PhysicalSizeY": 0.005, "PhysicalSizeZ": 0.05, "PhysicalSizeZUnit": "µm"}
    opened = saved(tmp_path / "a.ome.tif", values, ome=True, metadata=about)
    np.testing.assert_array_equal(whole(opened), values)
    assert opened.voxel_size_nm == pytest.approx((50, 5, 4))


def test_one_bit_and_white_is_zero(tmp_path: Path) -> None:
    mask = volume(19, 21) > 100
    np.testing.assert_array_equal(
        whole(saved(tmp_path / "a.tif", mask, photometric="miniswhite"))[0, 0], ~mask
    )
    values = volume(19, 21)
    np.testing.assert_array_equal(
        whole(saved(tmp_path / "b.tif", values, photometric="miniswhite"))[0, 0], 255 - values
    )


def test_resolutions_of_paper_are_no_voxel_sizes(tmp_path: Path) -> None:
    opened = saved(tmp_path / "a.tif", volume(9, 9), resolution=(72, 72), resolutionunit=2)
    assert opened.voxel_size_nm is None


def test_a_palette_keeps_its_numbers_and_says_so(tmp_path: Path) -> None:
    table = np.zeros((3, 256), np.uint16)
    table[0] = 65535
    values = volume(9, 9)
    opened = saved(tmp_path / "a.tif", values, photometric="palette", colormap=table)
    assert opened.colour_table
    np.testing.assert_array_equal(whole(opened)[0, 0], values)
    grey = np.tile(np.arange(256, dtype=np.uint16) * 257, (3, 1))
    assert not saved(tmp_path / "b.tif", values, photometric="palette", colormap=grey).colour_table


def test_a_pickled_volume_reads_the_same(tmp_path: Path) -> None:
    opened = saved(tmp_path / "a.tif", volume(5, 9, 9), compression="lzw")
    again = pickle.loads(pickle.dumps(opened))
    np.testing.assert_array_equal(whole(again), whole(opened))


def test_points_in_time_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RawFormatError, match="3 points in time"):
        saved(tmp_path / "a.tif", volume(3, 2, 9, 9), imagej=True, metadata={"axes": "TZYX"})


def test_pages_of_different_sizes_are_refused(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for width in (9, 9, 12):
            file.write(volume(9, width), metadata=None)
    with pytest.raises(RawFormatError, match="2 images of different kinds"):
        open_raw(str(tmp_path / "a.tif"))


def test_small_copies_of_an_image_do_not_count(tmp_path: Path) -> None:
    values = volume(64, 64)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(values, subifds=1, metadata=None)
        file.write(values[::2, ::2], subfiletype=1, metadata=None)
    np.testing.assert_array_equal(whole(open_raw(str(tmp_path / "a.tif")))[0, 0], values)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95, 0.98])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"imagej": True},
        {"compression": "lzw"},
        {"compression": "zlib", "tile": (16, 16)},
        {"metadata": None, "contiguous": False},
    ],
    ids=str,
)
def test_a_file_cut_short_is_refused_by_name(
    tmp_path: Path, options: dict[str, object], share: float
) -> None:
    path = tmp_path / "cut.tif"
    with tifffile.TiffWriter(path, imagej="imagej" in options) as file:
        rest = {key: value for key, value in options.items() if key != "imagej"}
        pages = [volume(6, 40, 50)] if "contiguous" not in options else volume(6, 40, 50)
        for page in pages:
            file.write(page, **rest)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(RawFormatError, match=r"cut\.tif"):
        whole(open_raw(str(path)))


def test_damaged_pixels_name_their_section(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, volume(5, 40, 50), compression="zlib")
    with tifffile.TiffFile(path) as file:
        offset, count = file.pages[3].dataoffsets[0], file.pages[3].databytecounts[0]
    content = bytearray(path.read_bytes())
    content[offset : offset + count] = b"\x17" * count
    path.write_bytes(content)
    opened = open_raw(str(path))
    opened.read(Box((0, 0, 0), (3, 40, 50)))
    with pytest.raises(RawFormatError, match="section 3"):
        whole(opened)
