"""A result that appears whole, and a ledger of what of it is done.

Beside the store `X` stands `X.ledger.jsonl`: first the fingerprint of the work, then one line per
finished block, appended by the job's own process after the block is on disk. While the group
`zarr.json` of the store is absent, the result does not exist; it is written last.
"""

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any

from unet_core.io.atomic import write_json
from unet_core.io.lines import Lines, append_line, read_lines, write_lines
from unet_core.io.lock import Lock, holding
from unet_core.io.plainly import told_plainly
from unet_core.provenance import digest_of, record

log = logging.getLogger(__name__)


@dataclass
class Build:
    """A store being made: what of it is done, and how it is finished."""

    store: Path
    """Folder of the store; arrays are created in it."""

    scratch: Path
    """Folder beside the store for files between steps; removed when the store is published."""

    provenance: dict[str, Any]
    """Stage, fingerprint, settings, inputs and versions, as they will stand in the store."""

    lines: Lines
    """Of the ledger."""

    ledger: FileIO = field(repr=False)
    """Unbuffered: what cannot be written is known at once, and is not tried again at the end."""

    lock: Lock = field(repr=False)
    """Makes this process the only one that writes the store."""

    def done(self, step: str) -> dict[str, dict[str, Any]]:
        """Ledger lines of `step` by block name."""
        return {name: line for (of, name), line in self.lines.items() if of == step}

    def tick(self, step: str, name: str, *, digest: str | None, note: Any) -> None:
        """Record that block `name` of `step` is on disk.

        Raises
        ------
        OSError
            If the line cannot be written, as on a full disk; the ledger is as before.
        StoreError
            If another process has taken the store over.
        """
        self.lock.check()
        line = {"step": step, "name": name, "digest": digest, "note": note}
        append_line(self.ledger, json.dumps(line, allow_nan=False).encode() + b"\n")
        self.lines[step, name] = line

    def once(self, step: str, function: Callable[[], Any]) -> Any:
        """Run a global step in this process, or take its note from the ledger."""
        if (step, "") not in self.lines:
            self.tick(step, "", digest=None, note=function())
        return self.lines[step, ""]["note"]

    @property
    def content(self) -> str:
        """Digest of all that was written, whatever the order it was written in."""
        digests = sorted(
            f"{step} {name} {line['digest']}"
            for (step, name), line in self.lines.items()
            if line["digest"] is not None
        )
        return digest_of(entry.encode() for entry in digests)

    def publish(self, *, ome: Mapping[str, Any] | None = None, unet: Mapping[str, Any]) -> None:
        """Make the store appear: write its group `zarr.json`, last and atomically.

        Parameters
        ----------
        ome
            OME-NGFF metadata; None for stores that are no image.
        unet
            What later stages read: statistics, counts, kinds.
        """
        self.lock.check()
        # Lines lost to a power failure would ask for scratch files that are removed below.
        os.fsync(self.ledger.fileno())
        _sweep(self.store)
        attributes: dict[str, Any] = {
            "unet": unet,
            "provenance": {**self.provenance, "content": self.content},
        }
        if ome is not None:
            attributes["ome"] = ome
        write_json(
            self.store / "zarr.json",
            {"zarr_format": 3, "node_type": "group", "attributes": attributes},
        )
        self.tick(*_PUBLISHED, digest=None, note=None)
        shutil.rmtree(self.scratch, ignore_errors=True)

    def unpublish(self) -> None:
        """Before more is written to a store that `building` has kept published."""
        self.lock.check()
        (self.store / "zarr.json").unlink(missing_ok=True)
        self.scratch.mkdir(exist_ok=True)

    def discard(self) -> None:
        """Remove all traces, once the result stands in a file of its own.

        The ledger goes first: with it, a rerun would look for files that are half removed.
        """
        self.lock.check()
        Path(self.ledger.name).unlink(missing_ok=True)
        for folder in (self.store, self.scratch):
            shutil.rmtree(folder, ignore_errors=True)


