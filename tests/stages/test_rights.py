"""Several people on one results folder: whose files they are, and which right is missing."""

import errno
import os
import stat
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from tests.stages.faults import files_of, ledger_of
from unet_core.errors import StoreError
from unet_core.io.ledger import Build, building, slabs_of
from unet_core.io.slabs import building_slab

LAB, COLLEAGUE = 54321, 54322
"""A group and a user that nobody else has here."""

PLAIN = ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner,-chown"]
"""Root without its powers: a user like others, to whom the files of Python are open."""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A folder of a colleague that a group shares."""
    folder = tmp_path / "lab"
    folder.mkdir()
    os.chown(folder, COLLEAGUE, LAB)
    folder.chmod(0o2775)
    return folder


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Raw data that nobody may change, in a folder that nobody may write to."""
    folder = tmp_path / "archive"
    folder.mkdir()
    voxels = np.random.default_rng(0).integers(0, 256, (8, 32, 32), dtype=np.uint8)
    tifffile.imwrite(folder / "raw.tif", voxels)
    for path in (folder / "raw.tif", folder):
        os.chown(path, COLLEAGUE, COLLEAGUE)
    (folder / "raw.tif").chmod(0o444)
    folder.chmod(0o555)
    return folder / "raw.tif"


def convert(raw: Path, out: Path, *, groups: str = f"--groups={LAB}") -> str:
    """By a user with umask 002; what is said, empty unless it fails."""
    run = subprocess.run(
        [
            *(*PLAIN, groups, sys.executable, "-m", "unet_core.cli", "convert"),
            *("--raw", str(raw), "--out", str(out)),
        ],
        capture_output=True,
        text=True,
        umask=0o002,
        check=False,
    )
    return run.stderr if run.returncode else ""


def not_of_the_group(folder: Path) -> list[str]:
    """Files and folders that another member could not go on with."""
    wanted = stat.S_IRGRP | stat.S_IWGRP
    found = [folder, *folder.rglob("*")]
    return [
        str(path)
        for path in found
        if path.stat().st_gid != LAB
        or path.stat().st_mode & wanted != wanted
        or (path.is_dir() and not path.stat().st_mode & stat.S_ISGID)
    ]


@as_root
def test_what_is_written_belongs_to_the_group_and_raw_data_stays_as_it_is(
    lab: Path, raw: Path
) -> None:
    before = raw.stat()
    assert convert(raw, lab / "raw.ome.zarr") == ""
    assert not_of_the_group(lab) == []
    assert [path.name for path in raw.parent.iterdir()] == ["raw.tif"]
    assert (raw.stat().st_ctime_ns, raw.stat().st_mode) == (before.st_ctime_ns, before.st_mode)


@as_root
def test_a_member_of_the_group_goes_on_where_another_ended(lab: Path, raw: Path) -> None:
    out = lab / "raw.ome.zarr"
    assert convert(raw, out) == ""
    made, lines = files_of(out), ledger_of(out).read_text().splitlines(keepends=True)
    ledger_of(out).write_text(lines[0])  # of a job that was killed
    (lab / "raw.ome.zarr.scratch").mkdir()
    (out / "zarr.json").unlink()
    for path in (out, *out.rglob("*"), ledger_of(out), lab / "raw.ome.zarr.scratch"):
        os.chown(path, COLLEAGUE, LAB)
        path.chmod(0o2775 if path.is_dir() else 0o664)
    assert convert(raw, out) == ""
    assert files_of(out) == made
    assert not_of_the_group(lab) == []


@as_root
def test_who_may_not_write_is_told_who_may(lab: Path, raw: Path) -> None:
    said = convert(raw, lab / "raw.ome.zarr", groups="--clear-groups")
    assert "Traceback" not in said
    assert f"{lab / 'raw.ome.zarr'} cannot be written" in said
    assert f"is drwxrwsr-x of user {COLLEAGUE} and group {LAB}" in said
    assert "this process is user 0" in said
    assert list(lab.iterdir()) == []


KEYS: dict[str, Any] = {"stage": "convert", "settings": {}, "inputs": {}}


def begun(store: Path, *, slab: bool) -> AbstractContextManager[Build]:
    """The whole store, or a part of it."""
    return building_slab(store, "0-0-0", **KEYS) if slab else building(store, **KEYS)


@pytest.mark.parametrize("slab", [False, True])
@pytest.mark.parametrize("number", [errno.EDQUOT, errno.ENOSPC])
def test_a_quota_that_is_used_up_loses_nothing(tmp_path: Path, number: int, slab: bool) -> None:
    """As no quota can be set here, by the error that one gives."""

    def work() -> None:
        with begun(tmp_path / "x", slab=slab) as build:
            build.tick("level", "a", digest="1", note=None)
            raise OSError(number, os.strerror(number))

    with building(tmp_path / "x", **KEYS):
        pass
    with pytest.raises(StoreError, match=r"no room for .*; what is finished is kept: free some"):
        work()
    with building(tmp_path / "x", **KEYS) as build:
        assert list(build.done("level")) == ["a"]


SLAB = """
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from unet_core.errors import StoreError
from unet_core.io.slabs import building_slab
try:
    with building_slab(Path(sys.argv[1]), "0-0-0", stage="convert", settings={}, inputs={}):
        pass
except StoreError as error:
    sys.exit(str(error))
"""


@as_root
def test_who_may_not_write_a_slab_is_told_who_may(tmp_path: Path) -> None:
    store = tmp_path / "x"
    with building(store, **KEYS):
        pass
    slabs = slabs_of(store)
    slabs.mkdir()
    os.chown(slabs, COLLEAGUE, LAB)
    slabs.chmod(0o755)
    command = [*PLAIN, "--clear-groups", sys.executable, "-c", SLAB, str(store)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Traceback" not in run.stderr
    assert f"{store} cannot be written" in run.stderr
    assert f"is drwxr-xr-x of user {COLLEAGUE} and group {LAB}" in run.stderr
