"""`unet-core export`: what it writes is run by the programs that it is for."""

import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pydantic
import pytest
import torch
import yaml

from unet_core.cli import main
from unet_core.config.networks.settings import NetworkConfig
from unet_core.net.checkpoint import Checkpoint, write_checkpoint
from unet_core.net.initial import initialise
from unet_core.net.network import Network

CONFIG = NetworkConfig(width=2, depth=1, padding="same", norm="batch", classes=3)
BROKEN = pydantic.VERSION.split(".")[:2] >= ["2", "14"]
"""bioimageio.spec 0.5.12 and this pydantic."""


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "best.pt"
    state = initialise(Network.of(CONFIG), seed=1).state_dict()
    write_checkpoint(path, Checkpoint(CONFIG, "mean_std", state))
    return path


def export(checkpoint: Path, out: Path, *options: str) -> int:
    return main(["export", str(checkpoint), "--out", str(out), *options])


ABOUT = ["--format", "bioimageio", "--author", "A. Name", "--license", "CC-BY-4.0"]


TRIED = "import sys, bioimageio.core as b; print([b.test_model(p).status for p in sys.argv[1:]])"


def test_packages_are_valid_and_give_their_results(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    packages = []
    for normalise, dtype in ("mean_std", "uint16"), ("percentile", "uint8"), ("caffe", "float32"):
        config = replace(CONFIG, channels=3 if normalise == "caffe" else 1)
        state = initialise(Network.of(config), seed=1).state_dict()
        write_checkpoint(tmp_path / "best.pt", Checkpoint(config, normalise, state))
        packages.append(str(tmp_path / f"{normalise}.zip"))
        assert export(tmp_path / "best.pt", Path(packages[-1]), *ABOUT, "--dtype", dtype) == 0
    pytest.importorskip("bioimageio")
    if BROKEN:
        pytest.skip("bioimageio.spec 0.5.12 reads no package with pydantic 2.14")
    # In a process of its own: it leaves files open, and warns.
    found = subprocess.run(
        [sys.executable, "-c", TRIED, *packages], check=True, text=True, stdout=subprocess.PIPE
    )
    assert found.stdout.splitlines()[-1] == str(["passed"] * 3)


def test_a_package_says_how_to_lay_tiles(checkpoint: Path) -> None:
    pytest.importorskip("onnxscript")
    out = checkpoint.with_name("package.zip")
    assert export(checkpoint, out, *ABOUT, "--name", "membranes", "--cite", "10.1000/1") == 0
    with zipfile.ZipFile(out) as package:
        told = yaml.safe_load(package.read("bioimageio.yaml"))
        assert {"weights.onnx", "test_input.npy", "test_output.npy"} <= set(package.namelist())
    assert told["name"] == "membranes"
    assert [each["doi"] for each in told["cite"]][1:] == ["10.1000/1"]
    (seen,), (made,) = told["inputs"], told["outputs"]
    assert seen["axes"][2]["size"] == {"min": 18, "step": 2}
    assert made["axes"][3] == {
        "type": "space",
        "id": "x",
        "size": {"tensor_id": "raw", "axis_id": "x", "offset": 0},
        "halo": 8,
    }
    assert made["axes"][1]["channel_names"] == ["class0", "class1", "class2"]


def test_an_onnx_file_says_what_it_wants(checkpoint: Path) -> None:
    onnx = pytest.importorskip("onnx")
    out = checkpoint.with_name("net.onnx")
    assert export(checkpoint, out) == 0
    model = onnx.load(out)
    onnx.checker.check_model(model)
    told = json.loads({each.key: each.value for each in model.metadata_props}["unet_core"])
    assert (told["normalise"], told["output"], told["step"]) == ("mean_std", "softmax", [2, 2])


def test_a_program_gives_probabilities(checkpoint: Path) -> None:
    out = checkpoint.with_name("net.pt2")
    assert export(checkpoint, out, "--format", "torch") == 0
    found = torch.export.load(out).module()(torch.randn(1, 1, 20, 22))
    assert found.shape == (1, 3, 20, 22)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(1, 20, 22))


def test_a_package_needs_its_makers(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = checkpoint.with_name("package.zip")
    assert export(checkpoint, out, "--format", "bioimageio") == 1
    assert "--author and --license" in capsys.readouterr().err
    assert not out.exists()