def slabs_of(store: Path) -> Path:
    """Folder of the ledgers of jobs that write a part of `store` each: see `io.slabs`."""
    return store.with_name(f"{store.name}.slabs")


_PUBLISHED = ("published", "")
"""Ledger line after which nothing in scratch is needed any more."""


@contextmanager
def building(
    store: Path,
    *,
    stage: str,
    settings: Mapping[str, Any],
    inputs: Mapping[str, Any],
    ending: Callable[[], bool] = lambda: False,
    keep: bool = False,
) -> Iterator[Build]:
    """Go on with `store` where the same work was left, or start it anew.

    Where another process is writing it, wait until that one is done or gone.

    Parameters
    ----------
    store
        Folder that is written, ``…/raw.ome.zarr``.
    stage
        Key of `RESULT_VERSION`.
    settings
        Section name to configuration dataclass: all that decides the result.
    inputs
        Role to content digest (`io.ngff.content_of`), or to a list of them.
    ending
        True where this process is asked to end while it waits.
    keep
        A store that this very work has published stays so until `Build.unpublish`.

    Raises
    ------
    StoreError
        If there is no room for what is written here or within, or no right to, or another process
        has taken the store over; what is finished is kept.
    Interrupted
        If it was asked to end while it waited.
    """
    with (
        told_plainly(store),
        holding(store, ending=ending) as lock,
        _begun(store, record(stage, settings, inputs), lock, ending, keep) as build,
    ):
        yield build


@contextmanager
def _begun(
    store: Path, provenance: dict[str, Any], lock: Lock, ending: Callable[[], bool], keep: bool
) -> Iterator[Build]:
    name = provenance["fingerprint"]
    path = store.with_name(store.name + ".ledger.jsonl")
    scratch, slabs = store.with_name(store.name + ".scratch"), slabs_of(store)
    for busy in sorted(slabs.glob("*.lock")):
        with holding(busy.with_suffix(""), ending=ending):
            pass  # none begins while this process holds the store
    lines = read_lines(path, name)
    if lines and _PUBLISHED not in lines and not scratch.exists():
        log.warning("%s is gone, and with it what %s was made of", scratch.name, store.name)
        lines = None
    if lines and not store.exists():
        log.warning("%s is gone, and its ledger with it", store)
        lines = None
    if lines is None:
        # Snakemake makes the folders of what is to come.
        if path.exists() or any(store.glob("*")):
            log.info("%s was made from other settings or inputs: starting anew", store.name)
        path.unlink(missing_ok=True)
        for folder in (store, scratch, slabs):
            _remove(folder)
        lines = {}
    if not (keep and _PUBLISHED in lines and (store / "zarr.json").exists()):
        (store / "zarr.json").unlink(missing_ok=True)
        scratch.mkdir(parents=True, exist_ok=True)
    _sweep(store)
    store.mkdir(parents=True, exist_ok=True)
    ledgers = sorted(slabs.glob("*.ledger.jsonl"))
    for part in ledgers:
        lines |= read_lines(part, name) or {}
    write_lines(path, name, lines)
    for part in ledgers:
        part.unlink()
    with path.open("ab", buffering=0) as ledger:
        yield Build(store, scratch, provenance, lines, ledger, lock)


_LEFT = (".partial", ".__lock")
"""How names of files end that are written: `atomic.replacing`, tensorstore."""


def _sweep(store: Path) -> None:
    """Remove what writes have left whose process was killed."""
    for folder, _, files in os.walk(store):
        for file in files:
            if file.endswith(_LEFT):
                Path(folder, file).unlink(missing_ok=True)


def _remove(folder: Path) -> None:
    """Remove a store; its marker first, so that what is left after a kill is never taken whole.

    A link to a folder elsewhere, on a larger disk, stays.
    """
    (folder / "zarr.json").unlink(missing_ok=True)
    if folder.exists():
        shutil.rmtree(folder.resolve())
    if folder.is_symlink():
        folder.resolve().mkdir(parents=True, exist_ok=True)
