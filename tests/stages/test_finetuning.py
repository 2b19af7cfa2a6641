"""Training that begins with weights of a file: what stays, what changes how fast, what is kept."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.stages.test_train import CONFIG, MODEL, files, write_bank
from unet_core.config import Resources, TrainConfig
from unet_core.errors import CheckpointError, ConfigError
from unet_core.net.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from unet_core.net.initial import initialise
from unet_core.net.network import Network
from unet_core.stages import train as stage
from unet_core.stages.train import train_unet

SHORT = replace(CONFIG, steps=6, validate_every=2)


@pytest.fixture
def start(tmp_path: Path) -> Path:
    """A checkpoint of the network, its weights not those that training draws."""
    network = initialise(Network.of(MODEL), seed=77)
    path = tmp_path / "initial.pt"
    write_checkpoint(path, Checkpoint(MODEL, "mean_std", network.state_dict()))
    return path


def tuned(folder: Path, start: Path, config: TrainConfig) -> Path:
    bank = folder.parent / "bank.zarr"
    if not bank.exists():
        write_bank(bank)
    out = folder / "best.pt"
    train_unet(
        config,
        model=MODEL,
        patches=bank,
        validation=None,
        initial=start,
        out=out,
        resources=Resources(),
    )
    return out


def test_a_frozen_encoder_stays_to_the_bit_and_the_rest_learns(tmp_path: Path, start: Path) -> None:
    made = read_checkpoint(tuned(tmp_path / "a", start, replace(SHORT, frozen="encoder"))).state
    before = read_checkpoint(start).state
    frozen = {name for name in before if name.startswith(("encoder", "bottom"))}
    assert any("running_mean" in name for name in frozen)
    assert {name for name in before if torch.equal(before[name], made[name])} == frozen


def test_without_it_all_weights_change(tmp_path: Path, start: Path) -> None:
    made = read_checkpoint(tuned(tmp_path / "a", start, SHORT)).state
    before = read_checkpoint(start).state
    assert not [name for name in before if torch.equal(before[name], made[name])]


def test_a_run_that_goes_on_gives_the_same_bytes(
    tmp_path: Path, start: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(SHORT, frozen="encoder", layer_decay=0.5)
    whole = files(tuned(tmp_path / "a", start, config))
    save = stage._save

    def ended(*given: object) -> None:
        save(*given)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stage, "_save", ended)
        with pytest.raises(KeyboardInterrupt):
            tuned(tmp_path / "b", start, config)
    assert files(tuned(tmp_path / "b", start, config)) == whole


def test_weights_of_other_intensities_or_networks_are_refused(tmp_path: Path, start: Path) -> None:
    found = read_checkpoint(start)
    write_checkpoint(tmp_path / "other.pt", replace(found, normalise="none"))
    with pytest.raises(ConfigError, match=r"normalised by none, the patches by mean_std"):
        tuned(tmp_path / "a", tmp_path / "other.pt", SHORT)
    wide = replace(MODEL, width=16)
    state = Network.of(wide).state_dict()
    write_checkpoint(tmp_path / "wide.pt", Checkpoint(wide, "mean_std", state))
    with pytest.raises(CheckpointError, match="differ"):
        tuned(tmp_path / "a", tmp_path / "wide.pt", SHORT)
