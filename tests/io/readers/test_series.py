from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from unet_core.errors import RawFormatError
from unet_core.geometry import Box
from unet_core.io.readers import open_raw
from unet_core.io.readers.raw import RawVolume
from unet_core.io.readers.series import natural

RNG = np.random.default_rng(0)


def whole(opened: RawVolume) -> np.ndarray:
    return opened.read(Box((0, 0, 0), opened.shape[1:]))


def save_png(path: Path, values: np.ndarray) -> None:
    path.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(values)))


def test_numbers_are_sorted_as_numbers() -> None:
    names = ["s10.png", "s2.png", "s1.png", "a.png", "s02.png", "s1b.png"]
    assert sorted(names, key=natural) == [
        "a.png",
        "s1.png",
        "s1b.png",
        "s02.png",
        "s2.png",
        "s10.png",
    ]


@pytest.mark.parametrize("by", ["folder", "glob"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("kind", ["png", "tif"])
def test_a_series_is_a_volume(tmp_path: Path, kind: str, dtype: str, by: str) -> None:
    values = RNG.integers(0, 255, (11, 13, 17)).astype(dtype)
    for number, section in enumerate(values):
        path = tmp_path / f"s{number}.{kind}"
        if kind == "tif":
            tifffile.imwrite(path, section, compression="lzw")
        else:
            save_png(path, section)
    (tmp_path / "notes.txt").write_text("not a section")
    opened = open_raw(str(tmp_path) if by == "folder" else str(tmp_path / f"s*.{kind}"))
    opened.check()
    assert opened.shape == (1, 11, 13, 17)
    np.testing.assert_array_equal(whole(opened)[0], values)
    box = Box((3, 4, 5), (9, 12, 6))
    np.testing.assert_array_equal(opened.read(box)[0], values[box.slices])


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("samples", [2, 3, 4])
def test_colours_of_a_png_are_channels_without_alpha(
    tmp_path: Path, samples: int, dtype: str
) -> None:
    values = RNG.integers(0, 255, (13, 17, samples)).astype(dtype)
    save_png(tmp_path / "a.png", values)
    colours = {2: 1, 3: 3, 4: 3}[samples]
    opened = open_raw(str(tmp_path / "a.png"))
    np.testing.assert_array_equal(whole(opened)[:, 0], np.moveaxis(values[:, :, :colours], -1, 0))


def test_a_png_of_one_bit_is_a_mask(tmp_path: Path) -> None:
    mask = RNG.random((13, 17)) > 0.5
    Image.fromarray(mask).save(tmp_path / "a.png")
    opened = open_raw(str(tmp_path / "a.png"))
    assert opened.dtype == bool
    np.testing.assert_array_equal(whole(opened)[0, 0], mask)


@pytest.mark.parametrize("colours", ["grey", "red"])
def test_a_palette_keeps_its_numbers(tmp_path: Path, colours: str) -> None:
    values = RNG.integers(0, 7, (13, 17)).astype(np.uint8)
    image = Image.fromarray(values, mode=None).convert("P")
    greys = np.arange(256, dtype=np.uint8).repeat(3).reshape(256, 3)
    if colours == "red":
        greys[:, 1:] = 0
    image.putpalette(greys.ravel().tolist())
    image.save(tmp_path / "a.png", bits=8)
    opened = open_raw(str(tmp_path / "a.png"))
    np.testing.assert_array_equal(whole(opened)[0, 0], values)
    assert opened.colour_table == (colours == "red")


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_jpeg_is_read_as_pillow_does(tmp_path: Path, mode: str) -> None:
    values = RNG.integers(0, 255, (40, 50) if mode == "L" else (40, 50, 3)).astype(np.uint8)
    Image.fromarray(values).save(tmp_path / "a.jpg", quality=90)
    opened = open_raw(str(tmp_path / "a.jpg"))
    with Image.open(tmp_path / "a.jpg") as image:
        wanted = np.asarray(image).reshape(40, 50, -1)
    np.testing.assert_array_equal(whole(opened)[:, 0], np.moveaxis(wanted, -1, 0))


def test_jpeg_holds_no_truth(tmp_path: Path) -> None:
    for kind in ("jpg", "png"):
        Image.fromarray(np.zeros((8, 9), np.uint8)).save(tmp_path / f"a.{kind}")
    open_raw(str(tmp_path / "a.png")).refuse_lossy()
    for source in ("a.jpg", "*.jpg"):
        with pytest.raises(RawFormatError, match="is JPEG, which changes values"):
            open_raw(str(tmp_path / source)).refuse_lossy()


@pytest.mark.parametrize("kind", ["png", "jpg", "tif"])
def test_a_section_cut_short_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    for number in range(3):
        Image.fromarray(RNG.integers(0, 255, (60, 70)).astype(np.uint8)).save(
            tmp_path / f"{number}.{kind}"
        )
    cut = tmp_path / f"1.{kind}"
    cut.write_bytes(cut.read_bytes()[:-900])
    with pytest.raises(RawFormatError, match=rf"1\.{kind}"):
        whole(open_raw(str(tmp_path)))


def test_a_section_of_another_size_is_refused_by_name_before_work_begins(tmp_path: Path) -> None:
    for number, width in enumerate((17, 17, 18)):
        save_png(tmp_path / f"{number}.png", np.zeros((13, width), np.uint8))
    with pytest.raises(RawFormatError, match=r"2\.png.*\(1, 13, 18\)"):
        open_raw(str(tmp_path)).check()
    with pytest.raises(RawFormatError, match=r"2\.png"):
        whole(open_raw(str(tmp_path)))


def test_a_mixed_or_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RawFormatError, match="no TIFF, PNG or JPEG"):
        open_raw(str(tmp_path))
    with pytest.raises(RawFormatError, match="no TIFF, PNG or JPEG"):
        open_raw(str(tmp_path / "*.png"))
    save_png(tmp_path / "a.png", np.zeros((3, 3), np.uint8))
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((3, 3), np.uint8))
    with pytest.raises(RawFormatError, match="PNG, TIFF"):
        open_raw(str(tmp_path))


def test_a_stack_among_sections_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((2, 9, 9), np.uint8))
    with pytest.raises(RawFormatError, match="holds 2 sections"):
        open_raw(str(tmp_path))
