"""Files of others are read without running or importing what they name; only tensors come out."""

import argparse
import collections
import contextlib
import datetime
import os
import pathlib
import subprocess
import sys
import tempfile
import types
import zipfile
from collections import OrderedDict, defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from unet_core.errors import CheckpointError
from unet_core.net.imports import translated
from unet_core.net.imports.files import read_foreign
from unet_core.net.torch_files import Opaque, read_torch

WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}


class AttributeDict(dict[str, Any]):
    """As trainers have them: a mapping of a class of its own."""


class Slotted:
    __slots__ = ("size",)

    def __init__(self) -> None:
        self.size = 3


class History:
    """As mmengine logs: arrays, and functions of its class by name."""

    def __init__(self) -> None:
        self.log = np.arange(3.0)
        self.statistics = {"mean": History.mean}

    def mean(self) -> float:
        return float(self.log.mean())


class Calls:
    """What a file may hold that runs when it is read."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.called = function, arguments

    def __reduce__(self) -> Any:
        return self.called


def ran(name: str) -> None:
    Path(name).write_text("it ran")


BESIDES = {
    "argparse.Namespace": argparse.Namespace(rate=0.1, path=pathlib.PurePosixPath("/data")),
    "numpy": [np.float64(0.5), np.arange(4), np.random.default_rng(0).bit_generator.state],
    "history": {"scalars": OrderedDict(loss=History())},
    "attributes": AttributeDict(width=8, layers=[1, 2]),
    "defaultdict": defaultdict(list, a=[1]),
    "deque": collections.deque([1, 2], maxlen=3),
    "slots": Slotted(),
    "partial": partial(nn.BatchNorm2d, eps=1e-3),
    "class": nn.Conv2d,
    "dates": datetime.datetime(2020, 1, 1),
    "counter": collections.Counter("aab"),
    "set": {frozenset([1]), range(3)},
    "module": nn.Linear(2, 3),
}


@pytest.mark.parametrize("name", BESIDES)
def test_objects_beside_the_weights_are_left_unread(name: str, tmp_path: Path) -> None:
    torch.save({"state_dict": WEIGHTS, "meta": BESIDES[name], "epoch": 3}, tmp_path / "w.pth")
    found = read_foreign(tmp_path / "w.pth")
    assert isinstance(found, dict)
    assert found["epoch"] == 3
    assert found["state_dict"].keys() == WEIGHTS.keys()
    for key, tensor in WEIGHTS.items():
        assert torch.equal(found["state_dict"][key], tensor)
    assert kinds(found) <= {dict, int, float, str, torch.Tensor, Opaque}


def kinds(value: Any) -> set[type]:
    """Classes of all that a value holds."""
    if type(value) is dict:
        return {dict}.union(*(kinds(item) for item in value.values()))
    return {type(value)}


HOSTILE = {
    "posix.system": Calls(os.system, "touch ran"),
    "eval": Calls(eval, "__import__('pathlib').Path('ran').touch()"),
    "exec": Calls(exec, "open('ran', 'w')"),
    "subprocess.Popen": Calls(subprocess.Popen, ["touch", "ran"]),
    "tests.net.test_torch_files.ran": Calls(ran, "ran"),
    "nested": Calls(map, ran, ["ran"]),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("archive", [True, False])
def test_what_calls_a_function_is_refused_and_nothing_runs(
    name: str, archive: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content = {"state_dict": WEIGHTS, "meta": {"deep": [HOSTILE[name]]}}
    torch.save(content, "w.pth", _use_new_zipfile_serialization=archive)
    with pytest.raises(CheckpointError, match=r"holds code besides tensors .*save its weights"):
        read_foreign(Path("w.pth"))
    assert not Path("ran").exists()


def test_modules_that_a_file_names_are_not_imported(tmp_path: Path) -> None:
    made = types.ModuleType("module_of_the_test")
    kind = type("Meta", (), {"__module__": made.__name__})
    made.Meta = kind  # type: ignore[attr-defined]
    sys.modules[made.__name__] = made
    torch.save({"state_dict": WEIGHTS, "meta": kind()}, tmp_path / "w.pth")
    del sys.modules[made.__name__]
    assert isinstance(read_foreign(tmp_path / "w.pth"), dict)
    assert made.__name__ not in sys.modules


def test_no_name_stays_allowed_afterwards(tmp_path: Path) -> None:
    torch.save({"state_dict": WEIGHTS, "meta": Slotted()}, tmp_path / "w.pth")
    before = set(torch.serialization.get_safe_globals())
    read_foreign(tmp_path / "w.pth")
    assert set(torch.serialization.get_safe_globals()) == before
    with pytest.raises(CheckpointError, match=r"holds code besides tensors \(tests"):
        read_torch(tmp_path / "w.pth", if_code="", if_damaged="")


def test_a_whole_network_is_refused_with_what_to_do(tmp_path: Path) -> None:
    torch.save(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()), tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"Sequential.*torch\.save\(network\.state_dict\(\)"):
        read_foreign(tmp_path / "w.pth")
    torch.save({"epoch": 3, "model": nn.Linear(2, 3)}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"entry model .* is an object, torch.*Linear"):
        translated(read_foreign(tmp_path / "w.pth"))  # type: ignore[arg-type]


def test_what_holds_itself_comes_to_an_end(tmp_path: Path) -> None:
    content: dict[str, Any] = {"a": torch.ones(1), "meta": Slotted()}
    content["model"] = content
    for _ in range(60):
        content = {"model": content, "again": content}
    torch.save(content, tmp_path / "w.pth")
    assert isinstance(read_foreign(tmp_path / "w.pth"), dict)


@given(st.booleans(), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1))
@settings(deadline=None, max_examples=150)
def test_a_file_with_other_bytes_is_read_or_refused(
    archive: bool, changes: list[tuple[float, int]]
) -> None:
    content = {"state_dict": WEIGHTS, "meta": [np.float32(1), argparse.Namespace(a=1)]}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "w.pth"
        if archive:
            torch.save(content, path)
            with zipfile.ZipFile(path) as file:
                records = {name: file.read(name) for name in file.namelist()}
            with zipfile.ZipFile(path, "w") as file:
                for name, record in records.items():
                    changed = name.endswith("data.pkl")
                    file.writestr(name, altered(record, changes) if changed else record)
        else:
            torch.save(WEIGHTS, path, _use_new_zipfile_serialization=False)
            path.write_bytes(altered(path.read_bytes(), changes))
        with contextlib.suppress(CheckpointError):
            assert isinstance(read_foreign(path), dict)


def altered(record: bytes, changes: list[tuple[float, int]]) -> bytes:
    """With other bytes at some places (shares of the length)."""
    made = bytearray(record)
    for place, byte in changes:
        made[int(place * (len(made) - 1))] = byte
    return bytes(made)
