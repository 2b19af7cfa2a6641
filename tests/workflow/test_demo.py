"""The whole workflow, from raw files to the page, on a small phantom."""

import json
import math
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
import tifffile

from tests.workflow.conftest import LOCAL, REPOSITORY, snakemake
from unet_core.config.demand import SNAKEMAKE_MB
from unet_core.metrics.contingency import contingency
from unet_core.metrics.isbi import VARIANT, truth_objects
from unet_core.metrics.rand import rand_scores
from unet_core.metrics.thinning import components, grow_labels
from unet_core.stages.report_given import took_in

pytestmark = pytest.mark.slow

FOLDS = {"learn": ("train", 0, 12), "choose": ("validation", 12, 15), "judge": ("test", 15, 20)}
OVERLAY = {
    "pathvars": {"results": "made here"},
    "volumes": "sheet.tsv",
    "data": "raw files",
    "augment": {"patches": 96, "validation_patches": 4, "patch": [1, 140, 140]},
    "model": {"width": 8},
    "train": {"steps": 160, "validate_every": 40},
    "report": {"title": "Three parts of a phantom"},
}
"""Laid over config/demo.yaml."""


@dataclass(frozen=True)
class Demo:
    folder: Path

    @property
    def results(self) -> Path:
        return self.folder / "made here"

    @property
    def page(self) -> str:
        return (self.results / "report/index.html").read_text(encoding="utf-8")

    def snakemake(self, *arguments: str) -> str:
        """Run the demo's command line; returns what it says."""
        files = ("--configfile", "config/demo.yaml", "overlay.yaml")
        run = snakemake(self.folder, *LOCAL, *files, *arguments)
        assert run.returncode == 0, run.stdout
        return run.stdout

    def scores(self, volume: str) -> dict[str, Any]:
        text = (self.results / f"volumes/{volume}/tiny/scores.json").read_text()
        scores: dict[str, Any] = json.loads(text)
        return scores


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    folder = tmp_path_factory.mktemp("demo")
    (folder / "config").mkdir()
    for name in ("config.yaml", "demo.yaml"):
        (folder / "config" / name).write_text((REPOSITORY / "config" / name).read_text())
    (folder / "overlay.yaml").write_text(json.dumps(OVERLAY))
    rows = ["name\traw\ttruth\tfold\tvoxel_size_nm\tsections\tbatch"]
    for name, (fold, first, stop) in FOLDS.items():
        batch = "-" if fold == "validation" else "both"
        rows.append(f"{name}\traw.tif\ttruth.tif\t{fold}\t50,4,4\t{first}:{stop}\t{batch}")
    (folder / "sheet.tsv").write_text("\n".join(rows) + "\n")
    command = [sys.executable, "-m", "unet_core.cli", "phantom", "--shape", "20", "256", "256"]
    subprocess.run([*command, "--out", str(folder / "raw files")], check=True)
    made = Demo(folder)
    made.snakemake()
    return made


def v_rand(truth: np.ndarray[Any, Any], inside: np.ndarray[Any, Any]) -> float:
    """Mean over sections of V_rand of the components of `inside`, borders thinned."""
    values = []
    for ids, section in zip(truth, inside, strict=True):
        table = contingency(truth_objects(ids), grow_labels(components(section)))
        values.append(rand_scores(table, VARIANT).f)
    return fmean(values)


def test_the_page_is_one_file_that_names_every_volume(demo: Demo) -> None:
    assert "Three parts of a phantom" in demo.page
    for name in FOLDS:
        assert re.search(rf"\b{name}\b", demo.page), name
    named = re.findall(r"""(?:src|href)\s*=\s*["']([^"']*)""", demo.page)
    assert named, "pictures are embedded"
    assert not [link for link in named if not link.startswith(("data:", "#"))]
    assert not re.search(r"url\(\s*['\"]?(?!#|data:)|@import|<script|<link\b", demo.page)


def test_the_pictures_of_every_volume_are_in_the_page(demo: Demo) -> None:
    assert demo.page.count("data:image/jpeg;base64,") >= len(FOLDS)
    for name in FOLDS:
        picture = demo.results / f"volumes/{name}/tiny/montage.jpg"
        assert picture.read_bytes()[:2] == b"\xff\xd8"


def test_volumes_of_a_batch_are_inferred_by_one_job(demo: Demo) -> None:
    told = (demo.results / "logs/infer/both.tiny.log").read_text()
    assert re.findall(r"volume \d of \d: .*volumes/(\w+)/tiny/prob", told) == ["learn", "judge"]
    assert "both.tiny" in demo.page


