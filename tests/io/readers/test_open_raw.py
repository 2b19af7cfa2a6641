from pathlib import Path

import numpy as np
import pytest

from unet_core.errors import PlanError, RawFormatError
from unet_core.geometry import Box
from unet_core.io.readers import open_raw

REAL = {
    "isbi2012/train-volume.tif": ((1, 30, 512, 512), "uint8"),
    "fib-medulla/grayscale": ((1, 200, 250, 250), "uint8"),
    "fib-medulla/groundtruth.h5::stack": ((1, 200, 250, 250), "uint32"),
    "drosophila-vnc/membranes": ((1, 15, 1024, 1024), "bool"),
    "ctc/Fluo-N2DL-HeLa/01": ((1, 4, 700, 1100), "uint16"),
    "chasedb1/*.jpg": ((3, 20, 960, 999), "uint8"),
    "ovule-nuclei3d/1135_mini.h5::raw": ((1, 100, 100, 100), "uint8"),
    "formats/mrc/EMD-3197.map": ((1, 20, 20, 20), "float32"),
    "formats/mrc/Custom_movie.mrc": ((1, 30, 16, 16), "uint16"),
    "formats/hdf5/3d2c.h5": ((2, 50, 60, 55), "uint8"),
    "formats/ome-tiff/multi-channel-z-series.ome.tif": ((3, 5, 167, 439), "int8"),
    "formats/ome-zarr-0.4/simple_0.4.zarr": ((1, 1, 10, 10), "uint16"),
    "formats/ome-zarr-0.5/6001240_labels_v0.5.zarr": ((2, 236, 68, 67), "uint16"),
    "formats/ome-zarr-0.5/6001240_labels_v0.5.zarr/labels/0": ((1, 236, 275, 271), "int8"),
    "formats/zarr2/uint8_cxyz.zarr": ((3, 24, 24, 24), "uint8"),
    "formats/tiff/12bit.cropped.tiff": ((1, 1, 64, 64), "uint16"),
    "formats/tiff/BigTIFF.tif": ((3, 1, 64, 64), "uint8"),
    "formats/tiff/predictor-3-gray-f32.tif": ((1, 1, 200, 200), "float32"),
    "formats/tiff/int16_zstd.tif": ((1, 1, 64, 64), "int16"),
    "formats/tiff/hela-cells_16bit_3ch.tif": ((3, 1, 512, 672), "uint16"),
    "formats/tiff/imagej-calibrated/3d_c.tif": ((3, 5, 16, 16), "uint8"),
}

EQUAL = [
    (
        "formats/tiff/xyz_8bit__mitotic_plate_calibrated.tiff",
        "formats/ome-zarr-0.4/xyz_8bit__mitotic_plate_calibrated.ome.zarr",
    ),
    ("formats/ome-zarr-0.4/simple_0.4.zarr", "formats/ome-zarr-0.5/simple_0.5.zarr"),
    ("formats/tiff/planar-rgb-u8.tif", "formats/tiff/tiled-rgb-u8.tif"),
    ("formats/zarr2/uint8_cxyz.zarr", "formats/zarr2/uint8_cxyz.zarr"),
]

REFUSED = {
    "formats/nifti/anatomical.nii": ".nii is not supported",
    "formats/dm/test-1_3d.dm4": ".dm4 is not supported",
    "formats/n5/uint32_4d_gzip.n5": "N5",
    "formats/precomputed/uint8_3ch_png": "precomputed",
    "formats/hdf5/smallVideoBdv.h5": "16 datasets",
    "formats/hdf5/5t2d1c.h5": "5 points in time",
    "formats/tiff/imagej-calibrated/5d.tif": "5 points in time",
    "formats/tiff/multipage.tiff": "2 images",
}


def whole(source: str) -> np.ndarray:
    opened = open_raw(source)
    return opened.read(Box((0, 0, 0), opened.shape[1:]))


@pytest.mark.parametrize("name", REAL)
def test_real_files_have_their_shape_and_every_box_is_a_part(real_data: Path, name: str) -> None:
    source = str(real_data / name)
    shape, dtype = REAL[name]
    opened = open_raw(source)
    assert (opened.shape, opened.dtype) == (shape, np.dtype(dtype))
    opened.check()
    first = shape[1] // 2
    start, stop = (first, 0, 0), (min(first + 3, shape[1]), *shape[2:])
    some = opened.read(Box(start, stop))
    assert some.min() < some.max()
    box = Box((stop[0] - 1, shape[2] // 3, shape[3] // 4), stop)
    inner = box.relative_to(start)
    np.testing.assert_array_equal(opened.read(box), some[(..., *inner.slices)])


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_the_same_image_in_two_formats_is_the_same(real_data: Path, one: str, other: str) -> None:
    np.testing.assert_array_equal(whole(str(real_data / one)), whole(str(real_data / other)))
    sizes = [open_raw(str(real_data / name)).voxel_size_nm for name in (one, other)]
    assert sizes[0] == pytest.approx(sizes[1])


def test_pixels_of_a_calibrated_file_are_85_nm(real_data: Path) -> None:
    size = open_raw(str(real_data / EQUAL[0][0])).voxel_size_nm
    assert size == pytest.approx((3000, 85.196, 85.196), rel=1e-5)


def test_rgba_sections_have_three_channels(real_data: Path) -> None:
    image = sorted((real_data / "dsb2018/images").glob("*.png"))[0]
    assert open_raw(str(image)).shape[0] == 3


@pytest.mark.parametrize("name", REFUSED)
def test_real_files_that_are_no_volume_are_refused_with_the_reason(
    real_data: Path, name: str
) -> None:
    with pytest.raises(RawFormatError, match=REFUSED[name]):
        open_raw(str(real_data / name))


def test_unknown_formats_are_refused_with_those_supported(tmp_path: Path) -> None:
    (tmp_path / "a.czi").write_bytes(b"?")
    with pytest.raises(RawFormatError, match=r"\.czi is not supported; supported are TIFF"):
        open_raw(str(tmp_path / "a.czi"))
    with pytest.raises(RawFormatError, match="no such file"):
        open_raw(str(tmp_path / "b.tif"))


@pytest.mark.parametrize("suffix", ["tif", "png", "jpg", "h5", "mrc"])
@pytest.mark.parametrize("content", [b"", b"GIF89a and more", bytes(5000)], ids=len)
def test_a_file_that_is_not_what_it_is_called_is_refused(
    tmp_path: Path, suffix: str, content: bytes
) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content)
    with pytest.raises(RawFormatError, match=rf"a\.{suffix}"):
        open_raw(str(path))


def test_a_box_outside_is_refused(real_data: Path) -> None:
    opened = open_raw(str(real_data / "formats/mrc/EMD-3197.map"))
    with pytest.raises(PlanError, match="not a part"):
        opened.read(Box((0, 0, 0), (21, 20, 20)))
