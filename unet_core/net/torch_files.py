"""Files of torch, read without running or importing what they name."""

import pickle
import re
import struct
import warnings
from collections import Counter, OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from unet_core.errors import CheckpointError

_BEGINS = (b"PK", b"\x80")
"""First bytes of an archive, and of files of torch from before these."""

_PROGRAM = "TorchScript"

_NAMED = re.compile(r"GLOBAL ([\w.]+)")
"""What a file would call, as torch says."""

_DATA = re.compile(
    r"numpy\.(dtype|ndarray|_?core\.(multiarray\.(scalar|_reconstruct)|numeric\._frombuffer))"
    r"|builtins\.(getattr|range|slice|frozenset)|functools\.partial|(pathlib|datetime)\.\w+"
)
"""Calls by which plain data is written: arrays, paths, dates, members of classes."""

_CONTAINERS: dict[str, type] = {"collections.defaultdict": dict, "collections.deque": list}

_BROKEN = (
    *(RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError),
    *(AssertionError, struct.error),
)
"""What torch raises over bytes that make no sense."""


@dataclass(frozen=True)
class Opaque:
    """Stands for what was not read."""

    name: str
    """Of its class."""


def read_torch(path: Path, *, if_code: str, if_damaged: str, objects: bool = False) -> Any:
    """What a file of torch holds, on the CPU: tensors and plain values, by name.

    Parameters
    ----------
    if_code, if_damaged
        What to do then, for the message.
    objects
        There may be others besides: of mappings, tensors, numbers and texts are read, and `Opaque`
        stands for all else. What calls a function is refused still.

    Raises
    ------
    CheckpointError
        If it is no file of torch, damaged, or holds code.
    """
    with path.open("rb") as file:
        begins = file.read(2)
    if not begins.startswith(_BEGINS):
        raise CheckpointError(f"{path} is damaged, or no file of torch; {if_damaged}")
    try:
        names = _unknown(path) if objects else []
        stand_ins: list[Any] = [(_StandIn(name, (_Object,), {}), name) for name in names]
        with warnings.catch_warnings(action="ignore"), safe_globals(stand_ins):
            content = torch.load(path, map_location="cpu", weights_only=True)
        return _plain(content, {}) if objects else content
    except pickle.UnpicklingError as error:
        reason = next((n for n in _NAMED.findall(str(error))), "unknown")
        raise CheckpointError(
            f"{path} was refused: it holds code besides tensors ({reason}); {if_code}"
        ) from None
    except _BROKEN as error:
        if _PROGRAM in str(error):
            raise CheckpointError(
                f"{path} was refused: it is a {_PROGRAM} archive, which is code; {if_code}"
            ) from None
        raise CheckpointError(
            f"{path} is damaged, or no file of torch ({error}); {if_damaged}"
        ) from None


def _unknown(path: Path) -> list[str]:
    """Classes and functions that a file names and torch does not read by itself."""
    try:
        return sorted(get_unsafe_globals_in_checkpoint(path))
    except (*_BROKEN, pickle.UnpicklingError):
        return []  # reading it tells what is wrong


class _StandIn(type):
    """A class in place of one, or of a function, that a file names."""

    def __call__(cls, *given: Any) -> Any:
        """What the file has by a call; nothing is called."""
        name = cls.__name__
        if name in _CONTAINERS:
            return _CONTAINERS[name]()
        if not _DATA.fullmatch(name):
            raise pickle.UnpicklingError(f"GLOBAL {name} is called")
        return object.__new__(cast(type, cls))


class _Object(metaclass=_StandIn):
    def __new__(cls, *given: Any) -> Any:
        """What the file has as an object of the class.

        Torch gives items and attributes to few; a Counter takes both, whichever the object has.
        """
        made: Counter[Any] = Counter()
        vars(made)["stands_for"] = cls.__name__
        return made

    def __setstate__(self, state: Any) -> None:
        return


def _plain(value: Any, known: dict[int, Any]) -> Any:
    """Without objects; `known`: what was made of mappings, by their id."""
    if isinstance(value, Tensor):
        return torch.Tensor.detach(value)  # a file may give it a method of this name
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) in (dict, OrderedDict):
        if id(value) not in known:
            known[id(value)] = Opaque("mapping that holds itself")
            known[id(value)] = {
                key: _plain(item, known)
                for key, item in dict.items(value)
                if type(key) in (str, int)
            }
        return known[id(value)]
    if type(value) is Counter:
        return Opaque(str(vars(value).get("stands_for", "Counter")))
    return Opaque(value.__name__ if isinstance(value, _StandIn) else type(value).__name__)
