"""`unet-core export`: what it writes is run by the programs that it is for."""

import json
import resource
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydantic
import pytest
import torch
import yaml

from tests.stages.test_infer import statistics_of
from unet_core.cli import main
from unet_core.config.networks.settings import NetworkConfig
from unet_core.net.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from unet_core.net.initial import initialise
from unet_core.net.network import Network
from unet_core.ops.intensity import normalise as normalised
from unet_core.ops.intensity import normaliser
from unet_core.stages.export_model import _channels, _shown

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


PACKAGES: dict[str, tuple[NetworkConfig, str, str]] = {
    "sections": (replace(CONFIG, sections=3, output="sigmoid"), "mean_std", "uint16"),
    "sections of channels": (replace(CONFIG, channels=2, sections=3), "percentile", "uint8"),
    "unpadded": (NetworkConfig(width=2, depth=1, channels=3), "caffe", "float32"),
    "volumes": (NetworkConfig(width=2, depth=(0, 1, 1), dimensions=3), "none", "uint16"),
}
"""Network, augment.normalise, number type of raw."""


def test_packages_are_valid_and_give_their_results(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("bioimageio")
    if BROKEN:
        pytest.skip("bioimageio.spec 0.5.12 reads no package with pydantic 2.14")
    packages = []
    for name, (config, normalise, dtype) in PACKAGES.items():
        state = initialise(Network.of(config), seed=1).state_dict()
        write_checkpoint(tmp_path / "best.pt", Checkpoint(config, normalise, state))
        packages.append(str(tmp_path / f"{name}.zip"))
        assert export(tmp_path / "best.pt", Path(packages[-1]), *ABOUT, "--dtype", dtype) == 0
    # In a process of its own: it leaves files open, and warns.
    found = subprocess.run(
        [sys.executable, "-c", TRIED, *packages], check=True, text=True, stdout=subprocess.PIPE
    )
    assert found.stdout.splitlines()[-1] == str(["passed"] * len(PACKAGES))


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


def raw_of(config: NetworkConfig, dtype: str) -> np.ndarray:
    values = np.random.default_rng(0).random((1, config.inputs, 1, 20, 22))
    return (values * 200).astype(dtype)


@pytest.mark.parametrize("normalise", ["imagenet", "caffe", "none", "mean_std", "percentile"])
@pytest.mark.parametrize("sections", [1, 3])
def test_a_package_normalises_sections_as_training_does(normalise: str, sections: int) -> None:
    config = replace(CONFIG, sections=sections)
    raw = raw_of(config, "uint8")
    # Training sees one channel, of which the sections are statistics' voxels.
    whole = raw.reshape(1, -1)
    by = normaliser(statistics_of(whole), normalise, "uint8")  # type: ignore[arg-type]
    seen, said = _shown(Checkpoint(config, normalise, {}), raw)
    np.testing.assert_allclose(seen, normalised(whole, by).reshape(raw.shape), rtol=1e-6)
    assert len(said.offset) == sections
    assert len(set(said.offset)) == 1
    assert said.together == (sections > 1 and normalise in ("mean_std", "percentile"))


def test_sections_of_a_colour_have_the_constants_of_it() -> None:
    config = replace(CONFIG, channels=3, sections=3)
    by = normaliser(statistics_of(raw_of(CONFIG, "uint8")[0]) * 3, "imagenet", "uint8")
    _, said = _shown(Checkpoint(config, "imagenet", {}), raw_of(config, "uint8"))
    assert said.offset == tuple(np.repeat(by.offset, 3))
    assert said.scale == tuple(np.repeat(by.scale, 3))


def test_outputs_are_named_after_their_classes() -> None:
    config = replace(CONFIG, channels=2, sections=3, output="sigmoid")
    offsets = ((-1, 0, 0), (0, 0, -9))
    found = _channels(Checkpoint(config, "none", {}, offsets=offsets), "sigmoid")
    assert found.outputs == ("class1", "class2")
    assert found.inputs[:4] == ("raw0_section0", "raw0_section1", "raw0_section2", "raw1_section0")
    assert "class2: whether a voxel and that [0, 0, -9] (z, y, x) from it" in found.meaning
    assert _channels(Checkpoint(CONFIG, "none", {}), "softmax").outputs == (
        "class0",
        "class1",
        "class2",
    )


def test_a_program_says_what_it_wants(checkpoint: Path) -> None:
    made = replace(read_checkpoint(checkpoint), model=replace(CONFIG, output="sigmoid"))
    made = replace(made, state=initialise(Network.of(made.model), seed=1).state_dict())
    write_checkpoint(checkpoint, replace(made, offsets=((0, -1, 0), (0, 0, -9))))
    out = checkpoint.with_name("net.pt2")
    assert export(checkpoint, out, "--format", "torch") == 0
    files = {"unet_core.json": ""}
    torch.export.load(out, extra_files=files)
    told = json.loads(files["unet_core.json"])
    assert (told["classes"], told["affinities"]) == ([1, 2], [[0, -1, 0], [0, 0, -9]])
    assert (told["channels"], told["sections"], told["least"]) == (1, 1, [2, 2])


def test_a_size_that_decides_nothing_is_refused(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = checkpoint.with_name("net.onnx")
    assert export(checkpoint, out, "--size", "64") == 1
    assert "--size 64 is for networks" in capsys.readouterr().err
    assert not out.exists()


@contextmanager
def small_files(most: int) -> Iterator[None]:
    """No file of this process grows beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("form", ["bioimageio", "torch"])
def test_a_full_disk_leaves_what_was_there(
    checkpoint: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if form != "torch":
        pytest.importorskip("onnxscript")
    out = checkpoint.with_name("there")
    out.write_text("before")
    with small_files(4096):
        assert export(checkpoint, out, *ABOUT, "--format", form) == 1
    assert "no room for" in capsys.readouterr().err
    assert out.read_text() == "before"
    assert sorted(p.name for p in out.parent.iterdir()) == ["best.pt", "there"]


def test_what_is_no_doi_is_refused(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = checkpoint.with_name("package.zip")
    assert export(checkpoint, out, *ABOUT, "--cite", "https://doi.org/10.1000/1") == 1
    assert "give it as 10." in capsys.readouterr().err
    assert not out.exists()


def test_weights_of_another_program_are_pointed_to_import(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"inc.double_conv.0.weight": torch.zeros(3)}, tmp_path / "foreign.pth")
    assert export(tmp_path / "foreign.pth", tmp_path / "net.onnx") == 1
    assert "`unet-core import`" in capsys.readouterr().err
