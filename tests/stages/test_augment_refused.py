"""Banks of patches that teach nothing or too little: refused, or warned of."""

from pathlib import Path

import numpy as np
import pytest

from tests.stages.test_augment import ONE, SMALL, build, volume_of, write_weights
from unet_core.config import AugmentConfig, Resources, load
from unet_core.errors import ConfigError, PlanError, StoreError
from unet_core.io.ngff import attributes_of
from unet_core.stages.augment import build_patch_bank


def test_a_class_that_no_patch_shows_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    raw, weights = volume_of(tmp_path / "a", (1, 30, 30))
    target = np.zeros((1, 30, 30), np.uint8)
    target[:, ::2] = 2
    write_weights(weights, target, np.zeros((1, 30, 30), np.float32))
    build(SMALL, [(raw, weights)], tmp_path / "bank.zarr")
    assert "none of the 7 train patches has a voxel of class 1" in caplog.text
    counts = attributes_of(tmp_path / "bank.zarr")["unet"]["classes"]
    assert (counts[1], sum(counts)) == (0, 7 * 20 * 24)


def test_training_patches_of_one_class_are_refused_and_others_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    raw, weights = volume_of(tmp_path / "a", (1, 30, 30))
    write_weights(weights, np.zeros((1, 30, 30), np.uint8), np.zeros((1, 30, 30), np.float32))
    with pytest.raises(StoreError, match="all voxels of the 7 train patches are of class 0"):
        build(SMALL, [(raw, weights)], tmp_path / "bank.zarr")
    assert not (tmp_path / "bank.zarr" / "zarr.json").exists()
    build(SMALL, [(raw, weights)], tmp_path / "checks.zarr", training=False)
    assert "validation patches has a voxel of class 1" in caplog.text


def test_a_bank_without_annotated_voxels_is_refused(tmp_path: Path) -> None:
    raw, weights = volume_of(tmp_path / "a", (1, 30, 30))
    write_weights(weights, np.full((1, 30, 30), 255, np.uint8), np.zeros((1, 30, 30), "f4"))
    with pytest.raises(StoreError, match="none of the 7 train patches has an annotated voxel"):
        build(SMALL, [(raw, weights)], tmp_path / "bank.zarr")
    assert not (tmp_path / "bank.zarr" / "zarr.json").exists()


def test_ignored_voxels_are_counted_apart(tmp_path: Path) -> None:
    raw, weights = volume_of(tmp_path / "a", (1, 30, 30))
    target = np.ones((1, 30, 30), np.uint8)
    target[:, :15], target[:, ::4] = 255, 0
    write_weights(weights, target, np.zeros((1, 30, 30), "f4"))
    bank = build(SMALL, [(raw, weights)], tmp_path / "bank.zarr")
    assert set(np.unique(bank["target"])) == {0, 1, 255}
    unet = attributes_of(tmp_path / "bank.zarr")["unet"]
    assert unet["ignored"] == (bank["target"] == 255).sum()


def test_stores_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    a = volume_of(tmp_path / "a", (2, 30, 30))
    b = volume_of(tmp_path / "b", (2, 30, 31))
    two_channels = volume_of(tmp_path / "c", (2, 30, 30), channels=2)
    out = tmp_path / "bank.zarr"
    with pytest.raises(StoreError, match=r"has \(2, 30, 31\) voxels"):
        build(SMALL, [(a[0], b[1])], out)
    with pytest.raises(StoreError, match=r"2 channel\(s\)"):
        build(SMALL, [a, two_channels], out)
    with pytest.raises(StoreError, match="1 raw and 2 weights"):
        build_patch_bank(
            SMALL, raw=[a[0]], weights=[a[1], b[1]], training=True, out=out, resources=ONE
        )
    with pytest.raises(StoreError, match="no array 'labels/target/0'"):
        build(SMALL, [(a[0], a[0])], out)
    assert not out.exists()


def test_a_volume_without_voxels_gives_no_patch(tmp_path: Path) -> None:
    full, empty = volume_of(tmp_path / "a", (2, 30, 30)), volume_of(tmp_path / "b", (0, 30, 30))
    bank = build(SMALL, [empty, full], tmp_path / "bank.zarr")
    assert (bank["plan/volume"] == 1).all()
    with pytest.raises(StoreError, match="no volume has any voxel"):
        build(SMALL, [empty], tmp_path / "none.zarr")


def test_too_little_memory_is_refused_before_any_patch(tmp_path: Path) -> None:
    little, volume = Resources(threads=1, memory_mb=100), volume_of(tmp_path / "a", (1, 30, 30))
    with pytest.raises(PlanError, match="100 MB"):
        build(SMALL, [volume], tmp_path / "bank.zarr", resources=little)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"augment.seed must be >= 0, got -1"):
        load(AugmentConfig, {"seed": -1}, section="augment")
