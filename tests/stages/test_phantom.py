from pathlib import Path

import numpy as np
import pytest
import tifffile

import unet_core.stages.phantom as stage
from unet_core.cli import main
from unet_core.ops.phantom import make_phantom
from unet_core.stages.phantom import write_phantom


@pytest.mark.parametrize("shape", [(3, 40, 50), (1, 33, 20)])
def test_files_hold_the_phantom(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    write_phantom(shape=shape, seed=2, out=tmp_path / "new" / "folder")
    raw, ids = make_phantom(shape, 2)
    for name, array in (("raw.tif", raw), ("truth.tif", ids)):
        with tifffile.TiffFile(tmp_path / "new" / "folder" / name) as file:
            assert len(file.pages) == shape[0]
            assert file.pages.first.dtype == array.dtype
            np.testing.assert_array_equal(file.asarray().reshape(shape), array)


def test_a_phantom_that_is_there_is_kept_and_another_replaces_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def counted(shape: tuple[int, int, int], seed: int) -> tuple[np.ndarray, np.ndarray]:
        made.append(seed)
        return make_phantom(shape, seed)

    monkeypatch.setattr(stage, "make_phantom", counted)
    for seed in (1, 1, 2, 2):
        write_phantom(shape=(2, 20, 20), seed=seed, out=tmp_path)
    (tmp_path / "truth.tif").unlink()
    write_phantom(shape=(2, 20, 20), seed=2, out=tmp_path)
    (tmp_path / "raw.tif").write_bytes(b"torn")
    write_phantom(shape=(2, 20, 20), seed=2, out=tmp_path)
    assert made == [1, 2, 2, 2]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["raw.tif", "truth.tif"]


def test_equal_phantoms_are_equal_bytes(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_phantom(shape=(2, 20, 20), seed=1, out=tmp_path / folder)
    for name in ("raw.tif", "truth.tif"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_command_writes_and_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["phantom", "--seed", "3", "--out", str(tmp_path), "--shape"]
    assert main([*command, "2", "24", "30"]) == 0
    assert tifffile.imread(tmp_path / "raw.tif").shape == (2, 24, 30)
    assert main([*command, "2", "0", "30"]) == 1
    assert "unet-core phantom: a phantom needs >= 1 voxel per axis" in capsys.readouterr().err
