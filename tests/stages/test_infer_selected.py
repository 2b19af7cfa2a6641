"""Parts of a result: regions, masks, classes, coarser levels, ensembles; each as in the whole."""

import logging
from dataclasses import replace
from math import lcm
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.stages.test_infer import (
    CONFIG,
    MODEL,
    checkpoint_file,
    files_of,
    noise,
    raw_store,
    statistics_of,
    torch_as_before,
)
from tests.strategies import zyx
from unet_core.config import InferConfig, NetworkConfig, Resources
from unet_core.errors import PlanError, StoreError
from unet_core.geometry import Box, Zyx
from unet_core.io.arrays import array_digest, create_array, open_level, read, shard_of
from unet_core.io.ledger import building
from unet_core.io.ngff import attributes_of, multiscale, voxel_size_of
from unet_core.net.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from unet_core.net.initial import initialise
from unet_core.net.network import Network
from unet_core.stages.infer import infer_probabilities

__all__ = ["torch_as_before"]

CUBE = replace(MODEL, dimensions=3, depth=1, width=3)
WIDE = replace(CONFIG, tile_px=24, dtype="float16", classes=(0, 1, 2))


def infer(
    folder: Path,
    values: np.ndarray,
    *,
    shard: Zyx = (1, 16, 16),
    config: InferConfig = CONFIG,
    models: tuple[NetworkConfig, ...] = (MODEL,),
    mask: np.ndarray | None = None,
    **resources: Any,
) -> np.ndarray:
    folder.mkdir(exist_ok=True)
    checkpoints = [
        checkpoint_file(folder / f"{number}.pt", model) for number, model in enumerate(models)
    ]
    for number, path in enumerate(checkpoints[1:], start=1):
        network = initialise(Network.of(models[number]), seed=10 + number)
        write_checkpoint(path, Checkpoint(models[number], "percentile", network.state_dict()))
    out = folder / "probabilities.ome.zarr"
    infer_probabilities(
        config,
        raw=raw_store(folder / "raw.ome.zarr", values, shard),
        checkpoint=checkpoints,
        out=out,
        resources=Resources(**resources),
        mask=None if mask is None else mask_store(folder / "mask.ome.zarr", mask),
    )
    return np.asarray(open_level(out)[:])


def mask_store(store: Path, mask: np.ndarray) -> Path:
    inputs = {"file": array_digest(mask)}
    with building(store, stage="convert", settings={}, inputs=inputs) as build:
        array = create_array(
            store, "0", shape=mask.shape, dtype="uint8", chunk=(1, 8, 8), shard=(1, 16, 16)
        )
        array[:] = mask.astype("uint8")
        build.tick("copy", "all", digest=array_digest(mask), note=None)
        build.publish(ome=multiscale("mask", axes="zyx", voxel_size_nm=(1, 1, 1)), unet={})
    return store


def boxes_of(values: np.ndarray, downsample: Zyx) -> np.ndarray:
    """Mean over boxes of (c, z, y, x), fewer voxels at the far edge."""
    total = values.astype(np.float64)
    for axis, factor in enumerate(downsample, start=1):
        starts = np.arange(0, total.shape[axis], factor)
        counts = np.diff([*starts, total.shape[axis]])
        total = np.add.reduceat(total, starts, axis=axis)
        total /= counts.reshape([-1 if a == axis else 1 for a in range(4)])
    return total


@pytest.mark.parametrize("model", [MODEL, CUBE], ids=["2-D", "3-D"])
def test_a_region_is_what_the_whole_has_there_and_0_elsewhere(
    model: NetworkConfig, tmp_path: Path
) -> None:
    values = noise((1, 5, 37, 45))
    config = replace(CONFIG, tile_px=12)
    whole = infer(tmp_path / "a", values, shard=(2, 16, 16), config=config, models=(model,))
    region = ((1, 4), (3, 29), (17, 40))
    config = replace(config, region=region)
    part = infer(tmp_path / "b", values, shard=(2, 16, 16), config=config, models=(model,))
    inside = (slice(None), *(slice(*axis) for axis in region))
    expected = np.zeros_like(whole)
    expected[inside] = whole[inside]
    assert abs(part.astype(int) - expected).max() <= 1
    assert (part[expected == 0] == 0).all()
    written = {path for path in files_of(tmp_path / "b") if "/c/" in path}
    assert not any(path.endswith("/0") for path in written)  # no shard with x < 16
    level = open_level(tmp_path / "b/probabilities.ome.zarr")
    assert np.array_equal(read(level, Box((0, 0, 0), (5, 37, 45))), part), "what comes after"