def test_every_volume_with_truth_is_scored(demo: Demo) -> None:
    for name, (_, first, stop) in FOLDS.items():
        scores = demo.scores(name)
        assert scores["missing"] is None
        assert scores["labels"]["v_rand"]["sections"] == stop - first
    table = (demo.results / "report/scores.tsv").read_text().splitlines()
    assert table[0].split("\t") == ["model", "fold", "volume", "measure", "variant", "value"]
    assert {line.split("\t")[2] for line in table[1:]} >= set(FOLDS)


def test_the_network_is_far_better_than_the_best_threshold_of_the_raw(demo: Demo) -> None:
    raw, truth = (tifffile.imread(demo.folder / f"raw files/{n}.tif") for n in ("raw", "truth"))
    _, first, stop = FOLDS["judge"]
    raw, truth = raw[first:stop], truth[first:stop]
    plain = max(v_rand(truth, raw > t) for t in np.percentile(raw, np.arange(5, 96, 5)))
    labels = demo.scores("judge")["labels"]
    assert labels["v_rand_thinned"]["f"] > plain + 0.15
    assert 0.5 < labels["v_rand"]["f"] <= 1


def test_every_result_says_what_it_was_made_from(demo: Demo) -> None:
    files = [path for path in demo.results.rglob("*.json") if "provenance" in path.read_text()]
    records = []
    for path in files:
        content = json.loads(path.read_text())
        records.append(content.get("attributes", content)["provenance"])
    keys = {"stage", "fingerprint", "settings", "inputs", "versions", "content"}
    assert all(record.keys() == keys for record in records)
    assert {record["stage"] for record in records} == {
        *("convert", "weights", "augment", "train", "infer", "calibrate", "stitch", "score"),
    }
    assert not [p for p in files if str(demo.folder) in p.read_text()], "no paths in results"


def test_numbers_in_results_are_numbers(demo: Demo) -> None:
    def refuse(name: str) -> float:
        raise AssertionError(f"{name} is no JSON")

    for path in demo.results.rglob("*.json"):
        json.loads(path.read_text(), parse_constant=refuse)
    history = (demo.results / "models/tiny/history.csv").read_text().splitlines()
    losses = [float(row.split(",")[3]) for row in history[1:]]
    assert all(math.isfinite(loss) for loss in losses)
    assert losses[-1] < losses[0]


def test_a_second_run_does_nothing(demo: Demo) -> None:
    assert "Nothing to be done" in demo.snakemake()


def test_snakemake_s_own_report_can_be_made(demo: Demo) -> None:
    demo.snakemake("--report", "report.html")
    page = (demo.folder / "report.html").read_text(encoding="utf-8")
    assert "montage" in page
    assert all(name in page for name in FOLDS)


def test_every_store_is_about_as_large_as_the_estimate_has_said(demo: Demo) -> None:
    asked = ["--json", "--presets", str(REPOSITORY / "config/models"), "--configfile"]
    asked += ["config/config.yaml", "config/demo.yaml", "overlay.yaml"]
    told = subprocess.run(
        [sys.executable, "-m", "unet_core.cli", "estimate", *asked],
        cwd=demo.folder,
        check=True,
        capture_output=True,
    )
    for store in json.loads(told.stdout)["stores"]:
        name = "patches/*.zarr" if store["kind"] == "patches" else f"**/{store['kind']}.ome.zarr"
        stores = list(demo.results.glob(name))
        files = [path for each in stores for path in each.rglob("*") if path.is_file()]
        assert store["files"] == len(files) + len(stores), "each with its ledger"
        size = sum(path.stat().st_size for path in files if path.name != "zarr.json")
        assert 1 / 1.5 <= store["disk_bytes"] / size <= 1.5, store["kind"]


def test_jobs_ask_for_at_most_twice_the_memory_that_they_use(demo: Demo) -> None:
    for path in sorted((demo.results / "benchmarks").glob("*/*.tsv")):
        log = demo.results / "logs" / path.parent.name / f"{path.stem}.log"
        asked = re.search(r"memory_mb=(\d+)", log.read_text())
        heads, *_, last = (line.split("\t") for line in path.read_text().splitlines())
        used = max(float(dict(zip(heads, last, strict=True))["max_rss"]), took_in(log).memory_mb)
        if asked:  # what Snakemake takes of it is not in its benchmark
            assert int(asked[1]) - SNAKEMAKE_MB <= 2 * used, path


def test_nothing_is_left_over(demo: Demo) -> None:
    left = [*demo.results.rglob("*.partial"), *demo.results.rglob("*.scratch")]
    left += [path for path in demo.results.rglob("*.work*") if path.parent.name != "logs"]
    assert left == []
