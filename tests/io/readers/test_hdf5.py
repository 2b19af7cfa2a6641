import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from unet_core.errors import RawFormatError
from unet_core.geometry import Box
from unet_core.io.readers import open_raw
from unet_core.io.readers.raw import RawVolume

VALUES = np.random.default_rng(0).integers(0, 200, (2, 6, 20, 30)).astype(np.uint16)


def whole(opened: RawVolume) -> np.ndarray:
    return opened.read(Box((0, 0, 0), opened.shape[1:]))


@pytest.mark.parametrize("chunks", [None, (1, 2, 8, 8)])
@pytest.mark.parametrize("dtype", ["uint8", ">u2", "float32", "int16"])
def test_a_dataset_is_read_by_box(
    tmp_path: Path, dtype: str, chunks: tuple[int, ...] | None
) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "v/raw", data=VALUES.astype(dtype), chunks=chunks, compression=chunks and "gzip"
        )
    opened = open_raw(f"{path}::v/raw")
    assert opened.dtype.isnative
    np.testing.assert_array_equal(whole(opened), VALUES)
    box = Box((2, 3, 4), (5, 20, 11))
    np.testing.assert_array_equal(opened.read(box), VALUES[(..., *box.slices)])
    np.testing.assert_array_equal(whole(open_raw(str(path))), VALUES)


def test_axistags_of_ilastik_say_where_the_channel_is(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("exported", data=VALUES.transpose(1, 3, 2, 0)[None])
        data.attrs["axistags"] = json.dumps({"axes": [{"key": key} for key in "tzxyc"]})
    np.testing.assert_array_equal(whole(open_raw(str(path))), VALUES)


def test_labels_of_dimensions_are_axes(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("a", data=VALUES.transpose(3, 2, 1, 0))
        for dimension, label in zip(data.dims, "xyzc", strict=True):
            dimension.label = label
    np.testing.assert_array_equal(whole(open_raw(str(path))), VALUES)


def test_element_size_is_in_micrometres(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("a", data=VALUES[0])
        data.attrs["element_size_um"] = [0.05, 0.004, 0.0045]
    assert open_raw(str(path)).voxel_size_nm == pytest.approx((50, 4, 4.5))


def test_of_several_datasets_one_must_be_named(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["raw"], file["truth"], file["line"] = VALUES[0], VALUES[0], np.zeros(3)
    with pytest.raises(RawFormatError, match=r"2 datasets.*raw \(6, 20, 30\), truth"):
        open_raw(str(path))
    with pytest.raises(RawFormatError, match=r"no dataset 'row'.*raw, truth"):
        open_raw(f"{path}::row")


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["a"] = np.zeros((3, 3), "S4")
        file["b"] = np.zeros((17, 17, 17, 17), np.uint8)
    with pytest.raises(RawFormatError, match="needed are numbers"):
        open_raw(f"{path}::a")
    with pytest.raises(RawFormatError, match="4 axes"):
        open_raw(f"{path}::b")


@pytest.mark.parametrize("size", [0, 100, 5000])
def test_a_file_cut_short_is_refused_by_name(tmp_path: Path, size: int) -> None:
    path = tmp_path / "cut.h5"
    with h5py.File(path, "w") as file:
        file["a"] = VALUES
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(RawFormatError, match=r"cut\.h5"):
        whole(open_raw(str(path)))


def test_a_damaged_chunk_names_its_sections(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("a", data=VALUES[0], chunks=(1, 20, 30), compression="gzip")
        chunk = data.id.get_chunk_info(4)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = b"\x17" * chunk.size
    path.write_bytes(content)
    with pytest.raises(RawFormatError, match=r"a\.h5.*sections 3\.\.5"):
        open_raw(str(path)).read(Box((3, 0, 0), (6, 20, 30)))
