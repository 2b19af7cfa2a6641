import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from unet_core.errors import RawFormatError
from unet_core.geometry import Box
from unet_core.io.readers import open_raw
from unet_core.io.readers.raw import RawVolume

VALUES = np.random.default_rng(0).integers(0, 200, (2, 6, 20, 30)).astype(np.uint16)


def whole(opened: RawVolume) -> np.ndarray:
    return opened.read(Box((0, 0, 0), opened.shape[1:]))


def write(path: Path, values: np.ndarray, version: int, **options: Any) -> None:
    zarr.create_array(
        str(path), data=values, chunks=(4,) * values.ndim, zarr_format=version, **options
    )


def image(axes: str, size: list[float], unit: str, path: str = "0") -> dict[str, Any]:
    described = [{"name": a, **({"unit": unit} if a in "zyx" else {})} for a in axes]
    steps = [{"type": "scale", "scale": size}]
    datasets = [{"path": path, "coordinateTransformations": steps}]
    return {"axes": described, "datasets": datasets}


@pytest.mark.parametrize("version", [2, 3])
def test_a_plain_array_is_read_by_box(tmp_path: Path, version: int) -> None:
    write(tmp_path / "a.zarr", VALUES, version)
    opened = open_raw(str(tmp_path / "a.zarr"))
    np.testing.assert_array_equal(whole(opened), VALUES)
    box = Box((2, 3, 4), (5, 20, 11))
    np.testing.assert_array_equal(opened.read(box), VALUES[(..., *box.slices)])


def test_names_of_dimensions_are_axes(tmp_path: Path) -> None:
    write(tmp_path / "a", VALUES.transpose(3, 2, 1, 0), 3, dimension_names=list("xyzc"))
    np.testing.assert_array_equal(whole(open_raw(str(tmp_path / "a"))), VALUES)


@pytest.mark.parametrize("version", [2, 3])
def test_ome_zarr_says_axes_and_voxel_size(tmp_path: Path, version: int) -> None:
    path = tmp_path / "a.ome.zarr"
    about = image("tczyx", [1, 1, 0.05, 0.005, 0.004], "micrometer")
    ome = {"multiscales": [about], "version": "0.5" if version == 3 else "0.4"}
    zarr.create_group(path, zarr_format=version, attributes={"ome": ome} if version == 3 else ome)
    write(path / "0", VALUES[None], version)
    opened = open_raw(str(path))
    assert opened.voxel_size_nm == pytest.approx((50, 5, 4))
    np.testing.assert_array_equal(whole(opened), VALUES)


def test_a_missing_level_or_one_outside_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "secret", VALUES, 3)
    for inner in ("7", "../secret"):
        path = tmp_path / f"{len(inner)}.zarr"
        about = image("czyx", [1, 1, 1, 1], "nanometer", inner)
        zarr.create_group(path, attributes={"ome": {"multiscales": [about]}})
        with pytest.raises(RawFormatError, match="finest level"):
            open_raw(str(path))


def test_a_group_of_several_arrays_lists_them(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    zarr.create_group(path)
    write(path / "raw", VALUES, 3)
    np.testing.assert_array_equal(whole(open_raw(str(path))), VALUES)
    write(path / "truth", VALUES, 3)
    with pytest.raises(RawFormatError, match=r"2 arrays.*raw.*truth"):
        open_raw(str(path))
    np.testing.assert_array_equal(whole(open_raw(str(path / "raw"))), VALUES)


@pytest.mark.parametrize("place", ["compressor", "filters"])
def test_a_pickle_is_never_opened(tmp_path: Path, place: str) -> None:
    path = tmp_path / "a.zarr"
    write(path, VALUES, 2)
    about = json.loads((path / ".zarray").read_text())
    about[place] = {"id": "pickle"} if place == "compressor" else [{"id": "pickle"}]
    (path / ".zarray").write_text(json.dumps(about))
    with pytest.raises(RawFormatError, match="pickle"):
        open_raw(str(path))


def test_a_damaged_chunk_names_its_sections(tmp_path: Path) -> None:
    write(tmp_path / "a.zarr", VALUES[0], 3)
    (tmp_path / "a.zarr/c/1/0/0").write_bytes(b"\x17" * 50)
    opened = open_raw(str(tmp_path / "a.zarr"))
    opened.read(Box((0, 0, 0), (4, 20, 30)))
    with pytest.raises(RawFormatError, match=r"sections 4\.\.5"):
        opened.read(Box((4, 0, 0), (6, 20, 30)))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_damaged_metadata_is_refused_by_name(tmp_path: Path, text: str) -> None:
    write(tmp_path / "a.zarr", VALUES[0], 3)
    (tmp_path / "a.zarr/zarr.json").write_text(text)
    with pytest.raises(RawFormatError, match=r"a\.zarr"):
        open_raw(str(tmp_path / "a.zarr"))
