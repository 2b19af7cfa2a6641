import json
import os
from pathlib import Path

import pytest

from unet_core.config import InferConfig
from unet_core.errors import RawFormatError
from unet_core.provenance import fingerprint, source_digest


def test_a_fingerprint_names_stage_settings_and_inputs() -> None:
    name = fingerprint("infer", {"infer": InferConfig()}, {"raw": "a", "model": "b"})
    assert name == fingerprint(
        "infer", {"infer": InferConfig(tile_px="auto")}, {"model": "b", "raw": "a"}
    )
    assert name != fingerprint(
        "infer", {"infer": InferConfig(tile_px=400)}, {"raw": "a", "model": "b"}
    )
    assert name != fingerprint("infer", {"infer": InferConfig()}, {"raw": "b", "model": "a"})
    assert name != fingerprint("stitch", {"infer": InferConfig()}, {"raw": "a", "model": "b"})


@pytest.mark.parametrize("size", [10, 5 * 2**20])
def test_a_source_is_named_by_content_not_by_time_or_place(tmp_path: Path, size: int) -> None:
    (tmp_path / "a.tif").write_bytes(bytes(size))
    name = source_digest(str(tmp_path / "a.tif"))
    os.utime(tmp_path / "a.tif", (0, 0))
    assert source_digest(str(tmp_path / "a.tif")) == name
    (tmp_path / "elsewhere.tif").write_bytes(bytes(size))
    assert source_digest(str(tmp_path / "elsewhere.tif")) == name
    (tmp_path / "a.tif").write_bytes(bytes(size - 1) + b"\1")
    assert source_digest(str(tmp_path / "a.tif")) != name


def test_a_series_is_named_by_all_its_files(tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / f"{number}.png").write_bytes(bytes([number]))
    name = source_digest(str(tmp_path))
    assert source_digest(f"{tmp_path}/*.png") == name
    (tmp_path / "99.png").write_bytes(b"more")
    assert source_digest(str(tmp_path)) != name


def test_files_that_file_managers_leave_in_a_folder_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(b"0")
    name = source_digest(str(tmp_path))
    (tmp_path / ".DS_Store").write_bytes(b"where icons lie")
    (tmp_path / ".thumbs").mkdir()
    (tmp_path / ".thumbs/0.png").write_bytes(b"small")
    assert source_digest(str(tmp_path)) == name


def test_metadata_of_zarr_2_counts_though_it_is_hidden(tmp_path: Path) -> None:
    (tmp_path / "0.0").write_bytes(b"chunk")
    (tmp_path / ".zarray").write_text("{}")
    name = source_digest(str(tmp_path))
    (tmp_path / ".zarray").write_text("[]")
    assert source_digest(str(tmp_path)) != name


def test_datasets_of_one_file_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"x")
    a, b = (source_digest(f"{tmp_path}/a.h5::{name}") for name in "ab")
    assert a != b


def test_a_missing_source_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(RawFormatError, match="give a path that exists"):
        source_digest(str(tmp_path / "none.tif"))


def test_an_edit_in_place_of_a_large_file_is_seen(tmp_path: Path) -> None:
    path, known = tmp_path / "truth.tif", tmp_path / "known.json"
    path.write_bytes(bytes(6 * 2**20))
    name = source_digest(str(path), known=known)
    with path.open("r+b") as file:
        file.seek(2**20)
        file.write(b"painted")
    assert source_digest(str(path), known=known) != name
    assert source_digest(str(path)) == source_digest(str(path), known=known)


def test_what_is_known_is_not_read_again_until_it_is_touched(tmp_path: Path) -> None:
    path, known = tmp_path / "raw.tif", tmp_path / "known.json"
    path.write_bytes(b"x")
    name = source_digest(str(path), known=known)
    known.write_text(known.read_text().replace(json.loads(known.read_text())[str(path)][-1], "y"))
    assert source_digest(str(path), known=known) != name
    os.utime(path, (0, 0))
    assert source_digest(str(path), known=known) == name
    known.write_text("not JSON")
    assert source_digest(str(path), known=known) == name
