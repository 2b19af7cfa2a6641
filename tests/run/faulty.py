"""Blocks of a small store that go wrong as they are told; run in workers."""

import os
import signal
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from unet_core.config import ConvertConfig, Resources
from unet_core.geometry import Block, blocks
from unet_core.io.arrays import create_array, open_level, shard_of, write_block
from unet_core.io.ledger import building
from unet_core.run.crew import Crew, Done

Faults = dict[str, tuple[str, int]]
"""By name of the block: what goes wrong, and how often."""

NAMES = [f"{z}-{y}-{x}" for z in (0, 4) for y in (0, 4, 8) for x in (0, 4, 8)]


def count_up(
    block: Block, *, store: Path, pause: float = 0, slow: float = 0, faults: Faults | None = None
) -> Done:
    """Write the block; a block's files `tried-*` lie beside the store, one per try."""
    name, folder = block.name, store.parent
    kind, times = (faults or {}).get(name, ("", 0))
    tries = len(list(folder.glob(f"tried-{name}-*")))
    (folder / f"tried-{name}-{tries}-{os.getpid()}").touch()
    time.sleep(slow if slow and is_slow(folder) else pause)
    if tries < times:
        go_wrong(kind)
    z, y, x = (range(a, b) for a, b in zip(block.write.start, block.write.stop, strict=True))
    values = np.add.outer(np.add.outer(np.array(z) * 100, np.array(y) * 10), np.array(x))
    written = write_block(open_level(store, mode="r+"), block.write, values.astype("uint16"))
    return Done(written, note=os.getpid())


def go_wrong(kind: str) -> None:
    if kind == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "stopped":
        os.kill(os.getpid(), signal.SIGSTOP)
    if kind == "hangs":
        time.sleep(1000)
    if kind == "disk full":
        raise OSError(28, os.strerror(28))
    raise {"transient": OSError("storage hiccup"), "wrong": ValueError("planted")}[kind]


def is_slow(folder: Path) -> bool:
    """Is this the one process that is slow? The first that asks."""
    try:
        (folder / "slow").symlink_to(str(os.getpid()))
    except FileExistsError:
        return (folder / "slow").readlink().name == str(os.getpid())
    return True


def in_twos(todo: Sequence[Block]) -> list[Sequence[Block]]:
    return [todo[n : n + 2] for n in range(0, len(todo), 2)]


def count_up_all(group: Sequence[Block], **options: Any) -> dict[str, Done]:
    return {block.name: count_up(block, **options) for block in group}


def make(store: Path, resources: Resources, crew: Crew | None = None, **options: Any) -> list[Any]:
    """Write the store of 18 blocks; returns the notes. Options of `Crew.run`, else of a block."""
    settings = {"convert": ConvertConfig()}
    keys = ("need_mb", "ahead", "amount", "on_error", "together")
    how = {key: options.pop(key) for key in keys if key in options}
    with building(store, stage="convert", settings=settings, inputs={}) as build:
        level = create_array(
            store, "0", shape=(8, 9, 10), dtype="uint16", chunk=(2, 2, 2), shard=(4, 4, 4)
        )
        plan = blocks(level.shape, block=shard_of(level))
        with crew or Crew(resources) as crew:
            work = partial(count_up_all if "together" in how else count_up, store=store, **options)
            notes = crew.run(build, "level 0", work, plan, **how)
        build.publish(unet={})
    return notes
