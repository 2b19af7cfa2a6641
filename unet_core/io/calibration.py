"""The file of `unet-core calibrate`: how objects are made best."""

import json
from pathlib import Path

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
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ConfigError(f"format {content['format']!r}, needed is {FORMAT}")
        best = {name: value for name, value in content["best"].items() if name != "value"}
        method = load(StitchConfig, best, section="best")
        if method.method == "calibrated":
            raise ConfigError("best.method must be threshold or watershed")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"{path} is no file of `unet-core calibrate` ({error}); run that stage again"
        ) from None
    return method
