from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import tifffile

from unet_core.config import ConvertConfig, Resources, TruthConfig, VolumeConfig
from unet_core.geometry import Box
from unet_core.io.arrays import open_level
from unet_core.io.ngff import attributes_of
from unet_core.io.readers import open_raw
from unet_core.stages.convert import convert_volume

CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])


def convert(raw: Path, out: Path, truth: TruthConfig | None = None) -> Path:
    size, one = VolumeConfig(voxel_size_nm=(50, 4, 4)), Resources(threads=1)
    convert_volume(ConvertConfig(), volume=size, truth=truth, raw=str(raw), out=out, resources=one)
    return out


REAL = ["isbi2012/train-volume.tif", "chasedb1/Image_0[123]*.jpg", "ctc/Fluo-N2DL-HeLa/01"]


@pytest.mark.parametrize("name", REAL)
def test_real_volumes_keep_every_voxel(tmp_path: Path, real_data: Path, name: str) -> None:
    opened = open_raw(str(real_data / name))
    out = convert(real_data / name, tmp_path / "raw.ome.zarr")
    wanted = opened.read(Box((0, 0, 0), opened.shape[1:]))
    np.testing.assert_array_equal(open_level(out)[...], wanted)
    for channel, found in zip(wanted, attributes_of(out)["unet"]["statistics"], strict=True):
        assert found["mean"] == pytest.approx(channel.mean(dtype=np.float64))
        percentiles = np.percentile(channel, [0.5, 50, 99.5])
        assert [found["percentiles"][n] for n in (5, 500, 995)] == pytest.approx(percentiles)


def test_real_membranes_become_cells(tmp_path: Path, real_data: Path) -> None:
    truth = TruthConfig(kind="binary")
    source = real_data / "isbi2012/train-labels.tif"
    out = convert(source, tmp_path / "t.ome.zarr", truth)
    mask = tifffile.imread(source) > 0
    wanted, count = scipy.ndimage.label(mask, np.array([np.zeros((3, 3)), CROSS, np.zeros((3, 3))]))
    assert attributes_of(out)["unet"]["truth"]["objects"] == count
    np.testing.assert_array_equal(open_level(out)[...], wanted)
