"""Workers: how much two get done over one, and what dealing blocks to them costs."""

# isort: off
import measure
from measure import Cost, Rounds, Row, cost_of, fresh, row, settled
# isort: on

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

from infer_data import raw_store, volume
from infer_forward import SMALL, network_of, status_mb

from unet_core.config import InferConfig, Resources
from unet_core.geometry import Block, Zyx, blocks
from unet_core.io.ledger import building
from unet_core.net.checkpoint import write_checkpoint
from unet_core.run.crew import Crew, Done
from unet_core.stages.infer import infer_volume
from unet_core.stages.infer_job import read_networks

SHARD: Zyx = (4, 512, 512)
BLOCKS = 16


def scaling() -> Iterator[Row]:
    """Wall time of a volume by one worker over that by two, one thread each, all started before."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as opened:
        folder = Path(name)
        shape = (SHARD[0], SHARD[1], BLOCKS * SHARD[2])
        raw = raw_store(folder / "raw.ome.zarr", volume(shape), chunk=(4, 128, 128), shard=SHARD)
        write_checkpoint(folder / "best.pt", network_of(SMALL))
        networks = read_networks(folder / "best.pt")
        numbers = itertools.count()

        def by(crew: Crew) -> Callable[[], None]:
            def once() -> None:
                out = folder / f"{next(numbers)}.ome.zarr"
                infer_volume(
                    InferConfig(), raw=raw, networks=networks, out=out, mask=None, crew=crew
                )

            return once

        crews = {n: opened.enter_context(Crew(Resources(threads=n))) for n in (1, 2)}
        rounds = Rounds({f"{n} workers": by(crew) for n, crew in crews.items()})
        yield rounds.ratio(
            "volumes per second by two workers over one",
            lambda s: s["1 workers"] / s["2 workers"],
            1.8,
            of="wall",
            against="one worker",
            how=f"store to store, width {SMALL.width}, {BLOCKS} blocks of {SHARD}; start apart",
        )


LOCK = Lock()
"""Of a worker: its device."""


def nap(block: Block, *, seconds: float) -> Done:
    """Work that takes so long on a device that does one thing at a time."""
    with LOCK:
        time.sleep(seconds)
    return Done(None)


def dealing() -> Iterator[Row]:
    """What dealing costs beside blocks of a second, and what many blocks leave in memory."""
    count, workers = 20, 2
    with tempfile.TemporaryDirectory() as name, Crew(Resources(threads=workers)) as crew:
        folder = Path(name)
        deal(crew, folder, 4, 0.0)

        def over() -> float:
            return deal(crew, folder, count, 1.0).wall * workers / count - 1

        yield settled(
            "time beside the work, blocks of 1 s",
            [over() for _ in range(measure.ROUNDS)],
            over,
            0.01,
            at_least=False,
            against="the work itself, shared evenly",
            how=f"{count} blocks that sleep 1 s on each of {workers} workers' devices, wall",
        )
        many = 300
        spent = [deal(crew, folder, many, 0.0) for _ in range(measure.ROUNDS)]
        cpu, wall = (sorted(getattr(c, of) for c in spent)[2] / many for of in ("cpu", "wall"))
        yield row(
            "CPU of the driver for a block, share of a block of 1 s",
            cpu,
            0.01,
            at_least=False,
            against="1 s",
            how=f"{many} blocks of nothing by {workers} workers; {1e3 * wall:.2f} ms of wall each",
        )
    first, last, blocks_done = fresh(grown)
    yield row(
        "memory of the driver, growth over 10^4 blocks, MB",
        last - first,
        5.0,
        at_least=False,
        against="after the first 1000",
        how=f"{blocks_done} blocks of nothing by {workers} workers, RSS {last:.0f} MB at the end",
    )


NUMBERS = itertools.count()


def deal(crew: Crew, folder: Path, count: int, seconds: float) -> Cost:
    """What a step of `count` blocks takes, workers being there."""
    plan = blocks((1, 1, count), block=(1, 1, 1))
    return cost_of(lambda: run(crew, folder, plan, seconds, told=lambda: None))


def run(
    crew: Crew, folder: Path, plan: list[Block], seconds: float, *, told: Callable[[], None]
) -> None:
    name = str(next(NUMBERS))
    with building(folder / name, stage="infer", settings={}, inputs={"name": name}) as build:
        tick = build.tick

        def ticking(*args: Any, **keys: Any) -> None:
            tick(*args, **keys)
            told()

        build.tick = ticking  # type: ignore[method-assign]
        crew.run(build, "step", partial(nap, seconds=seconds), plan, ahead=2)


def grown() -> tuple[float, float, int]:
    """Memory (MB) of a driver when 1000 blocks are done, and when 10 000 more are."""
    numbers, found = itertools.count(1), {}

    def told() -> None:
        if (number := next(numbers)) in (1000, 11_000):
            found[number] = status_mb("VmRSS")

    plan = blocks((1, 1, 11_000), block=(1, 1, 1))
    with tempfile.TemporaryDirectory() as name, Crew(Resources(threads=2)) as crew:
        run(crew, Path(name), plan, 0.0, told=told)
    return found[1000], found[11_000], 10_000
