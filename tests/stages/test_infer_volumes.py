"""Many volumes in one process: each as if alone, and none lost by another."""

import logging
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.stages.test_infer import checkpoint_file, noise, raw_store, torch_as_before
from unet_core.cli import main
from unet_core.config import InferConfig, Resources
from unet_core.errors import BlockError, Interrupted, StoreError, VolumeError
from unet_core.io.arrays import open_level
from unet_core.net import engine
from unet_core.run import crew
from unet_core.stages import infer_volumes as infer_volumes_module
from unet_core.stages.infer import infer_probabilities
from unet_core.stages.infer_volumes import Files, infer_volumes

__all__ = ["torch_as_before"]

CONFIG = InferConfig(tile_px=16, precision="float32")
SHAPES = {"a": (1, 2, 20, 30), "b": (1, 1, 7, 9), "c": (1, 3, 40, 24)}


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, Any]:
    """Three volumes of unlike sizes and intensities, each of some blocks."""
    for n, (name, shape) in enumerate(SHAPES.items()):
        raw_store(tmp_path / name / "raw.ome.zarr", noise(shape) // (n + 1), (1, 16, 16))
    return {
        "volumes": [
            Files(raw=tmp_path / name / "raw.ome.zarr", out=tmp_path / name / "p.ome.zarr")
            for name in SHAPES
        ],
        "checkpoint": checkpoint_file(tmp_path / "best.pt"),
        "resources": Resources(),
    }


def bytes_of(store: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(store)): path.read_bytes()
        for path in sorted(store.rglob("*"))
        if path.is_file()
    }


def alone(keys: dict[str, Any], files: Files, out: Path) -> dict[str, bytes]:
    """The store that a process of its own would make of a volume."""
    infer_probabilities(
        CONFIG,
        raw=files.raw,
        checkpoint=keys["checkpoint"],
        out=out,
        resources=keys["resources"],
    )
    return bytes_of(out)


def test_each_volume_is_what_it_would_be_alone(keys: dict[str, Any], tmp_path: Path) -> None:
    infer_volumes(CONFIG, **keys)
    for files in keys["volumes"]:
        assert bytes_of(files.out) == alone(keys, files, tmp_path / "alone" / files.raw.parent.name)


def test_the_network_is_read_once_and_workers_are_started_once(
    keys: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    opened = crew.open_workers
    monkeypatch.setattr(
        crew, "open_workers", lambda *given, **more: started.append(1) or opened(*given, **more)
    )
    engine._loaded.cache_clear()
    infer_volumes(CONFIG, **keys)
    assert len(started) == 1
    assert engine._loaded.cache_info().misses == 1


def test_a_volume_that_fails_does_not_keep_the_others(
    keys: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    a, b, c = keys["volumes"]
    (b.raw / "zarr.json").unlink()
    with caplog.at_level(logging.INFO), pytest.raises(VolumeError) as refused:
        infer_volumes(CONFIG, **keys)
    assert f"1 of 3 volumes failed: {b.out}" in str(refused.value)
    assert str(b.raw) in str(refused.value)
    assert f"volume 3 of 3: {c.out}" in caplog.text
    assert (a.out / "zarr.json").exists()
    assert (c.out / "zarr.json").exists()
    with pytest.raises(StoreError):
        infer_volumes(CONFIG, **{**keys, "volumes": [b]})


@pytest.mark.parametrize(("number", "reached"), [(5, True), (28, False)])
def test_an_error_of_the_disk_fails_a_volume_and_a_full_one_ends_the_list(
    keys: dict[str, Any], monkeypatch: pytest.MonkeyPatch, number: int, reached: bool
) -> None:
    a, b, c = keys["volumes"]
    made = infer_volumes_module.infer_volume

    def refused(*given: Any, out: Path, **more: Any) -> None:
        if out == b.out:
            raise OSError(number, os.strerror(number))
        made(*given, out=out, **more)

    monkeypatch.setattr(infer_volumes_module, "infer_volume", refused)
    told = f"1 of 3 volumes failed: {b.out}; " + ("the others" if reached else "1 are not begun")
    with pytest.raises(VolumeError, match=re.escape(told)):
        infer_volumes(CONFIG, **keys)
    assert (a.out / "zarr.json").exists()
    assert (c.out / "zarr.json").exists() == reached


def test_a_rerun_computes_what_is_missing_and_brings_the_others_back(
    keys: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    infer_volumes(CONFIG, **keys)
    before = {files.out: bytes_of(files.out) for files in keys["volumes"]}
    for files in keys["volumes"]:
        (files.out / "zarr.json").unlink()  # as Snakemake does before a job
    shutil.rmtree(keys["volumes"][1].out)
    caplog.clear()
    with caplog.at_level(logging.INFO):
        infer_volumes(CONFIG, **keys)
    assert {out: bytes_of(out) for out in before} == before
    told = [record.message for record in caplog.records if "resumed" in record.message]
    assert told == [
        "infer: resumed 8, computed 0",
        "infer: resumed 0, computed 1",
        "infer: resumed 18, computed 0",
    ]


def test_asked_to_end_the_rest_is_left_for_the_next_time(
    keys: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, _, c = keys["volumes"]
    ticked: Iterator[int] = iter(range(100))

    def ending() -> bool:
        return (a.out / "zarr.json").exists() and next(ticked) > 0

    class Ended(crew.Crew):
        def __enter__(self) -> crew.Crew:
            entered = super().__enter__()
            self._ending = ending
            return entered

    monkeypatch.setattr("unet_core.stages.infer_volumes.Crew", Ended)
    with pytest.raises(Interrupted):
        infer_volumes(CONFIG, **keys)
    assert (a.out / "zarr.json").exists()
    assert not c.out.exists()
    monkeypatch.undo()
    infer_volumes(CONFIG, **keys)
    assert np.asarray(open_level(c.out)[:]).any()


def test_a_list_on_the_command_line(
    keys: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b, _ = keys["volumes"]
    given = ["infer", "--config", '{"infer": {"tile_px": 16}}', "--checkpoint"]
    given += [str(keys["checkpoint"]), "--raw", str(a.raw), str(b.raw / "zarr.json"), "--out"]
    assert main([*given, str(a.out)]) == 1
    assert "--raw names 2 volume(s), --out 1" in capsys.readouterr().err
    assert main([*given, str(a.out), str(b.out), "--mask", "-"]) == 1
    assert "--raw names 2 volume(s), --mask 1" in capsys.readouterr().err
    assert main([*given, str(a.out), str(a.out)]) == 1
    assert "twice" in capsys.readouterr().err
    assert main([*given, str(a.out), str(b.out / "zarr.json"), "--mask", "-", "-"]) == 0
    assert open_level(a.out).shape == (2, *SHAPES["a"][1:])
    assert open_level(b.out).shape == (2, *SHAPES["b"][1:])


def test_failed_volumes_are_a_kind_of_failed_blocks() -> None:
    assert issubclass(VolumeError, BlockError)
