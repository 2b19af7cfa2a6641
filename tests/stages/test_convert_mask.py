"""Masks: of raw's voxels, whatever the file's, and refused where they do not fit."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_core.cli import main
from unet_core.config import ConvertConfig, Resources, VolumeConfig
from unet_core.errors import ConfigError, RawFormatError
from unet_core.io.arrays import cut_of, open_level
from unet_core.io.ngff import attributes_of, content_of, voxel_size_of
from unet_core.ops.masks import factors_between, spread
from unet_core.stages.convert import convert_volume
from unet_core.stages.convert_mask import convert_mask

CUT = ConvertConfig(chunk=(2, 4, 8), shard=(2, 8, 8))


def converted(
    folder: Path,
    mask: np.ndarray,
    shape: tuple[int, int, int] = (6, 20, 17),
    *,
    volume: VolumeConfig | None = None,
    config: ConvertConfig = CUT,
) -> Path:
    folder.mkdir(exist_ok=True)
    volume = volume or VolumeConfig(voxel_size_nm=(50, 4, 4))
    tifffile.imwrite(folder / "raw.tif", np.ones(shape, np.uint8), photometric="minisblack")
    tifffile.imwrite(folder / "mask.tif", mask, photometric="minisblack")
    raw, out = folder / "raw.ome.zarr", folder / "mask.ome.zarr"
    keys = {"volume": volume, "resources": Resources()}
    convert_volume(config, truth=None, raw=str(folder / "raw.tif"), out=raw, **keys)
    convert_mask(config, source=str(folder / "mask.tif"), raw=raw, out=out, **keys)
    return out


@settings(deadline=None, max_examples=50)
@given(
    fine=st.tuples(*[st.integers(1, 30)] * 3),
    factors=st.tuples(*[st.integers(1, 9)] * 3),
)
def test_a_mask_made_coarser_by_whole_factors_fits_and_covers(
    fine: tuple[int, int, int], factors: tuple[int, int, int]
) -> None:
    coarse = [-(-n // f) for n, f in zip(fine, factors, strict=True)]
    found = factors_between(coarse, fine)
    assert found is not None
    assert factors_between([n * f for n, f in zip(coarse, factors, strict=True)], fine) in (
        None,
        (1, 1, 1),
    )
    spanned = spread(np.ones(coarse, bool), found).shape
    assert all(0 <= s - n < f for s, n, f in zip(spanned, fine, found, strict=True))


def test_a_mask_has_the_voxels_and_the_cut_of_raw_and_counts_what_is_inside(
    tmp_path: Path,
) -> None:
    mask = np.random.default_rng(0).integers(0, 3, (6, 20, 17)).astype(np.uint8)
    out = converted(tmp_path, mask)
    np.testing.assert_array_equal(open_level(out)[:], mask != 0)
    assert cut_of(open_level(out)) == cut_of(open_level(tmp_path / "raw.ome.zarr"))
    assert voxel_size_of(out) == (50, 4, 4)
    told = attributes_of(out)["unet"]["mask"]
    assert told == {"factors": [1, 1, 1], "inside": int((mask != 0).sum())}


def test_a_coarser_mask_is_spread_over_the_voxels_it_spans(tmp_path: Path) -> None:
    mask = np.random.default_rng(0).integers(0, 2, (3, 10, 5)).astype(np.uint8)
    fine = np.kron(mask, np.ones((2, 2, 4), np.uint8))[:, :, :17]
    one = converted(tmp_path / "one", mask)
    np.testing.assert_array_equal(open_level(one)[:], fine)
    assert attributes_of(one)["unet"]["mask"]["factors"] == [2, 2, 4]
    assert content_of(converted(tmp_path / "two", fine)) == content_of(one)


def test_the_sections_of_the_volume_are_taken_of_the_mask(tmp_path: Path) -> None:
    mask = np.zeros((6, 10, 17), np.uint8)
    mask[3] = 1
    out = converted(tmp_path, mask, volume=VolumeConfig(sections=(2, 5)))
    assert np.asarray(open_level(out)[:]).any(axis=(1, 2)).tolist() == [False, True, False]
    with pytest.raises(ConfigError, match="as many sections as raw"):
        converted(tmp_path / "few", mask[:3], volume=VolumeConfig(sections=(2, 5)))


def test_a_mask_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RawFormatError, match=r"fewer by whole factors"):
        converted(tmp_path, np.zeros((6, 20, 16), np.uint8))


def test_the_command_makes_the_same_store(tmp_path: Path) -> None:
    made = converted(tmp_path, np.ones((6, 10, 17), np.uint8), config=ConvertConfig())
    out = tmp_path / "again.ome.zarr"
    command = ["convert", "--raw", str(tmp_path / "mask.tif"), "--out", str(out)]
    command += ["--mask-of", str(tmp_path / "raw.ome.zarr/zarr.json")]
    assert main(command) == 0
    assert content_of(out) == content_of(made)
