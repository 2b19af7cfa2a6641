import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.stages.stores import mask_store, told_of
from unet_core.config import ObjectsConfig, ReportConfig, Resources, ScoreConfig
from unet_core.config.expected import Expected
from unet_core.config.spread import listed
from unet_core.errors import StoreError
from unet_core.figures.flow import STAGES
from unet_core.figures.overlay import NOT_COMPUTED
from unet_core.io.arrays import create_array, open_level
from unet_core.io.atomic import write_json
from unet_core.io.ledger import building
from unet_core.io.ngff import content_of, multiscale
from unet_core.stages.montage import draw_montage
from unet_core.stages.report import write_report
from unet_core.stages.report_inference import share_computed
from unet_core.stages.report_jobs import jobs_of, times_of
from unet_core.stages.score import score_volume

NAMES = {"a": "test", "b": "test", "c": "predict"}
MANIFEST: dict[str, Any] = {
    "models": ["net"],
    "ensembles": {},
    "volumes": [{"name": n, "fold": f, "truth": f == "test"} for n, f in NAMES.items()],
}


def store(path: Path, data: np.ndarray, **unet: Any) -> Path:
    with building(path, stage="convert", settings={}, inputs={"name": str(path)}) as build:
        create_array(
            path, "0", shape=data.shape, dtype=data.dtype, chunk=(4, 64, 64), shard=(4, 64, 64)
        )[...] = data
        ome = multiscale("x", axes="czyx"[-data.ndim :], voxel_size_nm=(50, 4, 4))
        build.publish(ome=ome, unet=unet)
    return path


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of three small volumes, two of them annotated."""
    results = tmp_path_factory.mktemp("run") / "results"
    rng = np.random.default_rng(0)
    for name, fold in NAMES.items():
        truth = np.ones((4, 40, 60), np.uint32)
        truth[:, :, 30:] = 2
        truth[:, :, 29:31] = 0
        inside = ((truth > 0) * 255).astype(np.uint8)[None]
        folder = results / "volumes" / name
        statistics = [{"percentiles": list(np.linspace(0, 255, 1001))}]
        raw = store(
            folder / "raw.ome.zarr", inside // 2 + rng.integers(0, 9, inside.shape, np.uint8),
            statistics=statistics,
        )  # fmt: skip
        stores: dict[str, Path] = {
            "probabilities": store(
                folder / "net/probabilities.ome.zarr", inside, **told_of(inside)
            ),
            "labels": store(
                folder / "net/labels.ome.zarr",
                truth.astype(np.uint64),
                objects=2,
                method="threshold",
            ),
        }
        annotated = None
        if fold == "test":
            annotated = store(folder / "truth.ome.zarr", truth, truth={"kind": "instances"})
            score_volume(
                ScoreConfig(),
                objects=ObjectsConfig(),
                **stores,
                truth=annotated,
                calibration=None,
                out=folder / "net/scores.json",
                resources=Resources(),
            )
        draw_montage(
            ReportConfig(sections=2),
            objects=ObjectsConfig(),
            raw=raw,
            **stores,
            truth=annotated,
            out=folder / "net/montage.jpg",
        )
    model = {"dimensions": 2, "sections": 3, "width": 4, "depth": 1, "padding": "valid"}
    model["norm"] = "none"
    models = results / "models/net"
    write_json(models / "model.json", {"model": model, "parameters": 1234, "step": 7})
    (models / "history.csv").write_text("step,learning_rate,train_loss,dice\n1,1,0.5,\n2,1,.4,.9\n")
    benchmarks = results / "benchmarks/infer"
    benchmarks.mkdir(parents=True)
    (benchmarks / "a.net.tsv").write_text("s\tmax_rss\tcpu_time\n2.0\t100\t1.5\n")
    return results


def test_a_montage_shows_each_section_once_per_column(results: Path) -> None:
    for name, columns in (("a", 5), ("c", 3)):
        with Image.open(results / "volumes" / name / "net/montage.jpg") as montage:
            assert montage.size == (columns * 60 + (columns - 1) * 8, 2 * (40 + 22))


def test_the_page_is_whole_by_itself_and_names_everything(results: Path, tmp_path: Path) -> None:
    page = tmp_path / "index.html"
    write_report(ReportConfig(title="<Mine>"), manifest=MANIFEST, results=results, out=page)
    text = page.read_text()
    assert "&lt;Mine&gt;" in text
    assert "<Mine>" not in text
    for name in (*NAMES, "net on test", "V_rand of the labels", "n2_zero_is_singletons"):
        assert name in text
    outside = [
        word
        for word in ('src="http', 'href="http', "@import", "<script", "onclick")
        if word in text
    ]
    assert not outside
    assert (tmp_path / "curves.net.svg").read_text().startswith("<svg")


def test_the_page_draws_every_rule_and_says_what_calibration_chose(
    results: Path, tmp_path: Path
) -> None:
    tried = [{"method": "threshold", "threshold": t, "value": v} for t, v in ((0.2, 0.5), (0.7, 1))]
    calibration = {
        "measure": "v_rand",
        "variant": "thinned",
        "best": tried[1],
        "best_threshold": tried[1],
        "candidates": tried,
    }
    shutil.copytree(results, copy := tmp_path / "results")
    write_json(copy / "models/net/calibration.json", calibration)
    page = tmp_path / "index.html"
    write_report(ReportConfig(), manifest=MANIFEST, results=copy, out=page)
    text = page.read_text()
    for stage in STAGES:
        assert f">{stage}</text>" in text
    assert "1 job · 2 s" in text  # infer
    assert "threshold with threshold 0.7: v_rand 1.0000." in text
    assert "calibrated: 0.7" in text


def test_a_batch_is_one_job_of_all_its_voxels(results: Path, tmp_path: Path) -> None:
    shutil.copytree(results, copy := tmp_path / "results")
    table = "s\tmax_rss\tcpu_time\n4.0\t100\t1.5\n"
    (copy / "benchmarks/infer/small.net.tsv").write_text(table)
    (copy / "benchmarks/infer/b.net.tsv").write_text(table)  # of before it was of the batch
    volumes = [v | ({} if v["name"] == "a" else {"batch": "small"}) for v in MANIFEST["volumes"]]
    jobs = list(jobs_of(copy, volumes))
    assert [job["name"] for job in jobs] == ["a.net", "small.net"]
    assert [job["amount"] for job in jobs] == ["0.0096 Mvoxel", "0.0192 Mvoxel"]


def test_voxels_that_were_skipped_count_for_no_speed(results: Path, tmp_path: Path) -> None:
    shutil.copytree(results, copy := tmp_path / "results")
    edit(copy / "volumes/a/net/probabilities.ome.zarr", skipped=0.75)
    assert [job["amount"] for job in jobs_of(copy, MANIFEST["volumes"])] == ["0.0024 Mvoxel"]
    z, y, x = open_level(copy / "volumes/a/raw.ome.zarr").shape[1:]
    half = [[0, z], [0, y // 2], [0, x]]
    edit(copy / "volumes/a/net/probabilities.ome.zarr", region=half)
    assert [job["amount"] for job in jobs_of(copy, MANIFEST["volumes"])] == ["0.0012 Mvoxel"]


def test_blocks_that_failed_count_for_no_speed(tmp_path: Path) -> None:
    folder, voxels = tmp_path / "volumes/a", np.ones((1, 10, 40, 60), np.uint8)
    store(folder / "raw.ome.zarr", voxels)
    made = store(folder / "net/probabilities.ome.zarr", voxels)  # in shards of 4 sections
    assert share_computed(tmp_path, "a", "net") == 1
    edit(made, failed={"4-0-0": "?", "8-0-0": "?"})
    assert share_computed(tmp_path, "a", "net") == pytest.approx(0.4)
    edit(made, region=[[0, 5], [0, 20], [0, 60]])  # of a quarter, a fifth failed
    assert share_computed(tmp_path, "a", "net") == pytest.approx(0.25 * 0.8)


def test_a_volume_in_slabs_took_what_all_of_its_jobs_did(results: Path, tmp_path: Path) -> None:
    shutil.copytree(results, copy := tmp_path / "results")
    (alone,) = jobs_of(copy, MANIFEST["volumes"])
    parts = {
        "infer_prepare/a.net": "1.0\t50\t0.5",
        "infer_slab/a.net.0-0-0": "5.0\t300\t9.5",
        "infer_slab/a.net.4-0-0": "8.0\t200\t8.5",
        "infer_slab/a.net.2-0-0": "100.0\t900\t99.5",  # of when slabs had another size
    }
    for name, row in parts.items():
        file = copy / "benchmarks" / f"{name}.tsv"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"s\tmax_rss\tcpu_time\n{row}\n")
        log = copy / "logs" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("INFO given: threads=1 gpus=0 memory_mb=400 slurm_job=None\n")
    assert jobs_of(copy, MANIFEST["volumes"]) == [alone]  # made by one job since
    write_json(listed(copy / "volumes/a/net/probabilities.ome.zarr"), {"slabs": ["0-0-0", "4-0-0"]})
    (job,) = jobs_of(copy, MANIFEST["volumes"])
    assert (job["jobs"], job["seconds"], job["cpu"], job["memory"]) == (4, 16.0, 20.0, 300.0)
    assert job["of_memory"] == "75 %"
    assert job["amount"] == alone["amount"] == "0.0096 Mvoxel"
    assert job["rate"] == "0.0006 Mvoxel/s"
    assert times_of([job])["infer"] == "4 jobs · 16 s"
    page = tmp_path / "index.html"
    write_report(ReportConfig(), manifest=MANIFEST, results=copy, out=page)
    assert "a.net, 4 jobs" in page.read_text()


def edit(store: Path, **unet: Any) -> None:
    """Another entry of what a store says of itself."""
    group = json.loads((store / "zarr.json").read_text())
    group["attributes"]["unet"] |= unet
    write_json(store / "zarr.json", group)


def test_what_was_not_computed_is_shown_as_such(results: Path, tmp_path: Path) -> None:
    shutil.copytree(results / "volumes/a", copy := tmp_path / "a")
    inside = np.ones(open_level(copy / "raw.ome.zarr").shape[1:], bool)
    inside[:, :, :30] = False
    mask = mask_store(tmp_path / "mask.ome.zarr", inside)
    edit(copy / "net/probabilities.ome.zarr", mask=content_of(mask))
    draw_montage(
        ReportConfig(sections=1),
        objects=ObjectsConfig(),
        raw=copy / "raw.ome.zarr",
        probabilities=copy / "net/probabilities.ome.zarr",
        labels=copy / "net/labels.ome.zarr",
        truth=copy / "truth.ome.zarr",
        mask=mask,
        out=tmp_path / "montage.jpg",
    )
    with Image.open(tmp_path / "montage.jpg") as montage:
        picture = np.asarray(montage)[22 + 8 : -8].astype(int)
    for column, flat in enumerate([False, True, True, False, True]):
        left = picture[:, column * 68 + 8 : column * 68 + 22]
        assert (abs(left - NOT_COMPUTED).max() < 30) == flat


def test_folds_stand_side_by_side_with_the_test_first(results: Path, tmp_path: Path) -> None:
    manifest = json.loads(json.dumps(MANIFEST))
    manifest["volumes"][0]["fold"] = "train"
    write_report(ReportConfig(), manifest=manifest, results=results, out=tmp_path / "index.html")
    lines = [line.split("\t") for line in (tmp_path / "scores.tsv").read_text().splitlines()]
    assert [line[1:3] for line in lines if line[3] == "SEG"] == [["test", "b"], ["train", "a"]]
    text = (tmp_path / "index.html").read_text()
    assert text.index("Volume b") < text.index("Volume a")


def test_the_table_of_scores_holds_each_volume_and_their_sum(results: Path, tmp_path: Path) -> None:
    write_report(ReportConfig(), manifest=MANIFEST, results=results, out=tmp_path / "index.html")
    lines = [line.split("\t") for line in (tmp_path / "scores.tsv").read_text().splitlines()]
    assert lines[0] == ["model", "fold", "volume", "measure", "variant", "value"]
    found = {line[2]: float(line[5]) for line in lines if line[3] == "V_rand of the labels"}
    assert found == {"a": 1.0, "b": 1.0, "all": 1.0}


def test_a_volume_to_predict_is_not_scored_though_it_has_truth(
    results: Path, tmp_path: Path
) -> None:
    manifest = json.loads(json.dumps(MANIFEST))
    manifest["volumes"][2]["truth"] = True
    write_report(ReportConfig(), manifest=manifest, results=results, out=tmp_path / "index.html")
    lines = (tmp_path / "scores.tsv").read_text().splitlines()[1:]
    assert {line.split("\t")[2] for line in lines} == {"a", "b", "all"}


def test_equal_results_give_equal_pages(results: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        out = tmp_path / name / "index.html"
        write_report(ReportConfig(), manifest=MANIFEST, results=results, out=out)
    one, two = (tmp_path / name / "index.html" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


def test_a_missing_result_is_named(results: Path, tmp_path: Path) -> None:
    manifest = json.loads(json.dumps(MANIFEST).replace('"net"', '"other"'))
    with pytest.raises(StoreError, match=r"scores\.json is missing"):
        write_report(ReportConfig(), manifest=manifest, results=results, out=tmp_path / "i.html")


def test_parts_that_were_not_computed_are_named(results: Path, tmp_path: Path) -> None:
    shutil.copytree(results, copy := tmp_path / "results")
    path = copy / "volumes/a/net/probabilities.ome.zarr/zarr.json"
    group = json.loads(path.read_text())
    group["attributes"]["unet"] |= {
        "region": [[0, 4], [0, 32], [8, 60]],
        "downsample": [1, 2, 2],
        "windows": [
            None,
            {
                "size": [1, 64, 64],
                "stride": [1, 42, 42],
                "weight": "count",
                "because": "norms see all",
            },
        ],
        "mask": "digest",
        "skipped": 0.125,
        "failed": {"0-0-8": "chunk 3 is <damaged>"},
    }
    write_json(path, group)
    page = tmp_path / "index.html"
    write_report(ReportConfig(), manifest=MANIFEST, results=copy, out=page)
    text = page.read_text()
    for part in (
        "only the region z 0 to 4, y 0 to 32, x 8 to 60 was computed",
        "only voxels inside the mask",
        "the mean of 1 x 2 x 2 (z y x) of raw",
        "windows of 1 x 64 x 64 voxels (z y x), at most 1 x 42 x 42 apart, were averaged by count: "
        "no exact tiling (norms see all)",
        "12.5 % of its voxels",
        "0-0-8",
        "chunk 3 is &lt;damaged&gt;",
        "results/volumes/a/net/probabilities.ome.zarr/zarr.json",
    ):
        assert part in text, part
    assert text.index("Blocks that could not be computed") < text.index("The run")
    write_report(ReportConfig(), manifest=MANIFEST, results=results, out=page)
    assert "could not be computed" not in page.read_text()


def test_an_ensemble_is_listed_with_its_members_and_scored(results: Path, tmp_path: Path) -> None:
    shutil.copytree(results, copy := tmp_path / "results")
    for name in NAMES:
        shutil.copytree(copy / "volumes" / name / "net", copy / "volumes" / name / "both")
    manifest = {**MANIFEST, "ensembles": {"both": ["net", "other"]}}
    page = tmp_path / "index.html"
    write_report(ReportConfig(), manifest=manifest, results=copy, out=page)
    assert "the mean of the probabilities of net, other" in page.read_text()
    lines = (tmp_path / "scores.tsv").read_text().splitlines()[1:]
    assert {line.split("\t")[0] for line in lines} == {"net", "both"}
    assert not (tmp_path / "curves.both.svg").exists()


def test_what_jobs_were_expected_to_take_stands_beside_what_they_took(
    results: Path, tmp_path: Path
) -> None:
    seen = []

    def predict(stage: str, name: str, parts: Any) -> Expected:
        seen.append((stage, name, len(parts)))
        return Expected(memory_mb=765, seconds=432)

    page = tmp_path / "index.html"
    how = {"manifest": MANIFEST, "results": results, "out": page}
    write_report(ReportConfig(), **how, predict=predict)
    assert ("infer", "a.net", 1) in seen
    assert page.read_text().count('<td class="n">432</td>') == len(seen)
    assert page.read_text().count('<td class="n">765</td>') == len(seen)
