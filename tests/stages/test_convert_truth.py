"""Truth as stored: ids of the whole volume, or classes, and what they mean."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.ndimage

from tests.stages.test_convert import CUTS, convert, levels, stack, unet, values
from unet_core.config import TruthConfig
from unet_core.geometry import IGNORED_ID
from unet_core.io.arrays import open_level
from unet_core.io.ngff import attributes_of


@pytest.mark.parametrize("kind", ["instances", "semantic", "binary"])
def test_shards_do_not_show_in_truth(tmp_path: Path, kind: Any) -> None:
    raw = stack(tmp_path, values(5, 31, 22) // 60)
    truth = TruthConfig(kind=kind, objects="volume")
    found = [
        convert(raw, tmp_path / f"{n}.ome.zarr", cut, truth=truth) for n, cut in enumerate(CUTS)
    ]
    for other in found[1:]:
        assert unet(other) == unet(found[0])
        for one, two in zip(levels(found[0]), levels(other), strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("objects", ["section", "volume"])
def test_binary_truth_becomes_its_components_in_raster_order(tmp_path: Path, objects: Any) -> None:
    mask = values(5, 31, 33) > 50
    mask[:, :2] = False
    code = np.where(mask, 255, 0).astype(np.uint8)
    code[2:4, :2, :30] = 7
    truth = TruthConfig(kind="binary", objects=objects, ignore_label=7)
    out = convert(stack(tmp_path, code), tmp_path / "truth.ome.zarr", truth=truth)
    shape = scipy.ndimage.generate_binary_structure(3, 1)
    if objects == "section":
        shape[0], shape[2] = False, False
    wanted, count = scipy.ndimage.label(mask, shape)
    wanted = np.where(code == 7, IGNORED_ID, wanted.astype(np.int64))
    np.testing.assert_array_equal(open_level(out)[...], wanted)
    assert unet(out)["truth"] == {"kind": "binary", "objects": count}


def test_truth_is_uint32_ids_with_what_they_mean(tmp_path: Path) -> None:
    ids = np.array([[[0, 3, 3], [70000, 0, 9]]], np.int32)
    raw = stack(tmp_path, ids)
    instances = convert(raw, tmp_path / "i.ome.zarr", truth=TruthConfig(ignore_label=9))
    assert unet(instances)["truth"] == {"kind": "instances", "objects": 2}
    assert open_level(instances)[...].tolist() == [[[0, 3, 3], [70000, 0, IGNORED_ID]]]
    assert open_level(instances).dtype == np.uint32
    classes = stack(tmp_path, ids % 100, "c.tif")
    semantic = convert(classes, tmp_path / "s.ome.zarr", truth=TruthConfig(kind="semantic"))
    assert unet(semantic)["truth"] == {"kind": "semantic", "classes": [0, 3, 9]}
    assert attributes_of(semantic)["ome"]["image-label"] == {"version": "0.5"}
    mask = convert(classes, tmp_path / "f.ome.zarr", truth=TruthConfig(kind="foreground"))
    assert unet(mask)["truth"] == {"kind": "semantic", "classes": [0, 1]}
    assert open_level(mask)[...].tolist() == [[[0, 1, 1], [0, 0, 1]]]