def test_a_region_beside_the_volume_is_refused(tmp_path: Path) -> None:
    config = replace(CONFIG, region=((0, 1), (50, 60), (0, 9)))
    with pytest.raises(PlanError, match=r"holds no voxel of the volume, which has 1 x 20 x 20"):
        infer(tmp_path, noise((1, 1, 20, 20)), config=config)


def test_within_a_mask_the_result_is_that_of_the_whole_elsewhere_0(tmp_path: Path) -> None:
    values = noise((1, 4, 40, 50))
    whole = infer(tmp_path / "a", values, shard=(2, 16, 24))
    mask = np.zeros(values.shape[1:], bool)
    mask[1:, :20, 17:] = True
    part = infer(tmp_path / "b", values, shard=(2, 16, 24), mask=mask)
    assert np.array_equal(part, whole * mask)


def test_a_mask_of_another_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"mask of 1 x 15 x 20 voxels, raw has 1 x 20 x 20"):
        infer(tmp_path, noise((1, 1, 20, 20)), mask=np.ones((1, 15, 20), bool))


def test_classes_are_those_asked_for_with_their_names(tmp_path: Path) -> None:
    values = noise((1, 1, 20, 28))
    every = infer(tmp_path / "a", values, config=WIDE)
    some = infer(tmp_path / "b", values, config=replace(WIDE, classes=(0, 2)))
    assert np.array_equal(some, every[[0, 2]])
    assert np.allclose(every.astype(float).sum(axis=0), 1, atol=2e-3)
    told = attributes_of(tmp_path / "b/probabilities.ome.zarr")["unet"]
    assert told["channels"] == ["class 0", "class 2"]
    with pytest.raises(PlanError, match="classes 0 to 2"):
        infer(tmp_path / "c", values, config=replace(WIDE, classes=(1, 3)))


@pytest.mark.parametrize("model", [MODEL, CUBE], ids=["2-D", "3-D"])
@pytest.mark.parametrize("downsample", [(1, 2, 2), (2, 4, 2), (3, 1, 1)])
def test_a_coarser_level_is_the_mean_over_boxes(
    model: NetworkConfig, downsample: Zyx, tmp_path: Path
) -> None:
    values = noise((1, 5, 37, 45))
    keys: dict[str, Any] = {"shard": (2, 16, 16), "models": (model,)}
    fine = infer(tmp_path / "a", values, config=WIDE, **keys)
    config = replace(WIDE, downsample=downsample)
    coarse = infer(tmp_path / "b", values, config=config, **keys)
    expected = boxes_of(fine, downsample)
    assert coarse.shape == expected.shape
    assert np.allclose(coarse, expected, atol=2e-3)
    assert np.ptp(coarse) > 0.05
    size = voxel_size_of(tmp_path / "b/probabilities.ome.zarr")
    assert size == tuple(a * f for a, f in zip((50.0, 4.0, 4.0), downsample, strict=True))


def test_coarser_levels_do_not_depend_on_shards_and_tiles(tmp_path: Path) -> None:
    values = noise((1, 5, 37, 45))
    config = replace(CONFIG, tile_px=8, downsample=(2, 2, 4))
    expected = infer(tmp_path / "a", values, shard=(5, 40, 48), config=config)
    for number, (shard, tile_px) in enumerate([((1, 8, 8), 32), ((3, 16, 24), 16)]):
        again = replace(config, tile_px=tile_px)
        found = infer(tmp_path / str(number), values, shard=shard, config=again)
        assert abs(found.astype(int) - expected).max() <= 1
        assert (found != expected).mean() < 0.01
    level = open_level(tmp_path / "1/probabilities.ome.zarr")
    assert shard_of(level) == (3, 8, 6)


