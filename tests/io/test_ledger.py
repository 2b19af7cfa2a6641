import errno
import json
import logging
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from unet_core.config import ConvertConfig
from unet_core.errors import StoreError
from unet_core.io.ledger import building
from unet_core.io.ngff import attributes_of, content_of, multiscale


def build(store: Path, *, codec: str = "zstd", raw: str = "r", finish: bool = True) -> list[str]:
    """Make a store of four blocks; returns the names that had to be done."""
    made = []
    work = {"convert": ConvertConfig(codec=codec)}
    with building(store, stage="convert", settings=work, inputs={"raw": raw}) as building_store:
        done = building_store.done("level 0")
        for name in ("a", "b", "c", "d")[: 4 if finish else 2]:
            if name not in done:
                made.append(name)
                (building_store.store / name).write_text(name)
                building_store.tick("level 0", name, digest=name, note={"n": 1})
        if finish:
            building_store.publish(unet={"n": 4})
    return made


def test_a_folder_made_ahead_is_no_work_of_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    store = tmp_path / "x.ome.zarr"
    store.mkdir()
    build(store)
    assert "starting anew" not in caplog.text
    build(store, raw="other")
    assert "was made from other settings or inputs: starting anew" in caplog.text


def test_a_result_appears_whole(tmp_path: Path) -> None:
    store = tmp_path / "x.ome.zarr"
    build(store, finish=False)
    with pytest.raises(StoreError, match="is not finished"):
        content_of(store)
    assert build(store) == ["c", "d"]
    assert attributes_of(store)["unet"] == {"n": 4}


def test_finished_work_is_never_done_again_even_if_the_marker_is_gone(tmp_path: Path) -> None:
    store = tmp_path / "x.ome.zarr"
    build(store)
    before = (store / "zarr.json").read_bytes()
    (store / "zarr.json").unlink()
    assert build(store) == []
    assert (store / "zarr.json").read_bytes() == before


def test_without_its_scratch_unfinished_work_is_begun_anew(tmp_path: Path) -> None:
    store = tmp_path / "x.ome.zarr"
    build(store, finish=False)
    (tmp_path / "x.ome.zarr.scratch").rmdir()
    assert build(store) == ["a", "b", "c", "d"]


def test_other_settings_or_inputs_start_anew(tmp_path: Path) -> None:
    store = tmp_path / "x.ome.zarr"
    build(store)
    assert build(store, codec="lz4") == ["a", "b", "c", "d"]
    assert build(store, codec="lz4", raw="s") == ["a", "b", "c", "d"]
    (store / "stray").write_text("of the old work")
    assert build(store, raw="s") == ["a", "b", "c", "d"]
    assert not (store / "stray").exists()


def test_a_store_may_be_a_link_to_a_folder_on_another_disk(tmp_path: Path) -> None:
    store, elsewhere = tmp_path / "x.ome.zarr", tmp_path / "elsewhere"
    store.symlink_to(elsewhere)
    for codec in ("zstd", "lz4"):  # the second one removes what the first has made
        assert build(store, codec=codec) == ["a", "b", "c", "d"]
        assert store.is_symlink()
        assert (elsewhere / "zarr.json").exists()


@pytest.mark.parametrize("torn", range(2, 60, 7))
def test_a_torn_last_line_costs_its_block_only_twice_in_a_row(tmp_path: Path, torn: int) -> None:
    store = tmp_path / "x.ome.zarr"
    ledger = tmp_path / "x.ome.zarr.ledger.jsonl"
    build(store, finish=False)
    for _ in range(2):
        whole = ledger.read_bytes()
        ledger.write_bytes(whole[:-torn])
        assert build(store, finish=False) == ["b"]
        assert all(json.loads(line) for line in ledger.read_text().splitlines())
    assert build(store) == ["c", "d"]


