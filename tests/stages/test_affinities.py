"""Stores of affinities, and objects of the mean of several classes."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.stages.test_augment import SMALL, build, volume_of, write_raw
from tests.stages.test_infer import torch_as_before
from tests.stages.test_stitch import clouds, labels_of
from tests.stages.test_weights import cells, write_truth
from unet_core.config import (
    InferConfig,
    NetworkConfig,
    ObjectsConfig,
    Resources,
    StitchConfig,
    TrainConfig,
    WeightsConfig,
)
from unet_core.errors import ConfigError, PlanError, StoreError
from unet_core.io.arrays import open_level
from unet_core.io.ngff import attributes_of
from unet_core.net.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from unet_core.stages.infer import infer_probabilities
from unet_core.stages.train import train_unet
from unet_core.stages.weights import OBJECTS, TARGET, compute_weights

__all__ = ["torch_as_before"]

ONE = Resources(threads=1)
OFFSETS = ((-1, 0, 0), (0, 0, 5))


def weighed(folder: Path, config: WeightsConfig, *, shard: tuple[int, int, int]) -> Path:
    folder.mkdir()
    truth = write_truth(folder / "truth.ome.zarr", cells((3, 30, 40)), shard=shard)
    compute_weights(config, truth=truth, out=folder / "weights.ome.zarr", resources=ONE)
    return folder / "weights.ome.zarr"


def test_weights_keep_the_ids_beside_what_they_hold_without_affinities(tmp_path: Path) -> None:
    plain = weighed(tmp_path / "plain", WeightsConfig(), shard=(2, 16, 16))
    store = weighed(tmp_path / "other", WeightsConfig(affinities=OFFSETS), shard=(3, 32, 48))
    np.testing.assert_array_equal(open_level(store, OBJECTS)[...], cells((3, 30, 40)))
    for name in ("0", TARGET):
        np.testing.assert_array_equal(open_level(store, name)[...], open_level(plain, name)[...])
    assert attributes_of(store)["unet"]["affinities"] == [list(offset) for offset in OFFSETS]
    assert "affinities" not in attributes_of(plain)["unet"]


def test_classes_have_no_affinities(tmp_path: Path) -> None:
    ids = np.zeros((1, 8, 8), np.uint32)
    truth = write_truth(tmp_path / "truth.ome.zarr", ids, kind="semantic")
    with pytest.raises(ConfigError, match="needs objects"):
        compute_weights(
            WeightsConfig(affinities=OFFSETS),
            truth=truth,
            out=tmp_path / "weights.ome.zarr",
            resources=ONE,
        )


def test_volumes_with_other_affinities_make_no_bank(tmp_path: Path) -> None:
    store = weighed(tmp_path / "other", WeightsConfig(affinities=OFFSETS), shard=(3, 32, 48))
    raw = write_raw(tmp_path / "raw.ome.zarr", np.zeros((1, 3, 30, 40), np.uint8))
    volumes = [volume_of(tmp_path / "a", (5, 40, 50)), (raw, store)]
    with pytest.raises(StoreError, match="differ in their affinities"):
        build(SMALL, volumes, tmp_path / "bank.zarr")


@pytest.mark.parametrize(
    ("network", "told"),
    [
        ({"classes": 3}, r"sigmoid and model.classes 3 \(one more\), got softmax and 3"),
        ({"output": "sigmoid"}, "model.classes 3 .*got sigmoid and 2"),
        ({"output": "sigmoid", "classes": 3}, r"\[-1, 0, 0\] leads out of every augment.patch"),
    ],
)
def test_a_network_with_other_outputs_is_refused(
    tmp_path: Path, network: dict[str, object], told: str
) -> None:
    store = weighed(tmp_path / "other", WeightsConfig(affinities=OFFSETS), shard=(3, 32, 48))
    raw = write_raw(tmp_path / "raw.ome.zarr", np.zeros((1, 3, 30, 40), np.uint8))
    build(SMALL, [(raw, store)], tmp_path / "bank.zarr")
    with pytest.raises(ConfigError, match=told):
        train_unet(
            TrainConfig(steps=1),
            model=NetworkConfig(width=4, depth=1, padding="same", **network),  # type: ignore[arg-type]
            patches=tmp_path / "bank.zarr",
            validation=None,
            out=tmp_path / "best.pt",
            resources=ONE,
        )


def test_a_network_says_which_affinities_it_predicts(tmp_path: Path) -> None:
    offsets = ((0, -1, 0), (0, 0, 5))
    store = weighed(tmp_path / "other", WeightsConfig(affinities=offsets), shard=(3, 32, 48))
    raw = write_raw(tmp_path / "raw.ome.zarr", np.zeros((1, 3, 30, 40), np.uint8))
    build(SMALL, [(raw, store)], tmp_path / "bank.zarr")
    model = NetworkConfig(width=2, depth=1, padding="same", output="sigmoid", classes=3)
    train_unet(
        TrainConfig(steps=1),
        model=model,
        patches=tmp_path / "bank.zarr",
        validation=None,
        out=tmp_path / "best.pt",
        resources=ONE,
    )
    made = read_checkpoint(tmp_path / "best.pt")
    assert made.offsets == offsets
    told = json.loads((tmp_path / "model.json").read_text())
    assert told["affinities"] == [list(offset) for offset in offsets]
    infer(tmp_path, [made], out="probabilities.ome.zarr")
    with pytest.raises(PlanError, match="averaging turns is not for a network of affinities"):
        infer(tmp_path, [made], averaging="turns")
    with pytest.raises(PlanError, match="networks of other affinities"):
        infer(tmp_path, [made, replace(made, offsets=())])


def infer(folder: Path, members: list[Checkpoint], out: str = "none.ome.zarr", **keys: Any) -> None:
    paths = [folder / f"{number}.pt" for number in range(len(members))]
    for path, member in zip(paths, members, strict=True):
        write_checkpoint(path, member)
    infer_probabilities(
        InferConfig(precision="float32", tile_px=8, **keys),
        raw=folder / "raw.ome.zarr",
        checkpoint=paths,
        out=folder / out,
        resources=ONE,
    )


@pytest.mark.parametrize("method", ["threshold", "watershed"])
@pytest.mark.parametrize("shard", [(3, 40, 32), (2, 12, 16)])
def test_objects_of_several_classes_are_those_of_their_mean(
    tmp_path: Path, method: str, shard: tuple[int, int, int]
) -> None:
    values = np.concatenate([clouds((3, 37, 30), seed) for seed in range(3)])
    rounded = np.floor(values[[0, 2]].mean(axis=0) + 0.5).astype(np.uint8)[None]
    config = StitchConfig(method=method, threshold=0.5, smoothing_px=0.8, depth=0.02)  # type: ignore[arg-type]
    keys = {"scope": "volume", "min_size_vx": 5}
    mean = labels_of(tmp_path / "mean", rounded, shard, config, ObjectsConfig(**keys))
    several = ObjectsConfig(foreground=(1, 3), **keys)
    found = labels_of(tmp_path / "several", values, shard, config, several)
    assert found.max() > 1
    np.testing.assert_array_equal(found, mean)


def test_a_class_of_several_that_is_not_stored_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"objects.foreground is class 2"):
        labels_of(
            tmp_path, clouds((1, 8, 8)), (1, 8, 8), StitchConfig(), ObjectsConfig(foreground=(1, 2))
        )
