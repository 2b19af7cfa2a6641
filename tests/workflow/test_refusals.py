"""What is wrong stops the dry run, with the key or the row and the way out in the message."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.workflow.conftest import CONFIG, Project, merged, rows
from unet_core.config.sheet import read_sheet
from unet_core.config.workflow import load_workflow
from unet_core.errors import ConfigError


@pytest.fixture
def here(fresh: Callable[[], Project], monkeypatch: pytest.MonkeyPatch) -> Project:
    project = fresh()
    monkeypatch.chdir(project.folder)
    return project


def refusal(**changes: Any) -> str:
    with pytest.raises(ConfigError) as refused:
        load_workflow(merged(CONFIG, changes), presets=Path("presets"))
    return str(refused.value)


def test_what_is_right_is_accepted(here: Project) -> None:
    asked = load_workflow(CONFIG, presets=Path("presets"))
    assert asked.fold("train") == ["a", "b"]
    assert asked.scored == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"infr": {}}, ["unknown setting infr", "did you mean infer?"]),
        ({"infer": {"tile": 384}}, ["infer.tile", "did you mean tile_px?"]),
        ({"pathvars": {"result": "x"}}, ["pathvars.result", "did you mean pathvars.results?"]),
        ({"infer": {"tile_px": "big"}}, ["infer.tile_px", "'big'"]),
        ({"infer": {"tile_px": 1.5}}, ["infer.tile_px", "1.5"]),
        ({"infer": {"tile_px": True}}, ["infer.tile_px", "True"]),
        ({"infer": [384]}, ["infer must be a mapping", "[384]"]),
        ({"infer": {"tile_px": 382}}, ["infer.tile_px 382", "4 (the stride of model one)", "384"]),
        (
            {"infer": {"tile_px": 384, "downsample": [1, 5, 5]}},
            ["infer.tile_px 384", "infer.downsample [1, 5, 5]", "380"],
        ),
        ({"augment": {"patch": [1, 200, 187]}}, ["augment.patch", "[1, 200, 188]", "model one"]),
        ({"augment": {"patch": [2, 188, 188]}}, ["augment.patch", "[1, 188, 188]"]),
        ({"augment": {"patch": [188, 188]}}, ["augment.patch"]),
        ({"augment": {"jitter": "colours"}}, ["augment.jitter", "model.channels", "one is 1"]),
        (
            {"train": {"class_weights": [5.0, 1.0]}, "model": {"classes": 3}},
            ["train.class_weights [5.0, 1.0]", "model one needs 3", "inverse_frequency"],
        ),
        ({"train": {"warmup_steps": 11}}, ["train.warmup_steps 11", "train.steps 10"]),
        ({"train": {"frozen": "encoder"}}, ["train.frozen", "pretrained.file", "model one"]),
        ({"train": {"learning_rate": ".nan"}}, ["train.learning_rate", "model one"]),
        ({"objects": {"foreground": 2}}, ["objects.foreground 2", "model.classes 2"]),
        ({"objects": {"foreground": []}}, ["objects.foreground", "list", "got ()"]),
        (
            {"objects": {"foreground": [1, 2]}, "model": {"classes": 3}},
            ["objects.foreground [1, 2]", "model one has softmax", "give one class"],
        ),
        ({"weights": {"affinities": [[0, 0, 0]]}}, ["weights.affinities", "each once"]),
        ({"weights": {"affinities": [[0, 1, 0], [0, 1, 0]]}}, ["weights.affinities", "each once"]),
        (
            {"weights": {"affinities": [[0, 1, 0], [0, 0, 1]]}},
            ["weights.affinities has 2 offsets", "model one", "sigmoid and model.classes 3"],
        ),
        (
            {"weights": {"affinities": [[1, 0, 0]]}, "model": {"output": "sigmoid"}},
            ["weights.affinities [1, 0, 0]", "augment.patch [1, "],
        ),
        (
            {
                "weights": {"affinities": [[0, 1, 0]]},
                "model": {"output": "sigmoid"},
                "infer": {"averaging": "mirrors"},
            },
            ["infer.averaging mirrors is not for weights.affinities", "to none"],
        ),
        (
            {"weights": {"affinities": [[1, 1, 0]]}, "truth": {"kind": "binary"}},
            ["weights.affinities [1, 1, 0]", "truth.objects section"],
        ),
        (
            {"weights": {"distances": "volume"}, "truth": {"kind": "binary"}},
            ["weights.distances volume", "set truth.objects to volume"],
        ),
        (
            {"weights": {"affinities": [[0, 1, 0]]}, "truth": {"kind": "semantic"}},
            ["weights.affinities", "truth.kind is semantic"],
        ),
        ({"infer": {"region": [[0, 4], [8, 8], [0, 16]]}}, ["infer.region along y", "[8, 8]"]),
        ({"infer": {"region": [[0, 4], [8, 16]]}}, ["infer.region"]),
        ({"infer": {"classes": []}}, ["infer.classes", "at least one"]),
        ({"infer": {"classes": [1, 1]}}, ["infer.classes", "each once", "[1, 1]"]),
        (
            {"infer": {"window": 63}},
            ["infer.window 63 x 63", "nearest that is: 64 x 64", "model one"],
        ),
        ({"infer": {"window": 0}}, ["infer.window", ">= 1", "got 0"]),
        ({"infer": {"window": 64, "window_stride": [65, 64]}}, ["infer.window_stride 65 x 64"]),
        ({"infer": {"classes": [1, 2]}}, ["infer.classes", "class 2", "model one", "classes 2"]),
        ({"infer": {"classes": [0]}}, ["objects.foreground 1", "infer.classes [0]", "add it"]),
        ({"infer": {"downsample": [1, 0, 2]}}, ["infer.downsample", "[1, 0, 2]"]),
        ({"infer": {"on_error": "skip"}}, ["infer.on_error", "skip-and-report"]),
        ({"ensembles": {"both": ["one"]}}, ["ensembles.both", "at least two"]),
        ({"ensembles": {"both": ["one", "one"]}}, ["ensembles.both", "each once"]),
        ({"ensembles": {"both": ["one", "tow"]}}, ["ensembles.both", "did you mean two?"]),
        ({"ensembles": {"one": ["one", "two"]}}, ["ensembles.one", "rename"]),
        ({"ensembles": {"a/b": ["one", "two"]}}, ["'a/b' cannot name a folder"]),
        ({"models": []}, ["models", "at least one"]),
        ({"models": ["one.yaml", "sub/one.yaml"]}, ["one"]),
        ({"models": ["none.yaml"]}, ["models", "none.yaml"]),
        ({"volumes": "nowhere.tsv"}, ["volumes: no file nowhere.tsv"]),
        ({"volumes": 3}, ["volumes must be a path", "3"]),
        ({"data": "$UNSET_VARIABLE/x"}, ["data", "$UNSET_VARIABLE"]),
    ],
)
def test_a_wrong_setting_is_named(here: Project, changes: dict[str, Any], told: list[str]) -> None:
    (here.folder / "sub").mkdir()
    here.write("sub/one.yaml", "model: {depth: 2}\n")
    message = refusal(**changes)
    assert all(part in message for part in told), message


@pytest.mark.parametrize(
    ("preset", "told"),
    [
        ("model: {widht: 8}", ["model.widht", "did you mean width?", "one.yaml"]),
        ("infer: {tile_px: 4}", ["one.yaml", "model, train and pretrained only"]),
        ("model: [", ["one.yaml is not YAML"]),
        ("- model", ["one.yaml", "model, train and pretrained only"]),
    ],
)
def test_a_wrong_preset_is_named(here: Project, preset: str, told: list[str]) -> None:
    here.write("one.yaml", preset)
    message = refusal()
    assert all(part in message for part in told), message


def test_a_schedule_that_goes_by_validation_needs_a_volume_for_it(here: Project) -> None:
    here.sheet(rows(c={"fold": "test"}))
    message = refusal(train={"schedule": "plateau"})
    assert all(part in message for part in ("train.schedule plateau of model one", "none; add one"))


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"fold": "training"}, ["line 2 (a)", "fold 'training'", "train, validation"]),
        ({"truth": "-"}, ["line 2 (a)", "fold train needs truth", "predict"]),
        ({"raw": ""}, ["line 2 (a)", "column raw is empty"]),
        ({"voxel_size_nm": "50,4"}, ["line 2 (a)", "three numbers z,y,x", "'50,4'"]),
        ({"voxel_size_nm": "50,4,nm"}, ["line 2 (a)", "three numbers z,y,x"]),
        ({"voxel_size_nm": "50,4,0"}, ["line 2 (a)", "> 0 nm"]),
        ({"sections": "5:5"}, ["line 2 (a)", "0 <= first < stop"]),
        ({"sections": "0-24"}, ["line 2 (a)", "first:stop", "'0-24'"]),
        ({"raw": "$UNSET_VARIABLE/a.raw"}, ["line 2 (a)", "$UNSET_VARIABLE", "not set"]),
    ],
)
def test_a_wrong_row_is_named(here: Project, row: dict[str, str], told: list[str]) -> None:
    here.sheet(rows(a=row))
    message = refusal()
    assert all(part in message for part in told), message


@pytest.mark.parametrize("name", ["", "a b", "a/b", "a.b", "..", "-a", "ä"])
def test_a_name_that_cannot_name_a_folder_is_refused(here: Project, name: str) -> None:
    table = rows()
    table[0][0] = name
    here.sheet(table)
    assert "cannot name a folder" in refusal()


def test_two_volumes_of_one_name_are_refused(here: Project) -> None:
    here.sheet([*rows(), rows()[0]])
    message = refusal()
    assert "line 7 (a): this name is taken by config/volumes.tsv, line 2 (a)" in message


def test_a_sheet_without_training_volume_is_refused(here: Project) -> None:
    here.sheet(rows(a={"fold": "test"}, b={"fold": "test"}))
    assert "no volume of fold train" in refusal()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no row"),
        ("name\traw\n", "column fold is missing"),
        ("name\traw\tfolds\n", "unknown column 'folds'; did you mean fold?"),
        ("name\traw\traw\tfold\n", "column raw stands there twice"),
        ("name raw fold\n", "unknown column 'name raw fold'"),
        ("name\traw\tfold\na\tb\tc\td\n", "4 cells, but the header has 3 columns"),
    ],
)
def test_a_wrong_sheet_is_refused(here: Project, text: str, told: str) -> None:
    here.write("config/volumes.tsv", text)
    assert told in refusal()


def test_comments_empty_lines_and_windows_line_ends_are_read(here: Project) -> None:
    here.write(
        "sheet.tsv",
        "\ufeff# volumes\r\n\r\nname\traw\tfold\tsections\r\na\tx.tif\tpredict\t2:4\r\n",
    )
    (volume,) = read_sheet(Path("sheet.tsv"), data=Path("/data"))
    assert (volume.raw, volume.truth, volume.settings.sections) == ("/data/x.tif", None, (2, 4))


def test_files_that_are_missing_stop_the_dry_run(here: Project) -> None:
    (here.folder / "data/b.raw").unlink()
    (here.folder / "data/c.truth").unlink()
    run = here.snakemake("-n")
    assert run.returncode == 1
    assert "line 3 (b): raw: nothing at data/b.raw" in run.stdout
    assert "line 4 (c): truth: nothing at data/c.truth" in run.stdout
    assert "--config data=FOLDER" in run.stdout


def test_raw_and_truth_that_do_not_fit_stop_the_dry_run(here: Project) -> None:
    volumes = []
    for name, fold in {"a": "train", "b": "test"}.items():
        tifffile.imwrite(f"{name}.tif", np.zeros((5, 20, 30), np.uint8))
        tifffile.imwrite(f"{name}-truth.tif", np.zeros((5, 20, 30 + (name == "b")), np.uint8))
        volumes.append([name, f"{name}.tif", f"{name}-truth.tif", fold, "", "0:6"])
    tifffile.imwrite("c.tif", np.zeros((20, 30, 3), np.uint8), photometric="rgb")
    Image.fromarray(np.zeros((20, 30), np.uint8)).save("d.jpg")
    volumes += [
        ["c", "c.tif", "", "predict", "", ""],
        ["d", "d.jpg", "d.jpg", "test", "", ""],
        ["e", "a.tif", "c.tif", "test", "", ""],
        ["f", "e.tif", "a.tif", "test", "", ""],
    ]
    tifffile.imwrite("e.tif", np.zeros((6, 20, 30), np.uint8))
    here.sheet(volumes)
    run = here.snakemake("-n", real=True)
    assert run.returncode == 1
    assert "line 2 (a): sections 0:6 end beyond the 5 sections" in run.stdout
    assert "line 3 (b): raw has 5 x 20 x 30 voxels, truth has 5 x 20 x 31 voxels" in run.stdout
    assert "line 4 (c): raw has 3 channel(s), model one takes 1: set model.channels" in run.stdout
    assert "line 5 (d): truth: d.jpg is JPEG" in run.stdout
    told = {line[line.find("line") :][:10]: line for line in run.stdout.splitlines()}
    assert "colours of truth become grey values" in told["line 6 (e)"]
    assert "belong into a row of their own" in told["line 7 (f)"]


def test_members_of_an_ensemble_must_have_the_same_classes(here: Project) -> None:
    here.write("two.yaml", "model: {depth: 2, classes: 3}\n")
    message = refusal(ensembles={"both": ["one", "two"]})
    assert "ensembles.both: members must have the same" in message
    assert "one has 1 and 2, two has 1 and 3" in message


def test_what_does_not_hold_the_region_the_level_or_the_mask_stops_the_dry_run(
    here: Project,
) -> None:
    volumes = []
    for name, fold in {"a": "train", "b": "test", "c": "predict"}.items():
        tifffile.imwrite(f"{name}.tif", np.zeros((5, 300, 30), np.uint8))
        truth = "" if fold == "predict" else f"{name}-truth.tif"
        mask = f"{name}-mask.tif" if name != "a" else ""
        if truth:
            tifffile.imwrite(truth, np.zeros((5, 300, 30), np.uint8))
        if mask:
            shape = (5, 150, 15) if name == "b" else (5, 150, 14)
            tifffile.imwrite(mask, np.zeros(shape, np.uint8))
        volumes.append([name, f"{name}.tif", truth, fold, "50,4,4", "", mask])
    here.sheet(volumes)
    run = here.snakemake("-n", real=True)
    assert "line 4 (c): raw has 5 x 300 x 30 voxels, mask has 5 x 150 x 14" in run.stdout
    here.sheet(volumes[:2])
    assert here.snakemake("-n", real=True).returncode == 0
    run = here.snakemake("-n", "--config", "infer={region: [[0, 6], [0, 99], [0, 30]]}", real=True)
    assert run.returncode == 1
    assert "line 2 (a): infer.region asks for 0 to 6 along z, the volume has 5" in run.stdout
    run = here.snakemake("-n", "--config", "infer={downsample: [2, 2, 2]}", real=True)
    assert run.returncode == 1
    assert "line 3 (b): infer.downsample [2, 2, 2]" in run.stdout
    assert "choose one of [1, 1, 1], [1, 2, 2]" in run.stdout
    run = here.snakemake("-n", "--config", "infer={downsample: [1, 2, 2]}", real=True)
    assert run.returncode == 0, run.stdout


def test_a_wrong_setting_stops_the_dry_run_without_a_traceback(here: Project) -> None:
    run = here.snakemake("-n", "--config", "infer={tile: 3}")
    assert run.returncode == 1
    assert "unknown setting infer.tile; did you mean tile_px?" in run.stdout
    assert "Traceback" not in run.stdout
    assert len(run.stdout.splitlines()) < 8
