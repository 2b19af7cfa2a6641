"""A mapping from YAML becomes a frozen dataclass, and a dataclass becomes canonical JSON."""

import dataclasses
import difflib
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from unet_core.errors import ConfigError

Config = TypeVar("Config")


def load(schema: type[Config], settings: Mapping[str, Any], *, section: str) -> Config:
    """Build `schema` from `settings`, refusing unknown keys, wrong types and nonsense values.

    Parameters
    ----------
    schema
        A pydantic dataclass of `unet_core.config`.
    settings
        Keys and values as read from YAML or JSON; missing keys take their defaults.
    section
        What the user calls this mapping, for messages: ``"infer"``.

    Raises
    ------
    ConfigError
        Naming the key (``infer.tile_px``), what was given and what is needed.
    """
    if not isinstance(settings, Mapping):
        raise ConfigError(f"{section} must be a mapping of settings, got {settings!r}")
    try:
        return _validate(schema, settings)
    except ValidationError as error:
        raise ConfigError(_explain(error, schema, section)) from None


def canonical(settings: Any) -> str:
    """One JSON string per meaning: keys sorted, no spaces, every default filled in.

    Accepts a dataclass or any JSON-able value; two settings are the same exactly when
    their canonical strings are.
    """
    value = dataclasses.asdict(settings) if dataclasses.is_dataclass(settings) else settings  # type: ignore[arg-type]
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _validate(schema: type[Config], settings: Mapping[str, Any]) -> Config:
    # By way of JSON: strict types, yet a list is a tuple and 1 is 1.0, as users of YAML expect.
    adapter, text = TypeAdapter(schema), json.dumps(dict(settings), default=str)
    try:
        return adapter.validate_json(text, strict=True)
    except ValidationError as error:
        if not all(isinstance(problem["input"], str) for problem in error.errors()):
            raise
    # Numbers as text: what YAML makes of 1e-3, and `snakemake --config` of nested values.
    return adapter.validate_json(text, strict=False)


def _explain(error: ValidationError, schema: type, section: str) -> str:
    lines = []
    for problem in error.errors():
        key = ".".join([section, *(str(part) for part in problem["loc"])])
        if problem["type"] == "unexpected_keyword_argument":
            name = str(problem["loc"][-1])
            known = sorted(field.name for field in dataclasses.fields(schema))
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(known)}"
            lines.append(f"unknown setting {key}; {hint}")
        elif isinstance(inner := problem.get("ctx", {}).get("error"), ConfigError):
            lines.append(str(inner))
        else:
            lines.append(f"{key}: {problem['msg']}, got {problem['input']!r}")
    return "\n".join(lines)
