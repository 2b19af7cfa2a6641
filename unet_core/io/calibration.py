"""The file of `unet-core calibrate`: how objects are made best."""

import json
from pathlib import Path
from typing import Any

from unet_core.config import StitchConfig, load
from unet_core.errors import ConfigError, StoreError

FORMAT = 1
"""Raised when a reader of older files could be misled."""


def read_calibration(path: Path) -> StitchConfig:
    """The way of making objects that did best on the validation volumes.

    Raises
    ------
    StoreError
        If `path` is absent or not what `unet-core calibrate` writes.
    """
    try:
        return _method(_content(path)["best"], "best")
    except _UNREADABLE as error:
        raise _refusal(path, error) from None


def read_threshold(path: Path) -> float | None:
    """The threshold that did best on the validation volumes, also where a watershed did better.

    None: no threshold was tried.

    Raises
    ------
    StoreError
        If `path` is absent or not what `unet-core calibrate` writes.
    """
    try:
        content = _content(path)
        best = content["best_threshold"]
        return None if best is None else _method(best, "best_threshold").threshold
    except _UNREADABLE as error:
        raise _refusal(path, error) from None


_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError)


def _content(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if content["format"] != FORMAT:
        raise ConfigError(f"format {content['format']!r}, needed is {FORMAT}")
    return content


def _method(candidate: dict[str, Any], name: str) -> StitchConfig:
    settings = {key: value for key, value in candidate.items() if key != "value"}
    method = load(StitchConfig, settings, section=name)
    if method.method == "calibrated":
        raise ConfigError(f"{name}.method must be threshold or watershed")
    return method


def _refusal(path: Path, error: Exception) -> StoreError:
    return StoreError(f"{path} is no file of `unet-core calibrate` ({error}); run that stage again")
