"""Blocks of a small store that go wrong as they are told; run in workers."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unet_core.config import ConvertConfig, Resources
from unet_core.errors import DamageError
from unet_core.geometry import Block, blocks
from unet_core.io.arrays import create_array, open_level, shard_of, write_block
from unet_core.io.ledger import building
from unet_core.run.crew import Crew, Done

Faults = dict[str, tuple[str, int]]
"""By name of the block: what goes wrong, and how often."""

SHAPE = (8, 9, 10)
LONG = (28, 9, 10)
"""Of more blocks than fail around a lost shard."""


def names_of(shape: tuple[int, int, int]) -> list[str]:
    """Of the blocks, in their order."""
    return [block.name for block in blocks(shape, block=(4, 4, 4))]


NAMES = names_of(SHAPE)


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
    raise {
        "transient": OSError("storage hiccup"),
        "damaged": DamageError("a flipped bit"),
        "wrong": ValueError("planted"),
    }[kind]


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


def make(
    store: Path,
    resources: Resources,
    crew: Crew | None = None,
    shape: tuple[int, int, int] = SHAPE,
    **options: Any,
) -> list[Any]:
    """Write the store of 18 blocks; returns the notes. Options of `Crew.run`, else of a block."""
    settings = {"convert": ConvertConfig()}
    keys = ("need_mb", "ahead", "amount", "on_error", "together")
    how = {key: options.pop(key) for key in keys if key in options}
    with building(store, stage="convert", settings=settings, inputs={}) as build:
        level = create_array(
            store, "0", shape=shape, dtype="uint16", chunk=(2, 2, 2), shard=(4, 4, 4)
        )
        plan = blocks(level.shape, block=shard_of(level))
        with crew or Crew(resources) as crew:
            work = partial(count_up_all if "together" in how else count_up, store=store, **options)
            notes = crew.run(build, "level 0", work, plan, **how)
        build.publish(unet={})
    return notes


def check_same(store: Path, undisturbed: Path) -> None:
    files = [path.relative_to(undisturbed) for path in undisturbed.rglob("*") if path.is_file()]
    assert sorted(p.relative_to(store) for p in store.rglob("*") if p.is_file()) == sorted(files)
    for file in files:
        assert (store / file).read_bytes() == (undisturbed / file).read_bytes(), file


def kept(store: Path) -> list[str]:
    """Lines of the ledger, one per finished block."""
    ledger = store.with_name(store.name + ".ledger.jsonl")
    return ledger.read_text().splitlines()[1:] if ledger.exists() else []


SCRIPT = """
if __name__ == "__main__":
    import sys
    from pathlib import Path
    from tests.run.faulty import in_twos, make
    from unet_core import cli
    from unet_core.config import Resources

    store, options = Path(sys.argv[1]), {options}
    resources = Resources(**options.pop("resources"))
    if options.pop("twos", False):
        options["together"] = in_twos
    cli._COMMANDS["phantom"] = lambda _: make(store, resources, **options)
    sys.exit(cli.main(["phantom", "--shape", "1", "1", "1", "--out", sys.argv[1]]))
"""


def start(store: Path, **options: object) -> subprocess.Popen[str]:
    root = Path(__file__).parents[2]
    script = store.with_name("script.py")
    script.write_text(SCRIPT.replace("{options}", repr(options)))
    return subprocess.Popen(
        [sys.executable, script, store],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def until(job: subprocess.Popen[str], moment: Callable[[], object]) -> None:
    while not moment():
        if job.poll() is not None:
            pytest.fail(f"it ended before: {job.communicate()[1]}")
        time.sleep(0.02)
