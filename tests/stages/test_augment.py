import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from unet_core.config import AugmentConfig, Resources
from unet_core.errors import StoreError
from unet_core.io.arrays import create_array, open_level
from unet_core.io.ledger import building
from unet_core.io.ngff import attributes_of, content_of, multiscale
from unet_core.ops.colours import Colours
from unet_core.ops.intensity import Jitter, normalise, normaliser
from unet_core.ops.plan import Row
from unet_core.provenance import digest_of
from unet_core.stages.augment import TARGET, Volume, build_patch_bank, patch_of

ONE = Resources(threads=1)
SMALL = AugmentConfig(patches=7, validation_patches=3, patch=(1, 20, 24), shard_patches=3)
ARRAYS = ("raw", "target", "border")
PLAN = (
    *("volume", "centre", "symmetry", "flip_z", "angle", "scale"),
    *("displacement", "gain", "shift", "noise_seed", "colours"),
)
CUT: dict[str, Any] = {"chunk": (2, 16, 16), "shard": (4, 32, 32)}


def write_raw(store: Path, raw: NDArray[Any]) -> Path:
    """A raw store (c, z, y, x) with its statistics."""
    of = raw[np.isfinite(raw)].astype(float) if raw.size else np.zeros(1)
    percentiles = np.percentile(of, np.linspace(0, 100, 1001)).tolist()
    row = {"mean": float(of.mean()), "sd": float(of.std()), "min": float(of.min())}
    statistics = [{**row, "max": float(of.max()), "percentiles": percentiles}] * len(raw)
    with building(
        store, stage="convert", settings={}, inputs={"raw": digest_of([raw.tobytes()])}
    ) as b:
        create_array(b.store, "0", shape=raw.shape, dtype=raw.dtype, **CUT)[...] = raw
        b.tick("level 0", "all", digest=digest_of([raw.tobytes()]), note=None)
        ome = multiscale("raw", axes="czyx", voxel_size_nm=(1, 1, 1))
        b.publish(ome=ome, unet={"statistics": statistics})
    return store


def write_weights(store: Path, target: NDArray[np.uint8], border: NDArray[np.float32]) -> Path:
    made_from = {"target": digest_of([target.tobytes()]), "border": digest_of([border.tobytes()])}
    with building(store, stage="weights", settings={}, inputs=made_from) as b:
        create_array(b.store, "0", shape=border.shape, dtype="float32", **CUT)[...] = border
        create_array(b.store, TARGET, shape=target.shape, dtype="uint8", **CUT)[...] = target
        b.tick("weights", "all", digest=digest_of([target.tobytes()]), note=None)
        counts = np.bincount(target.ravel(), minlength=256)[:255]
        highest = max(1, int(np.flatnonzero(counts).max(initial=0)))
        unet = {"classes": counts[: highest + 1].tolist()}
        b.publish(ome=multiscale("weights", axes="zyx", voxel_size_nm=(1, 1, 1)), unet=unet)
    return store


def volume_of(
    folder: Path,
    shape: tuple[int, int, int],
    *,
    seed: int = 0,
    channels: int = 1,
    dtype: str = "u1",
) -> tuple[Path, Path]:
    rng = np.random.default_rng(seed)
    raw = rng.integers(0, 250, (channels, *shape)).astype(dtype)
    target = (rng.random(shape) > 0.3).astype(np.uint8)
    border = rng.random(shape).astype(np.float32)
    folder.mkdir()
    return (
        write_raw(folder / "raw.ome.zarr", raw),
        write_weights(folder / "weights.ome.zarr", target, border),
    )


@pytest.fixture
def volumes(tmp_path: Path) -> list[tuple[Path, Path]]:
    """One of several sections, and one of a single section smaller than a patch."""
    return [volume_of(tmp_path / "a", (5, 40, 50)), volume_of(tmp_path / "b", (1, 13, 70), seed=1)]


def build(
    config: AugmentConfig,
    volumes: Sequence[tuple[Path, Path]],
    out: Path,
    *,
    training: bool = True,
    resources: Resources = ONE,
) -> dict[str, NDArray[Any]]:
    raw, weights = zip(*volumes, strict=True)
    build_patch_bank(
        config, raw=raw, weights=weights, training=training, out=out, resources=resources
    )
    return contents(out)


def contents(out: Path) -> dict[str, NDArray[Any]]:
    names = [*ARRAYS, *(f"plan/{name}" for name in PLAN)]
    return {name: np.asarray(open_level(out, name)[...]) for name in names}


