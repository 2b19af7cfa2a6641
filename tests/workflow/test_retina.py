"""Classes of RGB images, from JPEG files to the page: the recipe for vessels of the retina."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image, ImageDraw

from tests.workflow.conftest import LOCAL, REPOSITORY, merged, snakemake
from unet_core.config.workflow import load_workflow
from unet_core.io.arrays import open_level

CONFIG = REPOSITORY / "config"
OVERLAY: dict[str, Any] = {
    "pathvars": {"results": "made"},
    "volumes": "sheet.tsv",
    "data": "images",
    # One block for each store: no job starts workers.
    "convert": {"chunk": [4, 64, 64], "shard": [4, 128, 128]},
    "augment": {
        **{"patches": 128, "shard_patches": 128, "patch": [1, 32, 32]},
        **{"brightness": 0.05, "hue": 0.02},
    },
    "model": {"width": 8, "depth": 2},
    "train": {"steps": 60, "validate_every": 30, "learning_rate": 0.01},
    "infer": {"window": 32, "window_stride": 21},
}
"""Laid over chasedb1.yaml and chasedb1-quick.yaml."""

SHEET = """\
name\traw\ttruth\tfold\tvoxel_size_nm\tsections\tbatch
learn\t*.jpg\t*_truth.png\ttrain\t1,1,1\t0:3\t-
few\t4.jpg\t4_truth.png\ttest\t1,1,1\t\tboth
many\t5.jpg\t5_truth.png\ttest\t1,1,1\t\tboth
"""
LINES = {"1": 5, "2": 6, "3": 5, "4": 1, "5": 8}
"""Vessels in each image."""


@dataclass(frozen=True)
class Run:
    folder: Path

    def of(self, volume: str) -> Path:
        return self.folder / "made/volumes" / volume

    def scores(self, volume: str) -> dict[str, Any]:
        scores: dict[str, Any] = json.loads((self.of(volume) / "mmseg_fcn/scores.json").read_text())
        return scores

    def counts(self, volume: str) -> tuple[int, int, int]:
        """Pixels of the vessels in both, found and true, from the stores."""
        stored = np.asarray(open_level(self.of(volume) / "mmseg_fcn/probabilities.ome.zarr")[0])
        truth = np.asarray(open_level(self.of(volume) / "truth.ome.zarr")[...]) == 1
        found = stored.astype(int) > 255 - stored.astype(int)
        return int((found & truth).sum()), int(found.sum()), int(truth.sum())


def draw(folder: Path, name: str, lines: int) -> None:
    """An image of 90 x 80 pixels, dark red lines on a lighter ground, as JPEG, and its truth."""
    rng = np.random.default_rng(int(name))
    truth = Image.new("1", (80, 90))
    pen = ImageDraw.Draw(truth)
    for _ in range(lines):
        ends = [tuple(rng.integers(0, n, 2).tolist()) for n in (80, 80)]
        pen.line(ends, fill=1, width=5)
    vessel = np.asarray(truth)[..., None]
    ground = np.array([190, 110, 60]) + rng.normal(0, 12, (90, 80, 1))
    pixels = np.where(vessel, ground - [60, 70, 20], ground).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(folder / f"{name}.jpg", quality=95)
    truth.save(folder / f"{name}_truth.png")


def said_by(folder: Path, *arguments: str) -> str:
    run = snakemake(folder, *LOCAL, *arguments)
    assert run.returncode == 0, run.stdout
    return run.stdout


def project(folder: Path) -> Path:
    (folder / "config").mkdir()
    for file in (CONFIG / "config.yaml", *CONFIG.glob("chasedb1*")):
        (folder / "config" / file.name).write_text(file.read_text())
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = project(tmp_path_factory.mktemp("retina"))
    (folder / "images").mkdir()
    for name, lines in LINES.items():
        draw(folder / "images", name, lines)
    (folder / "sheet.tsv").write_text(SHEET)
    (folder / "overlay.yaml").write_text(json.dumps(OVERLAY))
    files = ("config/chasedb1.yaml", "config/chasedb1-quick.yaml", "overlay.yaml")
    said_by(folder, "--configfile", *files)
    return Run(folder)


@pytest.mark.slow
def test_the_report_pools_pixels_over_all_volumes_of_a_fold(run: Run) -> None:
    with (run.folder / "made/report/scores.tsv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    told = {
        row["volume"]: float(row["value"])
        for row in rows
        if row["measure"] == "Dice of class 1" and row["fold"] == "test"
    }
    counts = [run.counts(name) for name in ("few", "many")]
    both, found, true = map(sum, zip(*counts, strict=True))
    assert told["all"] == pytest.approx(2 * both / (found + true), abs=1e-12)
    each = [2 * b / (f + t) for b, f, t in counts]
    assert [told["few"], told["many"]] == pytest.approx(each, abs=1e-12)
    assert abs(told["all"] - np.mean(each)) > 1e-4, "not the mean of volumes"
    page = (run.folder / "made/report/index.html").read_text()
    assert f"<b>{told['all']:.4f}</b>Dice of class 1" in page


@pytest.mark.slow
def test_vessels_are_learned_from_colours(run: Run) -> None:
    assert run.scores("many")["classes"]["dice"][1] > 0.7
    assert run.scores("many")["kind"] == "semantic"
    assert run.scores("many")["isbi"] is None


@pytest.mark.slow
def test_pictures_are_in_colour(run: Run) -> None:
    with Image.open(run.of("many") / "mmseg_fcn/montage.jpg") as montage:
        red, green, blue = np.asarray(montage)[22:112, :80].astype(int).mean((0, 1))
    assert red > green + 20 > blue + 40


def test_the_quick_variant_is_the_recipe_on_fewer_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    read = [
        yaml.safe_load((CONFIG / name).read_text())
        for name in ("config.yaml", "chasedb1.yaml", "chasedb1-quick.yaml")
    ]
    recipe = merged(read[0], read[1])
    full, quick = (
        load_workflow(config, presets=CONFIG / "models")
        for config in (recipe, merged(recipe, read[2]))
    )
    model, train = (getattr(full.models["mmseg_fcn"], name) for name in ("model", "train"))
    assert (model.width, train.steps, train.batch, train.learning_rate) == (64, 40000, 16, 0.01)
    assert quick.models["mmseg_fcn"].model.width == 16
    assert quick.sections["infer"] == full.sections["infer"]
    assert full.sections["infer"].window_stride == 85


def test_the_images_of_chase_db1_are_planned(real_data: Path, tmp_path: Path) -> None:
    if not (real_data / "chasedb1").is_dir():
        pytest.skip("no chasedb1 in UNET_TEST_DATA")
    where = ("--config", f"data={real_data / 'chasedb1'}")
    said = said_by(project(tmp_path), "-n", "--configfile", "config/chasedb1.yaml", *where)
    assert "results/chasedb1/volumes/test/mmseg_fcn/scores.json" in said
    assert "This was a dry-run" in said
