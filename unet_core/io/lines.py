"""The file of a ledger: a fingerprint, then lines of JSON, each whole or worth nothing."""

import json
import os
from collections.abc import Mapping
from io import FileIO
from pathlib import Path
from typing import Any

from unet_core.io.atomic import write_text

Lines = dict[tuple[str, str], dict[str, Any]]
"""By (step, name of the block)."""


def read_lines(path: Path, name: str) -> Lines | None:
    """Valid lines of a ledger of the work `name`; None if it is absent or of other work."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    valid: list[dict[str, Any]] = []
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue  # torn by a kill; the block is done again
        if isinstance(entry, dict):
            valid.append(entry)
    if not valid or valid[0].get("fingerprint") != name:
        return None
    return {(e["step"], e["name"]): e for e in valid[1:] if e.keys() >= {"step", "name", "digest"}}


def write_lines(path: Path, name: str, lines: Mapping[tuple[str, str], dict[str, Any]]) -> None:
    """Write the valid lines anew: a line appended to a torn one would be lost with it."""
    entries = [{"fingerprint": name}, *lines.values()]
    write_text(path, "".join(json.dumps(entry) + "\n" for entry in entries))


def append_line(ledger: FileIO, line: bytes) -> None:
    """Append a whole line or nothing."""
    end = os.fstat(ledger.fileno()).st_size
    try:
        written = ledger.write(line)
        if written < len(line):  # the disk took the beginning only; the rest says why
            ledger.write(line[written:])
    except OSError:
        ledger.truncate(end)
        raise
