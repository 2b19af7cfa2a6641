"""`unet-core estimate`: sizes against what is written, bounds of what cannot be run."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from unet_core.cli import main
from unet_core.config import ConvertConfig, InferConfig
from unet_core.config.devices import device
from unet_core.config.extent import described
from unet_core.config.spread import number_of_slabs, slabs_for
from unet_core.errors import ConfigError

REPOSITORY = Path(__file__).parents[2]
CUT = {"chunk": [4, 32, 32], "shard": [8, 64, 64], "smallest_level_px": 32}
CONFIG: dict[str, Any] = {
    "volumes": "volumes.tsv",
    "data": "data",
    "models": ["tiny"],
    "convert": CUT,
    "augment": {"patches": 40, "validation_patches": 4, "patch": [1, 68, 68], "shard_patches": 16},
}
SHEET = """name\traw\ttruth\tfold\tvoxel_size_nm\tsections
a\traw.tif\ttruth.tif\ttrain\t50,4,4\t0:12
b\traw.tif\ttruth.tif\tvalidation\t50,4,4\t12:20
c\traw.tif\t\tpredict\t50,4,4\t
"""

Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Ask:
    """The estimate as its JSON says it."""

    def asked(*arguments: str, **config: Any) -> dict[str, Any]:
        presets = str(REPOSITORY / "config/models")
        told = ["--configfile", "--config", json.dumps(config), "--presets", presets, "--json"]
        assert main(["estimate", *told, *arguments]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return asked


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    assert main(["phantom", "--shape", "20", "150", "170", "--out", "data"]) == 0
    (tmp_path / "volumes.tsv").write_text(SHEET)
    return tmp_path


def files_of(store: Path) -> tuple[int, int]:
    """Files of a store with its ledger, and their bytes."""
    found = [*(path for path in store.rglob("*") if path.is_file())]
    found.append(store.with_name(f"{store.name}.ledger.jsonl"))
    return len(found), sum(path.stat().st_size for path in found)


def convert(image: str, out: Path) -> None:
    settings = {"convert": CUT, "volume": {"voxel_size_nm": [50, 4, 4]}}
    kind = ["--truth"] if image == "truth" else []
    told = ["--config", json.dumps(settings), "--raw", f"data/{image}.tif", "--out", str(out)]
    assert main(["convert", *told, *kind]) == 0


def test_files_are_counted_as_the_stages_write_them(project: Path, ask: Ask) -> None:
    (project / "one.tsv").write_text(f"{SHEET.splitlines()[0]}\n{ROW}\n")
    found = {store["kind"]: store for store in ask(**CONFIG | {"volumes": "one.tsv"})["stores"]}
    raw, truth, weights = (project / f"{name}.ome.zarr" for name in ("raw", "truth", "weights"))
    convert("raw", raw)
    convert("truth", truth)
    assert main(["weights", "--truth", str(truth), "--out", str(weights)]) == 0
    for kind, store in (("raw", raw), ("truth", truth), ("weights", weights)):
        files, _ = files_of(store)
        assert found[kind]["files"] == files, kind
    _, size = files_of(raw)
    assert found["raw"]["disk_bytes"] == pytest.approx(size, rel=0.5)
    bank = project / "bank.zarr"
    told = ["--config", json.dumps({"augment": CONFIG["augment"]}), "--fold", "train"]
    given = ["--raw", str(raw), "--weights", str(weights), "--out", str(bank)]
    assert main(["augment", *told, *given]) == 0
    files, size = files_of(bank)
    assert found["patches"]["files"] == files
    assert found["patches"]["disk_bytes"] == pytest.approx(size, rel=0.3)


ROW = "a\traw.tif\ttruth.tif\ttrain\t50,4,4\t"


def test_before_and_after_the_conversion_it_says_the_same(project: Path, ask: Ask) -> None:
    before = ask(**CONFIG)
    assert (before["volumes"], before["voxels"]) == (3, 40 * 150 * 170)
    convert("raw", project / "results/volumes/c/raw.ome.zarr")
    after = ask(**CONFIG)
    assert after["stores"] == before["stores"]
    assert [row["jobs"] for row in after["stages"]] == [row["jobs"] for row in before["stages"]]


def test_jobs_are_those_of_the_rules(project: Path, ask: Ask) -> None:
    jobs = {row["stage"]: row["jobs"] for row in ask(**CONFIG)["stages"]}
    assert jobs == {
        **{"convert": 5, "weights": 2, "augment": 2, "train": 1, "infer": 3, "calibrate": 1},
        **{"stitch": 3, "score": 2, "montage": 3, "report": 1},
    }


PETABYTE = ("--shape", "100000", "100000", "100000")


def bounds(found: dict[str, Any]) -> dict[str, bool]:
    """Whether each of an estimate is met."""
    return {limit["name"]: limit["value"] <= limit["most"] for limit in found["limits"]}


def test_of_a_petabyte_files_and_jobs_can_be_kept_in_bounds_and_the_rest_is_said(ask: Ask) -> None:
    """Arithmetic: no block is listed, or this would not end."""
    plain = ask(*PETABYTE, models=["small"])
    assert plain["voxels"] == 10**15
    (files,) = (limit for limit in plain["limits"] if limit["name"].startswith("files"))
    assert files["value"] > files["most"]
    (note,) = (note for note in plain["notes"] if "convert.shard" in note)
    shard = json.loads(note[note.index("[") : note.index("]") + 1])
    told = ask(*PETABYTE, models=["small"], convert={"shard": shard}, infer={"spread": "slabs"})
    assert bounds(told) == {
        **{"jobs": True, "files per TB of raw": True},
        **{"GB of memory of a job": False, "days of a job": False},
    }
    stages = {row["stage"]: row for row in told["stages"]}
    assert stages["stitch"]["memory_mb"] > 4_000_000
    assert stages["convert"]["longest_minutes"] > 30 * 24 * 60
    assert stages["infer"]["longest_minutes"] < 30 * 24 * 60
    for stage in ("stitch joins", "stitch takes", "convert takes"):
        assert any(note.startswith(stage) for note in told["notes"]), told["notes"]
    (joins,) = (note for note in told["notes"] if note.startswith("stitch joins"))
    assert "set stitch.method to threshold (240,000 GB)" in joins
    assert "then infer.downsample to [1, 4, 4] (15,000 GB)" in joins
    assert "into rows of at most 426 sections" in joins
    assert told["total"]["jobs"] <= 5000
    assert told["total"]["files"] <= 20_000 * 1000


def test_a_terabyte_is_within_all_bounds_where_objects_are_cut_by_a_threshold(ask: Ask) -> None:
    settings = {"convert": {"shard": [176, 1024, 1024]}, "stitch": {"method": "threshold"}}
    found = ask("--shape", "1000", "30000", "33000", models=["small"], **settings)
    assert all(bounds(found).values()), found["limits"]
    rows = {row["stage"]: row for row in found["stages"]}
    assert rows["stitch"]["memory_mb"] < 4_000_000
    assert max(row["longest_minutes"] for row in found["stages"]) < 30 * 24 * 60


def test_labels_that_abut_have_fewer_edges_and_coarse_voxels_more(ask: Ask) -> None:
    def ratio(**settings: Any) -> float:
        stores = ask("--shape", "64", "1024", "1024", models=["small"], **settings)["stores"]
        return float({store["kind"]: store for store in stores}["labels"]["ratio"])

    abutting = ratio(stitch={"method": "watershed"})
    assert abutting > 2 * ratio(stitch={"method": "threshold"})
    assert ratio(stitch={"method": "threshold"}) < ratio() < abutting, "not chosen yet"
    coarse = ratio(stitch={"method": "watershed"}, infer={"downsample": [1, 4, 4]})
    assert 2.8 < abutting / coarse < 3.3


def test_slabs_are_those_of_the_rules(ask: Ask) -> None:
    """One begins the store, one publishes it, however few there are between."""

    def jobs(*shape: str, **infer: Any) -> int:
        found = ask("--shape", *shape, models=["small"], infer={"spread": "slabs", **infer})
        return int({row["stage"]: row for row in found["stages"]}["infer"]["jobs"])

    assert jobs("40", "700", "700") == 1 + 2
    cut = {"slab": [32, 512, 512]}
    assert jobs("64", "1024", "1024", **cut) == 2 * 2 * 2 + 2
    assert jobs("64", "1024", "1024", **cut, region=[[0, 20], [0, 1024], [600, 700]]) == 2 + 2
    extent = described(ConvertConfig(), (64, 1024, 1024))
    asked = InferConfig(slab=(32, 512, 512), region=((0, 20), (0, 1024), (600, 700)))
    assert number_of_slabs(asked, extent) == len(slabs_for(asked, extent)) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--jobs", "0"], "--jobs needs a number >= 1, got 0"),
        (["--threads", "0"], "--threads needs a number >= 1, got 0"),
        (["--gpus", "-1"], "--gpus needs a number >= 0, got -1"),
        (["--price", "-3"], "--price needs a number >= 0, got -3"),
        (["--price", "nan"], "--price needs a number >= 0, got nan"),
        (["--nodes", "report=2"], "--nodes report=2 is no stage and number of nodes >= 1"),
        (["--nodes", "infer=0"], "--nodes infer=0 is no stage and number of nodes >= 1"),
        (["--nodes", "infer=2"], "--nodes infer=2 are used with infer.spread: nodes alone"),
        (["--nodes", "train=2", "--gpus", "3"], "--gpus 3 are those of all nodes"),
        (["--device", "a100"], "--device a100 is a GPU: say with --gpus how many there are"),
        (["--device", "cpu-core", "--gpus", "8"], "--device cpu-core is a core: leave out --gpus"),
    ],
)
def test_hardware_that_cannot_be_is_refused(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    presets = str(REPOSITORY / "config/models")
    told = ["--configfile", "--presets", presets, "--config", '{"models": ["tiny"]}']
    assert main(["estimate", *told, "--shape", "64", "512", "512", *arguments]) != 0
    assert said in capsys.readouterr().err


def test_training_on_four_gpus_takes_a_quarter_of_the_time_and_the_same_gpu_hours(
    project: Path, ask: Ask
) -> None:
    large = CONFIG | {"models": ["paper"], "augment": {"patch": [1, 572, 572]}}
    train = [
        {row["stage"]: row for row in ask("--gpus", n, **large)["stages"]}["train"]
        for n in ("1", "4")
    ]
    assert train[1]["memory_mb"] > 3.5 * train[0]["memory_mb"]
    assert train[0]["seconds"] == pytest.approx(4 * train[1]["seconds"], rel=0.1)
    assert train[1]["gpu_hours"] == pytest.approx(train[0]["gpu_hours"], rel=0.1)


def test_the_size_of_voxels_is_among_what_check_has_read(project: Path) -> None:
    headers = project / "headers.json"
    assert (
        main(["check", "--sheet", "volumes.tsv", "--data", "data", "--headers", str(headers)]) == 0
    )
    for about in json.loads(headers.read_text()).values():
        assert set(about) == {"shape", "dtype", "unit", "voxel_size_nm"}


def test_the_advice_costs_memory_and_says_how_much(ask: Ask) -> None:
    one, ten = (
        {row["stage"]: row for row in ask(*PETABYTE, models=["small"], convert=convert)["stages"]}
        for convert in ({}, {"shard": [160, 1024, 1024]})
    )
    assert 10_000 < ten["infer"]["memory_mb"] <= 64_300
    assert one["infer"]["memory_mb"] < ten["infer"]["memory_mb"]
    assert ten["infer"]["flops"] == pytest.approx(one["infer"]["flops"], rel=0.2)


def test_more_gpus_take_less_time_and_as_many_gpu_hours(ask: Ask) -> None:
    told = (*PETABYTE, "--device", "a100", "--price", "2")
    one, ten = (ask(*told, "--gpus", n, models=["small"]) for n in ("1", "10"))
    assert ten["total"]["gpu_hours"] == pytest.approx(one["total"]["gpu_hours"], rel=0.01)
    assert ten["total"]["cost"] == pytest.approx(2 * ten["total"]["gpu_hours"])
    infer = [{row["stage"]: row for row in found["stages"]}["infer"] for found in (one, ten)]
    assert infer[0]["seconds"] == pytest.approx(10 * infer[1]["seconds"], rel=0.01)


def test_more_nodes_take_less_time_and_each_is_asked_for_what_one_would_be(ask: Ask) -> None:
    told = (*PETABYTE, "--gpus", "8")
    one, four = (
        {row["stage"]: row for row in ask(*told, *nodes, models=["small"], infer=infer)["stages"]}
        for nodes, infer in (
            ((), {}),
            (("--nodes", "infer=4", "stitch=4"), {"spread": "nodes"}),
        )
    )
    assert four["infer"]["gpu_hours"] == pytest.approx(one["infer"]["gpu_hours"], rel=0.01)
    assert four["infer"]["memory_mb"] < one["infer"]["memory_mb"]
    assert one["stitch"]["seconds"] == pytest.approx(4 * four["stitch"]["seconds"], rel=0.01)
    assert one["convert"] == four["convert"]


def test_a_network_that_does_not_fit_the_gpu_is_said(project: Path, ask: Ask) -> None:
    large = {"patch": [1, 2908, 2908], "patches": 4, "validation_patches": 4}
    told = CONFIG | {"models": ["paper"], "augment": large}
    notes = ask("--gpus", "1", "--device", "t4", **told)["notes"]
    assert any(note.startswith("train takes about") for note in notes)


def test_every_device_of_the_table_says_where_it_is_from() -> None:
    path = REPOSITORY / "unet_core/config/devices.yaml"
    for name in yaml.safe_load(path.read_text()):
        found = device(name)
        assert found.source
        assert min(found.flops.values()) > 0
    with pytest.raises(ConfigError, match="did you mean a100"):
        device("a1000")


def test_the_tables_are_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--configfile", str(REPOSITORY / "config/config.yaml"), "--presets"]
    arguments += [str(REPOSITORY / "config/models"), "--shape", "64", "4096", "4096"]
    small = {"models": ["tiny"], "augment": {"patch": [1, 68, 68]}}
    assert main(["estimate", *arguments, "--measure", "--config", json.dumps(small)]) == 0
    said = capsys.readouterr().out
    assert "1 volume(s), 1.074e+09 voxels" in said
    assert "this machine: train" in said


def test_planning_starts_without_the_network_library() -> None:
    code = "import sys, unet_core.stages.estimate; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
