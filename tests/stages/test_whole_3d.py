"""Networks that see several sections, from files to scores: of classes and of affinities."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.stages.test_infer import torch_as_before
from unet_core.config import (
    AugmentConfig,
    CalibrateConfig,
    ConvertConfig,
    InferConfig,
    NetworkConfig,
    ObjectsConfig,
    Resources,
    ScoreConfig,
    StitchConfig,
    TrainConfig,
    TruthConfig,
    VolumeConfig,
    WeightsConfig,
)
from unet_core.io.arrays import open_level
from unet_core.io.ngff import attributes_of
from unet_core.ops.affinities import affinities_of
from unet_core.stages.augment import build_patch_bank
from unet_core.stages.calibrate import calibrate_objects
from unet_core.stages.convert import convert_volume
from unet_core.stages.infer import infer_probabilities
from unet_core.stages.phantom import write_phantom
from unet_core.stages.score import score_volume
from unet_core.stages.stitch import stitch_labels
from unet_core.stages.train import train_unet
from unet_core.stages.weights import compute_weights

__all__ = ["torch_as_before"]

pytestmark = pytest.mark.slow

SHAPE = (14, 80, 96)
OFFSETS = ((-1, 0, 0), (0, -1, 0), (0, 0, -1), (2, 0, 0), (0, -9, 0), (0, 0, 9))
MODEL = NetworkConfig(
    dimensions=3, width=6, depth=(0, 1, 1), kernels=((1, 3, 3), (3, 3, 3)), norm="batch", dropout=0
)
TRAIN = TrainConfig(
    steps=120, optimiser="adam", learning_rate=0.01, precision="float32", class_weights=(3, 1)
)
ONE = Resources(threads=1)


@dataclass(frozen=True)
class Kind:
    """What is learnt, by which network, and what objects are made of."""

    network: NetworkConfig
    patch: tuple[int, int, int] = (8, 52, 52)
    offsets: tuple[tuple[int, int, int], ...] = ()
    foreground: int | tuple[int, ...] = 1


KINDS = {
    "sections": Kind(NetworkConfig(sections=3, width=6, depth=1, norm="batch"), (3, 52, 52)),
    "classes": Kind(MODEL),
    "affinities": Kind(
        replace(MODEL, output="sigmoid", classes=len(OFFSETS) + 1),
        offsets=OFFSETS,
        foreground=(1, 2, 3),
    ),
}


@dataclass(frozen=True)
class Run:
    """Everything of one kind, cut into shards of one size."""

    folder: Path
    kind: Kind

    def store(self, name: str) -> Path:
        return self.folder / f"{name}.ome.zarr"

    def voxels(self, name: str, path: str = "0") -> np.ndarray[Any, Any]:
        return np.asarray(open_level(self.store(name), path)[...])

    def convert(self, files: Path, shard: tuple[int, int, int]) -> None:
        cut = ConvertConfig(chunk=(2, 16, 16), shard=shard, smallest_level_px=64)
        for name, truth in (("raw", None), ("truth", TruthConfig())):
            convert_volume(
                cut,
                volume=VolumeConfig(),
                truth=truth,
                raw=str(files / f"{name}.tif"),
                out=self.store(name),
                resources=ONE,
            )
        out, config = self.store("weights"), WeightsConfig(affinities=self.kind.offsets)
        compute_weights(config, truth=self.store("truth"), out=out, resources=ONE)

    def learn(self) -> None:
        config = AugmentConfig(
            patches=24, validation_patches=2, patch=self.kind.patch, shard_patches=8
        )
        for fold in ("train", "validation"):
            build_patch_bank(
                config,
                raw=[self.store("raw")],
                weights=[self.store("weights")],
                training=fold == "train",
                out=self.folder / f"{fold}.zarr",
                resources=ONE,
            )
        train_unet(
            TRAIN,
            model=self.kind.network,
            patches=self.folder / "train.zarr",
            validation=self.folder / "validation.zarr",
            out=self.folder / "best.pt",
            resources=ONE,
        )

    def apply(self, checkpoint: Path) -> dict[str, Any]:
        infer = InferConfig(tile_px=16, precision="float32")
        raw, made, labels = (self.store(name) for name in ("raw", "probabilities", "labels"))
        infer_probabilities(infer, raw=raw, checkpoint=checkpoint, out=made, resources=ONE)
        objects = ObjectsConfig(foreground=self.kind.foreground, scope="volume", min_size_vx=30)
        calibration = self.folder / "calibration.json"
        calibrate_objects(
            CalibrateConfig(measure="adapted_rand", smoothing_px=(0.0, 1.0), depths=(0.05, 0.2)),
            objects=objects,
            probabilities=[made],
            truth=[self.store("truth")],
            out=calibration,
            resources=ONE,
        )
        stitch_labels(
            StitchConfig(),
            objects=objects,
            probabilities=made,
            calibration=calibration,
            out=labels,
            resources=ONE,
        )
        score_volume(
            ScoreConfig(isbi=False),
            objects=objects,
            probabilities=made,
            labels=labels,
            truth=self.store("truth"),
            calibration=calibration,
            out=self.folder / "scores.json",
            resources=ONE,
        )
        scores: dict[str, Any] = json.loads((self.folder / "scores.json").read_text())
        return scores


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    write_phantom(shape=SHAPE, seed=1, out=folder)
    return folder


@pytest.fixture(scope="module", params=KINDS)
def trained(request: pytest.FixtureRequest, files: Path) -> Run:
    folder: Path = files / request.param
    folder.mkdir()
    run = Run(folder, KINDS[request.param])
    run.convert(files, (14, 80, 96))
    run.learn()
    return run


def test_a_volume_is_segmented_the_same_whatever_its_shards(trained: Run, files: Path) -> None:
    scores = trained.apply(trained.folder / "best.pt")
    (trained.folder / "cut").mkdir()
    other = Run(trained.folder / "cut", trained.kind)
    other.convert(files, (4, 32, 48))
    assert other.apply(trained.folder / "best.pt")["objects"] == scores["objects"]
    assert trained.voxels("labels").max() > 5
    for name in ("weights", "probabilities", "labels"):
        np.testing.assert_array_equal(other.voxels(name), trained.voxels(name))


def test_objects_are_far_better_than_one_for_all(trained: Run) -> None:
    scores = trained.apply(trained.folder / "best.pt")
    assert scores["objects"]["adapted_rand_error"]["pairs_zero_is_label"]["error"] < 0.3


def test_a_bank_holds_what_the_network_learns(trained: Run) -> None:
    bank = trained.folder / "validation.zarr"
    target = np.asarray(open_level(bank, "target")[...])
    offsets, shape = trained.kind.offsets, trained.kind.patch
    told = attributes_of(bank)["unet"]
    assert told.get("affinities", []) == [list(offset) for offset in offsets]
    counts = np.bincount(target.ravel(), minlength=256)
    assert [*told["classes"], told["ignored"]] == [counts[0], counts[1], counts[255]]
    if not offsets:
        assert target.shape == (2, *shape)
        return
    ids = trained.voxels("weights", "labels/objects/0")
    np.testing.assert_array_equal(ids, trained.voxels("truth"))
    for patch, centre in zip(target, open_level(bank, "plan/centre")[...], strict=True):
        low = [int(c) - n // 2 for c, n in zip(centre, shape, strict=True)]
        padded = np.pad(ids, 60, constant_values=2**32 - 1)
        seen = tuple(slice(a + 60, a + 60 + n) for a, n in zip(low, shape, strict=True))
        np.testing.assert_array_equal(patch, affinities_of(padded[seen], offsets))