def test_the_mean_of_networks_of_other_depths_and_dimensions_is_their_mean(
    tmp_path: Path,
) -> None:
    values = noise((1, 4, 20, 28))
    deeper = replace(MODEL, depth=3, width=3)
    models = (MODEL, deeper, CUBE)
    config = replace(WIDE, tile_px=16)
    mean = infer(tmp_path / "all", values, config=config, models=models)
    each = []
    for number in range(3):
        folder = tmp_path / str(number)
        folder.mkdir()
        out = folder / "p.ome.zarr"
        infer_probabilities(
            config,
            raw=raw_store(folder / "raw.ome.zarr", values, (1, 16, 16)),
            checkpoint=tmp_path / f"all/{number}.pt",
            out=out,
            resources=Resources(),
        )
        each.append(np.asarray(open_level(out)[:]).astype(float))
    assert np.allclose(mean, np.mean(each, axis=0), atol=2e-3)
    assert np.ptp(each, axis=0).max() > 0.05
    told = attributes_of(tmp_path / "all/probabilities.ome.zarr")
    contents = sorted(read_checkpoint(tmp_path / f"all/{n}.pt").content for n in range(3))
    assert told["provenance"]["inputs"]["checkpoint"] == contents


def test_networks_of_other_classes_are_not_averaged(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="2 and 3 classes cannot be averaged"):
        infer(tmp_path, noise((1, 1, 20, 20)), models=(MODEL, replace(MODEL, classes=2)))


@given(
    start=zyx(0, 20),
    size=zyx(1, 30),
    downsample=zyx(1, 3),
    shards=zyx(1, 4),
    dense=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=6)
def test_any_region_within_any_mask_at_any_level_is_what_the_whole_has_there(
    tmp_path_factory: pytest.TempPathFactory,
    start: Zyx,
    size: Zyx,
    downsample: Zyx,
    shards: Zyx,
    dense: bool,
    seed: int,
) -> None:
    folder, shape = tmp_path_factory.mktemp("part"), (5, 25, 29)
    values = noise((1, *shape))
    whole = infer(folder / "a", values, shard=(5, 32, 32), config=replace(WIDE, tile_px=48))
    z, y, x = (min(a, n - 1) for a, n in zip(start, shape, strict=True))
    region = ((z, z + size[0]), (y, y + size[1]), (x, x + size[2]))
    mask = np.random.default_rng(seed).random(shape) < (0.9 if dense else 0.003)
    tile_px = 4 * lcm(*downsample[1:])
    config = replace(WIDE, tile_px=tile_px, downsample=downsample, region=region)
    shard = (shards[0], 8 * shards[1], 8 * shards[2])
    part = infer(folder / "b", values, shard=shard, config=config, mask=mask)
    asked = np.zeros(shape)
    asked[tuple(slice(*axis) for axis in region)] = 1
    computed = [boxes_of(inside[None], downsample)[0] > 0 for inside in (asked, mask)]
    expected = boxes_of(whole, downsample) * computed[0] * computed[1]
    assert np.allclose(part, expected, rtol=0, atol=1e-3)
    assert (part[:, ~(computed[0] & computed[1])] == 0).all()


def test_blocks_of_one_value_and_outside_of_the_mask_are_skipped_and_counted(
    tmp_path: Path,
) -> None:
    values = np.full((1, 3, 64, 64), 7, np.uint8)
    values[0, 1] = noise((64, 64))
    mask = np.ones((3, 64, 64), bool)
    mask[1, :32] = False
    known = statistics_of(values)
    raw_store(tmp_path / "known.ome.zarr", values, (1, 32, 32), known)
    for number, tile_px in enumerate((16, 64)):
        config = replace(CONFIG, tile_px=tile_px)
        infer(tmp_path / str(number), values, shard=(1, 32, 32), mask=mask, config=config)
        told = attributes_of(tmp_path / f"{number}/probabilities.ome.zarr")["unet"]
        assert told["skipped"] == round((8 + 2) / 12, 6)
    infer(tmp_path / "none", noise((1, 1, 20, 20)))
    assert attributes_of(tmp_path / "none/probabilities.ome.zarr")["unet"]["skipped"] == 0


def test_a_result_in_parts_is_resumed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    values = noise((1, 4, 32, 32))
    config = replace(CONFIG, downsample=(2, 2, 2), region=((0, 4), (0, 32), (16, 32)))
    infer(tmp_path, values, config=config, models=(MODEL, CUBE))
    before = files_of(tmp_path)
    ledger = tmp_path / "probabilities.ome.zarr.ledger.jsonl"
    lines = ledger.read_text().splitlines()
    kept = [line for line in lines if '"step": "published"' not in line][:-1]
    ledger.write_text("\n".join(kept) + "\n")
    (tmp_path / "probabilities.ome.zarr.scratch").mkdir()
    with caplog.at_level(logging.INFO):
        infer(tmp_path, values, config=config, models=(MODEL, CUBE))
    assert "infer: resumed 3, computed 1" in caplog.messages
    assert files_of(tmp_path) == before
