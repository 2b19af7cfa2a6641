"""`unet-core import`: weights of others as checkpoints of ours."""

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import pytest
import safetensors.torch
import torch

from tests.net.originals.fill import filled, image
from tests.net.originals.milesial import Milesial
from unet_core.cli import main
from unet_core.config import NetworkConfig, PretrainedConfig
from unet_core.errors import CheckpointError
from unet_core.net.checkpoint import read_checkpoint
from unet_core.net.imports import translated
from unet_core.net.imports.transfer import begun, reordered
from unet_core.net.initial import initialise
from unet_core.net.network import Network
from unet_core.stages.import_weights import import_weights

AS_IT_IS = PretrainedConfig(normalise="none")


def original(**changes: Any) -> Milesial:
    network = Milesial(3, 2, w=8, **changes)
    network.load_state_dict(filled(network))
    return network.eval()


@pytest.mark.parametrize("name", ["w.pth", "w.pt", "w.safetensors"])
def test_what_is_imported_gives_what_the_original_gives(tmp_path: Path, name: str) -> None:
    network = original()
    if name.endswith("safetensors"):
        safetensors.torch.save_file(network.state_dict(), tmp_path / name)
    else:
        torch.save({"state_dict": network.state_dict()}, tmp_path / name)
    import_weights(AS_IT_IS, source=tmp_path / name, out=tmp_path / "best.pt")
    made = read_checkpoint(tmp_path / "best.pt")
    x = image(1, 3, 32, 48)
    with torch.inference_mode():
        torch.testing.assert_close(made.network()(x), network(x), atol=1e-5, rtol=0)
    told = json.loads((tmp_path / "model.json").read_text())
    assert (made.normalise, told["normalise"], told["model"]["channels"]) == ("none", "none", 3)


def test_importing_twice_gives_the_same_bytes_and_ours_are_taken_too(tmp_path: Path) -> None:
    torch.save(original().state_dict(), tmp_path / "w.pth")
    for source, name in (("w.pth", "a.pt"), ("w.pth", "b.pt"), ("a.pt", "c.pt")):
        import_weights(AS_IT_IS, source=tmp_path / source, out=tmp_path / name)
    a, b, c = ((tmp_path / f"{name}.pt").read_bytes() for name in "abc")
    assert a == b
    assert read_checkpoint(tmp_path / "a.pt").content == read_checkpoint(tmp_path / "c.pt").content
    assert len(c) > 0


def test_channels_in_another_order_are_shown_to_their_kernels() -> None:
    foreign = translated(original().state_dict())
    found = read_as_checkpoint(foreign.config, foreign.state)
    x = image(1, 3, 32, 32)
    turned = replace(found, state=reordered(found, [2, 0, 1])).network()
    # Channel order[i] of the volume is what channel i was.
    volume = torch.empty_like(x)
    for i, channel in enumerate([2, 0, 1]):
        volume[:, channel] = x[:, i]
    with torch.inference_mode():
        torch.testing.assert_close(turned(volume), found.network()(x), atol=1e-5, rtol=0)


def read_as_checkpoint(config: NetworkConfig, state: Any) -> Any:
    from unet_core.net.checkpoint import Checkpoint

    network = Network.of(config)
    network.load_state_dict({**network.state_dict(), **state})
    return Checkpoint(config, "none", network.state_dict())


def test_an_encoder_begins_with_its_weights_and_the_rest_is_drawn() -> None:
    had = NetworkConfig(depth=2, width=8)
    model = replace(had, up="nearest", classes=3)
    found = read_as_checkpoint(had, initialise(Network.of(had), seed=1).state_dict())
    made = begun(found, model, part="encoder", seed=5)
    drawn = initialise(Network.of(model), seed=5).state_dict()
    for key, tensor in made.state.items():
        source = found.state if key.startswith(("encoder.", "bottom.")) else drawn
        torch.testing.assert_close(tensor, source[key], atol=0, rtol=0)


def test_weights_of_another_network_are_refused_by_setting() -> None:
    had = NetworkConfig(depth=2, width=8)
    found = read_as_checkpoint(had, initialise(Network.of(had), seed=1).state_dict())
    with pytest.raises(CheckpointError, match=r"up: 'transposed' of the weights, 'nearest' under"):
        begun(found, replace(had, up="nearest"), part="network", seed=0)
    assert begun(found, replace(had, dropout=0.1), part="network", seed=0).model.dropout == 0.1


class Code:
    """What a file may hold that runs when it is read."""

    def __reduce__(self) -> Any:
        return (print, ("ran",))


@pytest.mark.parametrize("sections", [3, 5])
def test_neighbouring_sections_are_shown_to_the_kernels_of_colours(
    tmp_path: Path, sections: int
) -> None:
    torch.save(original().state_dict(), tmp_path / "w.pth")
    there = translated(original().state_dict()).config
    model = replace(there, channels=1, sections=sections)
    import_weights(AS_IT_IS, source=tmp_path / "w.pth", out=tmp_path / "best.pt", model=model)
    made = read_checkpoint(tmp_path / "best.pt")
    assert made.model == model
    x = image(1, sections, 32, 32)
    with torch.inference_mode():
        found = made.network()(x)
    colours = torch.zeros(1, 3, 32, 32)
    for section in range(sections):  # kernel i modulo 3, scaled by 3 over their number
        colours[:, section % 3] += x[:, section] * 3 / sections
    with torch.inference_mode():
        torch.testing.assert_close(found, original()(colours), atol=1e-5, rtol=0)


def test_files_with_code_or_of_nothing_known_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"a.weight": Code()}, tmp_path / "code.pth")
    (tmp_path / "text.pt").write_text("no weights")
    (tmp_path / "text.safetensors").write_text("no weights")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"a.weight": torch.zeros(3)}, tmp_path / "unknown.pth")
    with h5py.File(tmp_path / "empty.h5", "w"):
        pass
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        for record in ("data.pkl", "constants.pkl", "version"):
            archive.writestr(f"script/{record}", "3\n")
    for name, told in {
        "code.pth": "holds code",
        "script.pt": "TorchScript archive, which is code",
        "text.pt": "damaged",
        "text.safetensors": "no safetensors file",
        "list.pth": "a state dict is needed",
        "unknown.pth": "those of no system",
        "empty.h5": "holds no weights",
        "absent.pth": "does not exist",
    }.items():
        assert main(["import", str(tmp_path / name), "--out", str(tmp_path / "out.pt")]) == 1
        printed = capsys.readouterr()
        assert told in printed.err, printed.err
        assert "ran" not in printed.out
    assert not (tmp_path / "out.pt").exists()
