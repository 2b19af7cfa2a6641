"""Objects of probabilities have one id each, whatever the blocks, workers and interruptions."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from tests.stages.stores import mask_store, told_of
from unet_core.config import ObjectsConfig, Resources, StitchConfig
from unet_core.errors import BlockError, ConfigError, PlanError, StoreError
from unet_core.geometry import Zyx
from unet_core.io.arrays import create_array, open_level, shard_of
from unet_core.io.ledger import building
from unet_core.io.ngff import attributes_of, content_of, multiscale, voxel_size_of
from unet_core.ops.heights import depth_steps, heights_of
from unet_core.ops.watershed import watershed
from unet_core.stages import stitch
from unet_core.stages.stitch import stitch_labels

ALL = ObjectsConfig(min_size_vx=0)


def probabilities_store(
    store: Path, values: np.ndarray, shard: Zyx, size=(40, 4, 4), **told
) -> Path:
    """A finished store of (c, z, y, x) probabilities."""
    with building(store, stage="infer", settings={}, inputs={"sum": str(values.sum())}) as build:
        keys = {"shape": values.shape, "dtype": values.dtype, "chunk": (1, 4, 4), "shard": shard}
        create_array(store, "0", **keys)[:] = values
        ome = multiscale("p", axes="czyx", voxel_size_nm=size)
        build.publish(ome=ome, unet=told_of(values, **told))
    return store


def labels_of(
    folder: Path,
    values: np.ndarray,
    shard: Zyx,
    config: StitchConfig,
    objects: ObjectsConfig = ALL,
    **keys,
) -> np.ndarray:
    calibration, mask = keys.pop("calibration", None), keys.pop("mask", None)
    told = keys.pop("told", {})
    source = probabilities_store(folder / "probabilities.ome.zarr", values, shard, **told)
    stitch_labels(
        config,
        objects=objects,
        probabilities=source,
        mask=mask,
        calibration=calibration,
        out=folder / "labels.ome.zarr",
        resources=Resources(**keys),
    )
    return open_level(folder / "labels.ome.zarr")[:]


def clouds(shape: Zyx, seed: int = 0) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), (0.8, 2, 2))
    return ((noise - noise.min()) / np.ptp(noise) * 255).astype(np.uint8)[None]


def snake(shape: Zyx) -> np.ndarray:
    """One object that winds through the whole section: rows joined at alternating ends."""
    inside = np.zeros(shape, bool)
    inside[0, ::4] = True
    inside[0, 1::8, -1] = inside[0, 2::8, -1] = inside[0, 3::8, -1] = True
    inside[0, 5::8, 0] = inside[0, 6::8, 0] = inside[0, 7::8, 0] = True
    return np.where(inside, np.uint8(200), np.uint8(50))[None]


@pytest.mark.parametrize("method", ["threshold", "watershed"])
@pytest.mark.parametrize("scope", ["section", "volume"])
def test_labels_are_the_same_for_every_shard(tmp_path: Path, method: str, scope: str) -> None:
    values = clouds((3, 37, 30))
    config = StitchConfig(method=method, threshold=0.65, smoothing_px=0.8, depth=0.04)
    objects = ObjectsConfig(scope=scope, min_size_vx=5)
    shards = [(3, 40, 32), (1, 20, 16), (2, 12, 32)]
    found = [
        labels_of(tmp_path / str(n), values, shard, config, objects)
        for n, shard in enumerate(shards)
    ]
    assert found[0].max() > 3
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


def test_blocks_of_another_cut_are_not_taken_for_finished(tmp_path: Path) -> None:
    """The same voxels, stored in other shards: the same content, but no block is the same."""
    values, config = clouds((1, 24, 24)), StitchConfig(method="threshold", threshold=0.65)
    expected, _ = ndimage.label(values[0] > 0.65 * 255)
    for shard in [(1, 24, 24), (1, 8, 8), (1, 12, 24)]:
        for old in tmp_path.glob("probabilities.*"):
            shutil.rmtree(old) if old.is_dir() else old.unlink()
        np.testing.assert_array_equal(labels_of(tmp_path, values, shard, config), expected)
        assert shard_of(open_level(tmp_path / "labels.ome.zarr")) == shard


def test_threshold_objects_are_the_components_of_scipy(tmp_path: Path) -> None:
    values = clouds((3, 22, 20))
    expected, n = ndimage.label(values[0] > 127)
    objects = ObjectsConfig(scope="volume", min_size_vx=0)
    labels = labels_of(tmp_path, values, (2, 12, 12), StitchConfig(method="threshold"), objects)
    np.testing.assert_array_equal(labels, expected)
    assert labels.dtype == np.uint64
    attributes = attributes_of(tmp_path / "labels.ome.zarr")
    made = {"objects": n, "scope": "volume", "method": "threshold", "threshold": 0.5}
    assert attributes["unet"] == made
    assert voxel_size_of(tmp_path / "labels.ome.zarr") == (40, 4, 4)
    assert "image-label" in attributes["ome"]


def test_watershed_objects_are_those_of_the_volume_in_memory(tmp_path: Path) -> None:
    values = clouds((3, 22, 20))
    config = StitchConfig(method="watershed", smoothing_px=0, depth=0.1)
    keys = {"scope": "section", "depth": depth_steps(0.1), "min_size": 9}
    expected, n = watershed(heights_of(values[0]), **keys)
    objects = ObjectsConfig(scope="section", min_size_vx=9)
    labels = labels_of(tmp_path, values, (3, 12, 16), config, objects)
    assert n > 3
    np.testing.assert_array_equal(labels, expected)


def test_a_snake_through_many_blocks_is_one_object(tmp_path: Path) -> None:
    values = snake((1, 16, 20))
    labels = labels_of(tmp_path, values, (1, 4, 4), StitchConfig(method="threshold"))
    np.testing.assert_array_equal(labels, values[0] > 127)


def test_small_objects_are_small_as_wholes(tmp_path: Path) -> None:
    """A row of 16 is cut into pieces of 4 and stays; a row of 3 goes; ids close the gap."""
    values = np.zeros((1, 1, 8, 16), np.uint8)
    values[0, 0, 1, :3] = values[0, 0, 3, :] = values[0, 0, 6, 2:11] = 255
    objects = ObjectsConfig(min_size_vx=9)
    labels = labels_of(tmp_path, values, (1, 4, 4), StitchConfig(method="threshold"), objects)
    expected = np.zeros((1, 8, 16), int)
    expected[0, 3], expected[0, 6, 2:11] = 1, 2
    np.testing.assert_array_equal(labels, expected)


def test_the_stored_value_must_exceed_the_threshold(tmp_path: Path) -> None:
    values = np.array([[[[0, 101, 102, 103, 255]]]], np.uint8)
    config = StitchConfig(method="threshold", threshold=0.4)  # 102 of 255
    assert labels_of(tmp_path, values, (1, 1, 5), config).tolist() == [[[0, 0, 0, 1, 1]]]
    halves = (values / 255).astype(np.float16)
    config = StitchConfig(method="threshold", threshold=float(halves[..., 2][0, 0, 0]))
    found = labels_of(tmp_path / "half", halves, (1, 1, 5), config)
    assert found.tolist() == [[[0, 0, 0, 1, 1]]]


@pytest.mark.parametrize("method", ["threshold", "watershed"])
def test_an_empty_volume_has_no_objects(tmp_path: Path, method: str) -> None:
    values = np.zeros((1, 2, 9, 9), np.uint8)
    labels = labels_of(tmp_path, values, (1, 4, 8), StitchConfig(method=method))
    assert labels.max() == 0
    assert attributes_of(tmp_path / "labels.ome.zarr")["unet"]["objects"] == 0


def test_the_second_class_is_taken_from_its_channel(tmp_path: Path) -> None:
    values = np.zeros((2, 1, 4, 4), np.uint8)
    values[1, 0, :2] = 255
    objects = ObjectsConfig(foreground=2, min_size_vx=0)
    labels = labels_of(tmp_path, values, (1, 4, 4), StitchConfig(method="threshold"), objects)
    assert labels[0].tolist() == [[1] * 4] * 2 + [[0] * 4] * 2
    with pytest.raises(ConfigError, match=r"class 3, .* has the classes 1, 2"):
        labels_of(tmp_path, values, (1, 4, 4), StitchConfig(), ObjectsConfig(foreground=3))


def test_a_class_is_found_by_its_name_wherever_it_is_stored(tmp_path: Path) -> None:
    values = np.zeros((2, 1, 4, 4), np.uint8)
    values[1, 0, :2] = 255
    objects = ObjectsConfig(foreground=3, min_size_vx=0)
    told = {"classes": 4, "channels": ["class 0", "class 3"]}
    threshold = StitchConfig(method="threshold")
    labels = labels_of(tmp_path, values, (1, 4, 4), threshold, objects, told=told)
    assert labels[0].tolist() == [[1] * 4] * 2 + [[0] * 4] * 2
    with pytest.raises(ConfigError, match=r"class 1, .* has the classes 0, 3; .*infer.classes"):
        labels_of(tmp_path, values, (1, 4, 4), threshold, told=told)


@pytest.mark.parametrize("method", ["threshold", "watershed"])
@pytest.mark.parametrize("scope", ["section", "volume"])
def test_what_was_not_computed_is_in_no_object_and_parts_those_beside_it(
    tmp_path: Path, method: str, scope: str
) -> None:
    """A region, a mask with a gap, and a failed block, in one volume of probability 1."""
    values = np.full((1, 2, 16, 24), 255, np.uint8)
    inside = np.ones((2, 16, 24), np.uint8)
    inside[:, :, 10] = 0
    told = {
        "region": [[0, 2], [2, 16], [0, 24]],
        "mask": content_of(mask_store(tmp_path / "mask.ome.zarr", inside)),
        "failed": {"0-8-16": "damaged"},
    }
    config, objects = StitchConfig(method=method), ObjectsConfig(scope=scope, min_size_vx=60)
    found = [
        labels_of(
            tmp_path / str(n), values, shard, config, objects, told=told,
            mask=tmp_path / "mask.ome.zarr",
        )
        for n, shard in enumerate([(2, 8, 8), (1, 8, 8)])
    ]  # fmt: skip
    expected = np.zeros((2, 16, 24), int)
    expected[:, 2:, :10], expected[:, 2:, 11:] = 1, 2
    expected[:, 8:, 16:] = 0
    if scope == "section":
        expected[1][expected[1] > 0] += 2
    np.testing.assert_array_equal(found[0], expected)
    expected[1, 8:, 16:] = expected[1, 8, 15]  # the block that failed has one section less
    np.testing.assert_array_equal(found[1], expected)
    # Each side counts by its own voxels: 2 x 140 and 2 x 118 in 3-D, half of it per section.
    few = ObjectsConfig(scope=scope, min_size_vx=130 if scope == "section" else 260)
    keys = {"told": told, "mask": tmp_path / "mask.ome.zarr"}
    assert labels_of(tmp_path / "few", values, (2, 8, 8), config, few, **keys).max() == (
        1 if scope == "volume" else 2
    )


def test_a_mask_that_is_not_given_is_missed(tmp_path: Path) -> None:
    told = {"mask": "the digest of another"}
    with pytest.raises(StoreError, match=r"within a mask that is not given \(--mask\)"):
        labels_of(tmp_path, clouds((1, 8, 8)), (1, 8, 8), StitchConfig(), told=told)


def test_objects_of_a_coarser_level_see_the_mask_of_raw(tmp_path: Path) -> None:
    """A voxel of 1 x 2 x 2 of raw is computed where the mask holds any of them."""
    values, inside = np.full((1, 1, 4, 3), 255, np.uint8), np.zeros((1, 8, 5), np.uint8)
    inside[0, 3, 4] = 1
    mask = mask_store(tmp_path / "mask.ome.zarr", inside)
    told = {"mask": content_of(mask), "downsample": [1, 2, 2]}
    labels = labels_of(
        tmp_path, values, (1, 4, 4), StitchConfig(method="threshold"), told=told, mask=mask
    )
    assert np.argwhere(labels).tolist() == [[0, 1, 2]]
    (level,) = attributes_of(tmp_path / "labels.ome.zarr")["ome"]["multiscales"][0]["datasets"]
    scale, shift = level["coordinateTransformations"]
    assert scale["scale"] == [40, 4, 4]
    assert shift["translation"] == [0, 1, 1]  # the centre of the first 2 x 2 voxels of 2 nm


def test_the_calibrated_method_is_read_from_its_file(tmp_path: Path) -> None:
    values = clouds((1, 20, 20))
    path = tmp_path / "calibration.json"
    best = {"method": "threshold", "threshold": 0.7, "value": 0.9}
    path.write_text(json.dumps({"format": 1, "best": best}))
    labels = labels_of(tmp_path / "a", values, (1, 8, 8), StitchConfig(), calibration=path)
    np.testing.assert_array_equal(labels > 0, values[0] > 0.7 * 255)
    own = StitchConfig(method="threshold", threshold=0.3)
    labels = labels_of(tmp_path / "b", values, (1, 8, 8), own, calibration=path)
    np.testing.assert_array_equal(labels > 0, values[0] > 0.3 * 255)
    labels = labels_of(tmp_path / "c", values, (1, 8, 8), StitchConfig(threshold=0.6))
    np.testing.assert_array_equal(labels > 0, values[0] > 0.6 * 255)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"format": 2, "best": {"method": "threshold"}}',
        '{"format": 1, "best": {"method": "calibrated"}}',
        '{"format": 1, "best": {"method": "threshold", "threshold": 7}}',
        '{"format": 1, "best": {"method": "threshold", "threshold": NaN}}',
        '{"format": 1, "best": {"method": "threshold", "limit": 0.5}}',
    ],
)
def test_what_is_no_calibration_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(text)
    with pytest.raises(StoreError, match=r"calibration\.json is no file of"):
        labels_of(tmp_path, clouds((1, 8, 8)), (1, 8, 8), StitchConfig(), calibration=path)


def test_an_unfinished_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        stitch_labels(
            StitchConfig(),
            objects=ALL,
            probabilities=tmp_path / "no.zarr",
            calibration=None,
            out=tmp_path / "labels.zarr",
            resources=Resources(),
        )


def test_a_block_beyond_the_memory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="one block needs about"):
        labels_of(tmp_path, clouds((1, 8, 8)), (1, 8, 8), StitchConfig(), memory_mb=100)


@pytest.mark.parametrize("method", ["threshold", "watershed"])
def test_a_killed_run_goes_on_to_the_same_bytes(
    tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = clouds((2, 16, 12))
    config = StitchConfig(method=method)
    whole = labels_of(tmp_path / "whole", values, (1, 8, 8), config)

    def write_twice(block, labels, *, out):
        if block.write.start[0] == 1:
            raise OSError("no space left on device")
        return write(block, labels, out=out)

    write = stitch._write
    monkeypatch.setattr(stitch, "_write", write_twice)
    with pytest.raises(BlockError, match="no space left"):
        labels_of(tmp_path / "cut", values, (1, 8, 8), config)
    assert not (tmp_path / "cut/labels.ome.zarr/zarr.json").exists()
    monkeypatch.setattr(stitch, "_write", write)
    resumed = labels_of(tmp_path / "cut", values, (1, 8, 8), config, threads=2)
    np.testing.assert_array_equal(resumed, whole)
    one, other = (
        (tmp_path / name / "labels.ome.zarr/zarr.json").read_bytes() for name in ("whole", "cut")
    )
    assert one == other