def row_in(bank: dict[str, NDArray[Any]], i: int, noise_sd: float) -> Row:
    of = {name: bank[f"plan/{name}"][i] for name in PLAN}
    z, y, x = of["centre"].tolist()
    by = Jitter(float(of["gain"]), float(of["shift"]), noise_sd, int(of["noise_seed"]))
    shift, gain, last, saturation, hue = of["colours"].tolist()
    return Row(
        volume=int(of["volume"]),
        centre=(z, y, x),
        code=int(of["symmetry"]),
        flip_z=bool(of["flip_z"]),
        angle=float(of["angle"]),
        scale=float(of["scale"]),
        grid=of["displacement"],
        jitter=by,
        colours=Colours(shift, gain, bool(last), saturation, hue),
    )


def opened(volume: tuple[Path, Path], method: Any = "mean_std") -> Volume:
    raw, weights = volume
    level = open_level(raw)
    channels, z, y, x = level.shape
    by = normaliser(attributes_of(raw)["unet"]["statistics"], method, level.dtype)
    return Volume(raw, weights, (z, y, x), channels, by)


def test_a_patch_depends_neither_on_their_number_nor_on_shards_nor_on_workers(
    tmp_path: Path, volumes: list[tuple[Path, Path]]
) -> None:
    placed = replace(
        SMALL, border_bias=0.3, foreground_share=0.3, background_chance=0.2, largest_share=0.7
    )
    first = build(placed, volumes, tmp_path / "first.zarr")
    others = {
        "more": replace(placed, patches=11, shard_patches=4),
        "single": replace(placed, shard_patches=1),
    }
    for name, config in others.items():
        bank = build(config, volumes, tmp_path / f"{name}.zarr")
        for array, data in first.items():
            np.testing.assert_array_equal(bank[array][: SMALL.patches], data, err_msg=array)
    two = build(placed, volumes, tmp_path / "two.zarr", resources=Resources(threads=2))
    for array, data in first.items():
        np.testing.assert_array_equal(two[array], data, err_msg=array)
    assert content_of(tmp_path / "two.zarr") == content_of(tmp_path / "first.zarr")


@pytest.mark.parametrize("patch", [(1, 20, 24), (3, 9, 8)])
@pytest.mark.parametrize("training", [True, False])
def test_every_patch_is_what_its_stored_row_says_bit_by_bit(
    tmp_path: Path, volumes: list[tuple[Path, Path]], patch: Any, training: bool
) -> None:
    config = replace(SMALL, patch=patch, noise_sd=0.1, rotation=True, border_bias=0.5)
    bank = build(config, volumes, tmp_path / "bank.zarr", training=training)
    assert len(bank["raw"]) == (7 if training else 3)
    for i in range(len(bank["raw"])):
        row = row_in(bank, i, 0.1 if training else 0)
        made = patch_of(row, opened(volumes[row.volume]), patch)
        for name in ARRAYS:
            np.testing.assert_array_equal(bank[name][i], getattr(made, name), err_msg=name)


def test_colours_and_scale_stand_in_the_stored_row_too(tmp_path: Path) -> None:
    volumes = [volume_of(tmp_path / "rgb", (2, 40, 50), channels=3)]
    config = replace(
        SMALL, scale=(0.5, 2.0), jitter="colours", contrast=0.5, saturation=0.5, hue=0.1
    )
    bank = build(config, volumes, tmp_path / "bank.zarr")
    assert len(np.unique(bank["plan/scale"])) == 7
    for i in range(7):
        made = patch_of(row_in(bank, i, 0), opened(volumes[0]), config.patch)
        for name in ARRAYS:
            np.testing.assert_array_equal(bank[name][i], getattr(made, name), err_msg=name)


def test_colours_of_grey_volumes_are_refused(
    tmp_path: Path, volumes: list[tuple[Path, Path]]
) -> None:
    with pytest.raises(StoreError, match=r"needs 3 channels .* has 1; set it to normalised"):
        build(replace(SMALL, jitter="colours"), volumes, tmp_path / "bank.zarr")


def test_validation_patches_are_crops_as_they_are(
    tmp_path: Path, volumes: list[tuple[Path, Path]]
) -> None:
    config = replace(SMALL, validation_patches=12, patch=(1, 9, 8))
    bank = build(config, volumes, tmp_path / "bank.zarr", training=False)
    inside = 0
    for i in range(12):
        row = row_in(bank, i, 0)
        raw, weights = volumes[row.volume]
        level, (z, y, x) = open_level(raw), row.centre
        if 4 <= y < level.shape[2] - 4 and 4 <= x < level.shape[3] - 4:
            inside += 1
            crop = (slice(z, z + 1), slice(y - 4, y + 5), slice(x - 4, x + 4))
            seen = normalise(np.asarray(level[...]), opened(volumes[row.volume]).normaliser)
            np.testing.assert_array_equal(bank["raw"][i, 0], seen[0][crop].astype(np.float16))
            np.testing.assert_array_equal(
                bank["target"][i], np.asarray(open_level(weights, TARGET)[crop])
            )
    assert inside > 3


