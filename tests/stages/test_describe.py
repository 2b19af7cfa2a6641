"""What `unet-core describe` says of the presets."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from unet_core.cli import main
from unet_core.config.networks.geometry import geometry_of, nearest_input_size
from unet_core.config.presets import read_model

PRESETS = [
    path.with_name(path.name.replace("ENCODER", "resnet18"))
    for path in sorted((Path(__file__).parents[2] / "config/models").glob("*.yaml"))
]


def test_the_numbers_of_the_paper(capsys: pytest.CaptureFixture[str]) -> None:
    paper = next(p for p in PRESETS if p.stem == "paper")
    assert main(["describe", str(paper), "--size", "572", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["parameters"] == 31_030_658
    assert facts["convolutions"] == 23
    assert (facts["halo_px"], facts["stride_px"], facts["output_size"]) == (92, 16, 388)
    assert facts["input_sizes"][:2] == [188, 204]
    assert facts["multiply_adds_per_voxel"] == 999_232


@pytest.mark.parametrize("preset", PRESETS, ids=lambda p: p.stem)
def test_every_preset_can_be_described(preset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", str(preset)]) == 0
    chosen = read_model(preset, {})
    told, found = capsys.readouterr().out, geometry_of(chosen.model)
    assert f"size {nearest_input_size(chosen.model, 572)}:" in told
    assert (found.inexact or "as if the volume were seen at once") in told
    assert ("none is enough" in told) == (found.inexact is not None)
    assert chosen.train.steps % chosen.train.validate_every == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model:\n  widht: 3\n", "did you mean width"),
        ("models: {}\n", "has the sections model, train"),
        ("model: [\n", "not YAML"),
        (None, "cannot be read"),
    ],
)
def test_what_is_no_preset_is_refused(
    text: str | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if text is not None:
        (tmp_path / "preset.yaml").write_text(text)
    assert main(["describe", str(tmp_path / "preset.yaml")]) == 1
    assert message in capsys.readouterr().err


def test_a_size_that_is_not_accepted_names_the_nearest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    paper = next(p for p in PRESETS if p.stem == "paper")
    assert main(["describe", str(paper), "--size", "512"]) == 1
    assert "508" in capsys.readouterr().err


def test_a_reader_that_wants_no_more_is_no_error() -> None:
    here, there = os.pipe()
    os.close(here)
    command = [sys.executable, "-m", "unet_core.cli", "describe", str(PRESETS[0])]
    with os.fdopen(there, "w") as closed:
        run = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, text=True)
    assert (run.returncode, run.stderr) == (0, "")
