"""Raw volumes at an address: the same bytes as from a folder."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stages.test_infer import checkpoint_file, noise, raw_store, torch_as_before
from tests.stages.test_infer_volumes import bytes_of
from unet_core.cli import main

__all__ = ["torch_as_before"]

SERVER = Path(__file__).parents[2] / "benchmarks" / "slow_store.py"


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    command = [sys.executable, str(SERVER), str(tmp_path), "--latency-ms", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.kill()


def inferred(folder: Path, raw: str, *options: str) -> Path:
    out = folder / "p.ome.zarr"
    given = ["infer", "--config", '{"infer": {"tile_px": 16, "precision": "float32"}}']
    given += ["--raw", raw, "--checkpoint", str(folder.parent / "best.pt"), "--out", str(out)]
    assert main([*given, *options]) == 0
    return out


def test_what_is_made_from_an_address_is_what_is_made_from_a_folder(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    raw = raw_store(tmp_path / "bucket" / "raw.ome.zarr", noise((1, 3, 37, 61)), (1, 16, 24))
    checkpoint_file(tmp_path / "best.pt")
    near = bytes_of(inferred(tmp_path / "near", str(raw)))
    over_http = inferred(tmp_path / "http", f"{address}/bucket/raw.ome.zarr/zarr.json")
    over_s3 = inferred(tmp_path / "s3", "s3://bucket/raw.ome.zarr", "--threads", "2")
    assert bytes_of(over_http) == near
    assert bytes_of(over_s3) == near


def test_an_address_where_nothing_answers_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint_file(tmp_path / "best.pt")
    given = ["infer", "--raw", "http://127.0.0.1:9/raw.ome.zarr", "--out", str(tmp_path / "p")]
    assert main([*given, "--checkpoint", str(tmp_path / "best.pt")]) == 1
    told = capsys.readouterr().err
    assert "http://127.0.0.1:9/raw.ome.zarr" in told
    assert "see to the address" in told
    assert [path.name for path in tmp_path.iterdir()] == ["best.pt"]