def test_raw_target_and_border_share_one_deformation(tmp_path: Path) -> None:
    y, x = np.ogrid[:60, :60]
    disc = np.exp(-((y - 30) ** 2 + (x - 25) ** 2) / 200)[None] * np.ones((2, 1, 1))
    target = (200 * disc).round().astype(np.uint8)
    volume = (
        write_raw(tmp_path / "raw.ome.zarr", (200 * disc).astype(np.float32)[None]),
        write_weights(tmp_path / "weights.ome.zarr", target, (200 * disc).astype(np.float32)),
    )
    config = AugmentConfig(
        patches=5, patch=(2, 50, 40), normalise="none", contrast=0, brightness=0, rotation=True
    )
    bank = build(config, [volume], tmp_path / "bank.zarr")
    raw = bank["raw"][:, 0].astype(float)
    assert raw.std() > 20
    assert np.abs(raw - bank["border"]).max() < 1.5
    assert np.abs(raw - bank["target"]).max() < 13  # up to a pixel off: 8.5 per pixel at most


def test_in_reverse_order_the_middle_section_stays_the_middle(tmp_path: Path) -> None:
    volume = volume_of(tmp_path / "a", (6, 20, 20))
    config = replace(SMALL, patches=12, patch=(3, 9, 8), elastic_sd_px=0, contrast=0, brightness=0)
    bank = build(config, [volume], tmp_path / "bank.zarr")
    target = np.asarray(open_level(volume[1], TARGET)[:])
    flips = bank["plan/flip_z"]
    assert 0 < flips.sum() < len(flips)
    for i, (z, *_) in enumerate(bank["plan/centre"]):
        row = row_in(bank, i, 0)
        straight = patch_of(replace(row, flip_z=False), opened(volume), config.patch)
        np.testing.assert_array_equal(bank["target"][i, 1], straight.target[1])
        np.testing.assert_array_equal(bank["raw"][i, :, 1], straight.raw[:, 1])
        if row.code == 0:
            (y, x) = (row.centre[1] - 4, row.centre[2] - 4)
            if 0 <= y <= 11 and 0 <= x <= 12:
                np.testing.assert_array_equal(bank["target"][i, 1], target[z, y : y + 9, x : x + 8])


def test_the_attributes_say_what_training_needs(
    tmp_path: Path, volumes: list[tuple[Path, Path]]
) -> None:
    bank = build(SMALL, volumes, tmp_path / "bank.zarr")
    unet = attributes_of(tmp_path / "bank.zarr")["unet"]
    assert unet["classes"] == np.bincount(bank["target"].ravel(), minlength=2).tolist()
    assert sum(unet["classes"]) + unet["ignored"] == bank["target"].size
    assert (unet["normalise"], unet["channels"], unet["fold"]) == ("mean_std", 1, "train")
    assert unet["patch"] == [1, 20, 24]
    assert bank["raw"].dtype == bank["border"].dtype == np.float16
    assert bank["raw"].shape == (7, 1, 1, 20, 24)
    assert open_level(tmp_path / "bank.zarr", "raw").shards == (3, 1, 1, 20, 24)


def test_channels_of_16_bit_volumes_are_deformed_alike(tmp_path: Path) -> None:
    volume = volume_of(tmp_path / "a", (3, 30, 30), channels=2, dtype="u2")
    bank = build(SMALL, [volume], tmp_path / "bank.zarr")
    assert bank["raw"].shape == (7, 2, 1, 20, 24)
    assert np.isfinite(bank["raw"]).all()
    assert not np.array_equal(bank["raw"][:, 0], bank["raw"][:, 1])


def test_finished_patches_are_kept_on_a_rerun(
    tmp_path: Path, volumes: list[tuple[Path, Path]], caplog: pytest.LogCaptureFixture
) -> None:
    build(SMALL, volumes, tmp_path / "bank.zarr")
    with caplog.at_level(logging.INFO):
        build(SMALL, volumes, tmp_path / "bank.zarr")
    assert "resumed 3, computed 0" in caplog.text
    with caplog.at_level(logging.INFO):
        build(replace(SMALL, validation_patches=9), volumes, tmp_path / "bank.zarr")
    assert "starting anew" not in caplog.text
    with caplog.at_level(logging.INFO):
        build(replace(SMALL, seed=1), volumes, tmp_path / "bank.zarr")
    assert "starting anew" in caplog.text
