"""What a checkpoint keeps, and what is refused as one."""

import os
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from unet_core.config import NetworkConfig
from unet_core.errors import CheckpointError
from unet_core.net.checkpoint import (
    Checkpoint,
    fill,
    read_checkpoint,
    read_state,
    state_digest,
    write_checkpoint,
    write_state,
)
from unet_core.net.initial import initialise
from unet_core.net.network import Network

SMALL = NetworkConfig(width=4, depth=1, norm="batch", padding="same")


def checkpoint(seed: int = 0) -> Checkpoint:
    return Checkpoint(SMALL, "mean_std", initialise(Network.of(SMALL), seed=seed).state_dict())


def test_what_is_written_is_read(tmp_path: Path) -> None:
    written = checkpoint()
    write_checkpoint(tmp_path / "best.pt", written)
    read = read_checkpoint(tmp_path / "best.pt")
    assert (read.model, read.normalise, read.content) == (SMALL, "mean_std", written.content)
    assert read.patch is None
    write_checkpoint(tmp_path / "best.pt", replace(written, patch=(1, 8, 16)))
    assert read_checkpoint(tmp_path / "best.pt").patch == (1, 8, 16)
    write_checkpoint(tmp_path / "best.pt", replace(written, offsets=((0, -1, 0),)))
    assert read_checkpoint(tmp_path / "best.pt").offsets == ((0, -1, 0),)
    network = read.network()
    assert not network.training
    x = torch.ones(1, 1, 8, 8)
    expected = initialise(Network.of(SMALL), seed=0).eval()(x)
    assert torch.equal(network(x), expected)


def test_a_checkpoint_of_the_first_settings_is_read(tmp_path: Path) -> None:
    model = {
        "dimensions": 2, "channels": 1, "sections": 1, "classes": 2, "width": 4, "depth": 1,
        "convolutions": 2, "padding": "same", "norm": "batch", "activation": "relu",
        "up": "bilinear", "dropout": 0.5,
    }  # fmt: skip
    blocks = {"encoder.0": (1, 4), "bottom": (4, 8), "decoder.0": (8, 4)}
    state = {"head.weight": (2, 4, 1, 1), "head.bias": (2,)}
    state |= {"ups.0.convolution.weight": (4, 8, 1, 1), "ups.0.convolution.bias": (4,)}
    for name, (inputs, outputs) in blocks.items():
        for number, given in ((0, inputs), (3, outputs)):
            state[f"{name}.{number}.weight"] = (outputs, given, 3, 3)
            norms = ("weight", "bias", "running_mean", "running_var")
            state |= {f"{name}.{number + 1}.{norm}": (outputs,) for norm in norms}
            state[f"{name}.{number + 1}.num_batches_tracked"] = ()
    content = {"format": 1, "model": model, "normalise": "mean_std"}
    filled = {name: torch.zeros(shape) for name, shape in state.items()}
    write_state(tmp_path / "best.pt", {**content, "state": filled})
    assert read_checkpoint(tmp_path / "best.pt").network()(torch.ones(1, 1, 8, 8)).shape[1:] == (
        2,
        8,
        8,
    )


def test_equal_checkpoints_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_checkpoint(tmp_path / name, checkpoint(seed=1 if name == "c" else 0))
    a, b, c = ((tmp_path / name).read_bytes() for name in ("a", "b", "c"))
    assert a == b != c
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b", "c"]


def test_the_digest_sees_values_names_and_types() -> None:
    state = {"a": torch.zeros(2), "b": torch.ones(3)}
    digests = {
        state_digest(s)
        for s in (
            state,
            {**state, "b": torch.tensor([1.0, 1.0, 1.0 + 1e-7])},
            {"a": state["a"], "c": state["b"]},
            {**state, "a": torch.zeros(2, dtype=torch.float64)},
            {**state, "a": torch.zeros(1, 2)},
        )
    }
    assert len(digests) == 5
    assert state_digest(dict(reversed(state.items()))) == state_digest(state)


class Hostile:
    def __reduce__(self) -> tuple:
        return os.system, ("touch pwned",)


def test_a_file_with_code_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"format": 1, "state": Hostile()}, "hostile.pt")
    Path("plain.pt").write_bytes(pickle.dumps(Hostile(), protocol=2))
    for name in ("hostile.pt", "plain.pt"):
        with pytest.raises(CheckpointError, match="refused"):
            read_checkpoint(Path(name))
    assert not Path("pwned").exists()


def test_damaged_absent_and_foreign_files_are_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "best.pt", checkpoint())
    whole = (tmp_path / "best.pt").read_bytes()
    (tmp_path / "half.pt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.pt").write_bytes(b"")
    write_state(tmp_path / "other.pt", {"state_dict": {}})
    for name in ("half.pt", "empty.pt", "other.pt", "absent.pt"):
        with pytest.raises(CheckpointError, match="train"):
            read_checkpoint(tmp_path / name)


def test_affinities_of_another_number_of_classes_are_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "best.pt", replace(checkpoint(), offsets=((0, -1, 0),) * 2))
    with pytest.raises(CheckpointError, match="2 affinities of a network with 2 classes"):
        read_checkpoint(tmp_path / "best.pt")


def test_an_architecture_that_cannot_be_built_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "best.pt", checkpoint())
    content = read_state(tmp_path / "best.pt")
    write_state(tmp_path / "best.pt", {**content, "model": {**content["model"], "depth": -1}})
    with pytest.raises(CheckpointError, match=r"model\.depth must be >= 1"):
        read_checkpoint(tmp_path / "best.pt")


def test_weights_of_another_network_are_refused_naming_the_differences() -> None:
    wide = Network.of(NetworkConfig(width=8, depth=1, norm="batch", padding="same"))
    with pytest.raises(CheckpointError, match=r"encoder\.0\.0\.weight: needed \(8, .*given \(4"):
        fill(wide, checkpoint().state)
    missing = {k: v for k, v in checkpoint().state.items() if k != "head.bias"}
    with pytest.raises(CheckpointError, match=r"head\.bias: needed \(2,\), given nothing"):
        Checkpoint(SMALL, "none", missing).network()
