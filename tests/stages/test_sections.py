"""A network that sees several sections, from volumes to probabilities (2.5-D)."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.net.exact import at_once
from tests.stages.test_augment import build, volume_of
from tests.stages.test_infer import torch_as_before
from unet_core.config import AugmentConfig, InferConfig, NetworkConfig, Resources, TrainConfig
from unet_core.errors import ConfigError
from unet_core.io.arrays import open_level
from unet_core.io.ngff import attributes_of
from unet_core.net.checkpoint import read_checkpoint
from unet_core.net.folding import folded, without_padding
from unet_core.ops.intensity import normalise, normaliser
from unet_core.stages.infer import infer_probabilities
from unet_core.stages.train import train_unet

__all__ = ["torch_as_before"]

MODEL = NetworkConfig(width=4, depth=1, channels=2, sections=5, norm="batch", dropout=0.0)
BANK = AugmentConfig(patches=4, patch=(5, 20, 20), shard_patches=2)
TRAIN = TrainConfig(steps=5, optimiser="adam", learning_rate=0.01, precision="float32")
ONE = Resources(threads=1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained on volumes of more and of fewer sections than the network sees."""
    folder = tmp_path_factory.mktemp("sections")
    volumes = [
        volume_of(folder / "a", (7, 40, 50), channels=2),
        volume_of(folder / "b", (2, 25, 30), channels=2, seed=1),
    ]
    build(BANK, volumes, folder / "bank.zarr")
    train_unet(
        TRAIN,
        model=MODEL,
        patches=folder / "bank.zarr",
        validation=folder / "bank.zarr",
        out=folder / "best.pt",
        resources=ONE,
    )
    return folder


@pytest.mark.parametrize("volume", ["a", "b"])
@torch.inference_mode()
def test_inference_of_a_trained_network_equals_one_pass_over_the_mirrored_volume(
    trained: Path, volume: str
) -> None:
    raw, out = trained / volume / "raw.ome.zarr", trained / f"{volume}.ome.zarr"
    checkpoint = read_checkpoint(trained / "best.pt")
    assert checkpoint.model == MODEL
    infer_probabilities(
        InferConfig(tile_px=8, precision="float32"),
        raw=raw,
        checkpoint=trained / "best.pt",
        out=out,
        resources=ONE,
    )
    level = open_level(raw)
    by = normaliser(attributes_of(raw)["unet"]["statistics"], "mean_std", level.dtype)
    seen = normalise(np.asarray(level[:]), by).astype(np.float64)
    network = folded(without_padding(checkpoint.network())).double()
    logits = torch.from_numpy(at_once(network, seen))
    expected = np.floor(255 * logits.softmax(dim=0)[1:].numpy() + 0.5)
    found = np.asarray(open_level(out)[:])
    assert found.shape == expected.shape == (1, *level.shape[1:])
    assert abs(found - expected).max() <= 1
    assert (found != expected).mean() < 0.01
    assert np.ptp(expected) > 20


@pytest.mark.parametrize("patch", [(1, 20, 20), (3, 20, 20), (7, 20, 20)])
def test_patches_of_another_number_of_sections_are_refused(
    trained: Path, tmp_path: Path, patch: tuple[int, int, int]
) -> None:
    volumes = [(trained / "a/raw.ome.zarr", trained / "a/weights.ome.zarr")]
    build(AugmentConfig(patches=1, patch=patch), volumes, tmp_path / "bank.zarr")
    with pytest.raises(ConfigError, match=r"the nearest augment.patch that it does: \[5, 20, 20\]"):
        train_unet(
            TRAIN,
            model=MODEL,
            patches=tmp_path / "bank.zarr",
            validation=None,
            out=tmp_path / "best.pt",
            resources=ONE,
        )
