from pathlib import Path

import mrcfile
import numpy as np
import pytest

from unet_core.errors import RawFormatError
from unet_core.geometry import Box
from unet_core.io.readers import open_raw
from unet_core.io.readers.raw import RawVolume

VALUES = np.random.default_rng(0).integers(-100, 100, (6, 20, 30))


def whole(opened: RawVolume) -> np.ndarray:
    return opened.read(Box((0, 0, 0), opened.shape[1:]))


def write(path: Path, values: np.ndarray, size: float | tuple[float, ...] = 40.0) -> Path:
    with mrcfile.new(path) as file:
        file.set_data(values)
        file.voxel_size = size
    return path


@pytest.mark.parametrize("dtype", ["int8", "int16", "float32"])
def test_a_map_is_read_by_box_with_its_voxel_size(tmp_path: Path, dtype: str) -> None:
    path = write(tmp_path / "a.mrc", VALUES.astype(dtype), (40.0, 50.0, 500.0))  # x, y, z
    opened = open_raw(str(path))
    assert opened.dtype == dtype
    assert opened.voxel_size_nm == pytest.approx((50, 5, 4))
    np.testing.assert_array_equal(whole(opened)[0], VALUES)
    box = Box((2, 3, 4), (5, 20, 11))
    np.testing.assert_array_equal(opened.read(box)[0], VALUES[box.slices])


def test_one_image_is_one_section(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mrc", VALUES[0].astype(np.int16))
    assert open_raw(str(path)).shape == (1, 1, 20, 30)


@pytest.mark.parametrize("size", [0.0, -10.0])
def test_nonsense_voxel_sizes_are_ignored(tmp_path: Path, size: float) -> None:
    path = write(tmp_path / "a.mrc", VALUES.astype(np.int16), size)
    assert open_raw(str(path)).voxel_size_nm is None


def test_bytes_of_imod_are_unsigned_where_it_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mrc", VALUES.astype(np.int8))
    content = bytearray(path.read_bytes())
    content[152:160] = (1146047817).to_bytes(4, "little") + bytes(4)
    path.write_bytes(content)
    np.testing.assert_array_equal(whole(open_raw(str(path)))[0], VALUES.astype(np.uint8))


@pytest.mark.parametrize("size", [0, 500, 2000])
def test_a_file_cut_short_is_refused_by_name(tmp_path: Path, size: int) -> None:
    path = write(tmp_path / "cut.mrc", VALUES.astype(np.int16))
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(RawFormatError, match=r"cut\.mrc"):
        open_raw(str(path))


def test_transforms_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mrc", VALUES.astype(np.complex64))
    with pytest.raises(RawFormatError, match="transform"):
        open_raw(str(path))