def test_a_store_that_was_removed_without_its_ledger_is_made_again(tmp_path: Path) -> None:
    store = tmp_path / "x.ome.zarr"
    build(store)
    shutil.rmtree(store)
    assert build(store) == ["a", "b", "c", "d"]


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Writing beyond `size` bytes of any file fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [20, 60, 90, 130, 170, 210, 300, 400, 500])
def test_a_full_disk_is_told_as_such_and_costs_nothing_that_was_done(
    tmp_path: Path, size: int
) -> None:
    """From the first line of the ledger to the marker of the finished store."""
    store = tmp_path / "x.ome.zarr"
    with files_of_at_most(size), pytest.raises(StoreError, match=r"no room for .*free some space"):
        build(store)
    ledger = tmp_path / "x.ome.zarr.ledger.jsonl"
    lines = ledger.read_text().splitlines(keepends=True) if ledger.exists() else []
    assert all(line.endswith("\n") and json.loads(line) for line in lines)
    assert not (store / "zarr.json").exists()
    assert not list(tmp_path.rglob("*.partial"))
    assert build(store) == ["a", "b", "c", "d"][max(0, len(lines) - 1) :]
    assert attributes_of(store)["unet"] == {"n": 4}


def test_a_rerun_on_a_disk_that_is_still_full_loses_nothing(tmp_path: Path) -> None:
    store, ledger = tmp_path / "x.ome.zarr", tmp_path / "x.ome.zarr.ledger.jsonl"
    build(store, finish=False)
    before = ledger.read_bytes()
    for size in (0, 50, 100, len(before)):
        with files_of_at_most(size), pytest.raises(StoreError, match="no room for"):
            build(store)
        assert ledger.read_bytes() == before
    assert build(store) == ["c", "d"]


@pytest.mark.parametrize("left", [".0.partial", "0_4f2a.__lock"])
def test_nothing_of_killed_writes_is_in_a_finished_store(tmp_path: Path, left: str) -> None:
    store, work = tmp_path / "x", {"convert": ConvertConfig()}
    with building(store, stage="convert", settings=work, inputs={}) as build:
        (store / "0" / "c").mkdir(parents=True)
        (store / "0" / "c" / left).write_text("half of a shard")
        build.publish(unet={})
    assert [path.name for path in store.rglob("*") if path.is_file()] == ["zarr.json"]


def test_other_errors_of_the_system_stay_what_they_are(tmp_path: Path) -> None:
    with (
        pytest.raises(PermissionError),
        building(tmp_path / "x", stage="convert", settings={}, inputs={}),
    ):
        raise PermissionError(errno.EACCES, "denied")


def test_work_whose_result_is_a_file_elsewhere_leaves_nothing(tmp_path: Path) -> None:
    with building(tmp_path / "x.work", stage="score", settings={}, inputs={}) as store:
        (store.scratch / "table").write_text("of a block")
        store.tick("score", "a", digest=None, note=1)
        store.discard()
    assert not list(tmp_path.iterdir())


def test_content_names_what_was_written_not_how(tmp_path: Path) -> None:
    build(tmp_path / "x.ome.zarr")
    build(tmp_path / "y.ome.zarr", codec="lz4")
    x, y = tmp_path / "x.ome.zarr", tmp_path / "y.ome.zarr"
    assert content_of(x) == content_of(y)
    names = [attributes_of(store)["provenance"]["fingerprint"] for store in (x, y)]
    assert names[0] != names[1]


def test_a_global_step_runs_once(tmp_path: Path) -> None:
    calls = []
    for _ in range(2):
        work = {"convert": ConvertConfig()}
        with building(tmp_path / "x", stage="convert", settings=work, inputs={}) as store:
            assert store.once("merge", lambda: calls.append(1) or {"objects": 3}) == {"objects": 3}
    assert calls == [1]


def test_a_foreign_or_broken_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="does not exist"):
        content_of(tmp_path / "none")
    (tmp_path / "zarr.json").write_text("{")
    with pytest.raises(StoreError, match="not the metadata"):
        content_of(tmp_path)
    (tmp_path / "zarr.json").write_text('{"attributes": {}}')
    with pytest.raises(StoreError, match="no provenance"):
        content_of(tmp_path)


def test_levels_are_centred_on_the_voxels_they_average() -> None:
    ome = multiscale("raw", axes="czyx", voxel_size_nm=(50, 4, 4), factors=[(1, 1, 1), (1, 2, 2)])
    steps = ome["multiscales"][0]["datasets"][1]["coordinateTransformations"]
    assert steps[0] == {"type": "scale", "scale": [1.0, 50.0, 8.0, 8.0]}
    assert steps[1] == {"type": "translation", "translation": [0.0, 0.0, 2.0, 2.0]}
