"""From store to store: what the stage costs beside the network, and how busy a device is kept."""

# isort: off
import measure
from measure import Rounds, Row, row, settled
# isort: on

import itertools
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any
from unittest import mock

import torch
from infer_data import raw_store, volume
from infer_forward import PAPER, SMALL, network_of

from unet_core.config import InferConfig, NetworkConfig, Resources
from unet_core.geometry import Block, Zyx, blocks
from unet_core.io.cache import Cache
from unet_core.io.remote import location
from unet_core.net.checkpoint import write_checkpoint
from unet_core.net.device import memory_format
from unet_core.net.engine import Engine
from unet_core.net.parts import Part, parts_of
from unet_core.net.predict import Predictor
from unet_core.run import inference
from unet_core.stages import infer
from unet_core.stages.infer import infer_probabilities

TILE = 512


def end_to_end() -> Iterator[Row]:
    """CPU seconds of the stage over those of the network's passes alone, on the same tiles."""
    for model, sections in ((SMALL, 8), (PAPER, 1)):
        with tempfile.TemporaryDirectory() as folder:
            yield from end_to_end_of(model, sections, Path(folder))


def end_to_end_of(model: NetworkConfig, sections: int, folder: Path) -> Iterator[Row]:
    shard: Zyx = (sections, TILE, TILE)
    sides = {"one block": 1, "four blocks": 4}
    keys: dict[str, Any] = {"chunk": (min(sections, 8), 128, 128), "shard": shard}
    stores = {
        name: raw_store(folder / f"{n}.ome.zarr", volume((sections, TILE, n * TILE)), **keys)
        for name, n in sides.items()
    }
    write_checkpoint(folder / "best.pt", network_of(model))
    config = InferConfig(tile_px=TILE)
    ways: dict[str, Callable[[], object]] = {
        name: stage_of(config, raw, folder / "best.pt", folder, Resources(threads=1))
        for name, raw in stores.items()
    }
    ways["network"] = passes(model, config, 3 * sections)
    rounds = Rounds(ways)
    start = rounds.seconds("one block") - rounds.seconds("network") / 3
    yield rounds.ratio(
        f"store to store, CPU seconds over those of the bare passes, width {model.width}",
        lambda s: (s["four blocks"] - s["one block"]) / s["network"],
        1.05,
        at_least=False,
        against="the network called on the same tiles, ready in memory, nothing before or after",
        how=f"the stage on four blocks of {shard} less the stage on one: three blocks, "
        f"{3 * sections} tiles of {TILE} px, one worker",
        digits=4,
        start_s=measure.rounded(start),
    )


def stage_of(
    config: InferConfig, raw: Any, checkpoint: Path, folder: Path, resources: Resources
) -> Callable[[], None]:
    numbers = itertools.count()

    def once() -> None:
        out = folder / f"out{id(raw)}-{next(numbers)}.ome.zarr"
        infer_probabilities(config, raw=raw, checkpoint=checkpoint, out=out, resources=resources)
        shutil.rmtree(out)
        out.with_name(out.name + ".ledger.jsonl").unlink()

    return once


def passes(model: NetworkConfig, config: InferConfig, count: int) -> Callable[[], None]:
    """The bare passes over `count` tiles, which are in memory as the network takes them."""
    predictor = Predictor(network_of(model), config)
    raw = torch.from_numpy(volume((count, TILE, TILE)))
    (part,) = parts_of([model], blocks((1, TILE, TILE), block=(1, TILE, TILE))[0].write,
                       tile_px=TILE, downsample=(1, 1, 1))  # fmt: skip
    side = part.read.shape[1]
    tiles = torch.nn.functional.pad(raw.float()[None], [(side - TILE) // 2] * 4, "reflect")[0]
    tiles = (tiles - tiles.mean()) / tiles.std()
    ready = [tile[None, None].to(predictor.dtype, memory_format=memory_format(2)) for tile in tiles]

    @torch.inference_mode()
    def once() -> None:
        for tile in ready:
            predictor.network(tile)

    return once


# A device that sleeps


class Watch:
    """What the stand-in did in one run of the stage; in this process."""

    seconds = 0.0
    """That it takes for a tile."""

    worked = 0.0
    free = 0.0
    """When it is done with all that it was given."""

    began = ended = 0.0
    """When the first block was begun, and the last written."""

    alone: Any = None
    """A lock where blocks are done one after the other."""

    caches: list[Cache]
    result: Any = None


def begin(self: Engine, part: Part, voxels: Any, at: Zyx) -> Any:
    """In place of `Engine._begin`: the device does one tile after another, and nobody waits yet."""
    Watch.free = max(Watch.free, time.perf_counter()) + Watch.seconds
    Watch.worked += Watch.seconds
    z, y, x = part.core.shape
    return Watch.free, Watch.result[:, :z, :y, :x]


def end(self: Engine, begun: Any) -> Any:
    """In place of `Engine._end`: sleeps until the device is done with a tile."""
    done, result = begun
    time.sleep(max(0.0, done - time.perf_counter()))
    return result.numpy()


def watched(some: Sequence[Block], *, job: Any) -> Any:
    """In place of `infer_blocks`."""
    with Watch.alone:
        Watch.began = Watch.began or time.perf_counter()
        done = inference.infer_blocks(some, job=job)
        Watch.ended = time.perf_counter()
        return done


class _Free:
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


class Counted(Cache):
    def __init__(self, *args: Any, **keys: Any) -> None:
        super().__init__(*args, **keys)
        Watch.caches.append(self)


def _ignore(self: Engine, device: torch.device) -> None: ...


@contextmanager
def standing_in() -> Iterator[None]:
    noise = torch.nn.functional.interpolate(
        torch.rand(1, 16, 128, 128), scale_factor=8, mode="bilinear"
    )
    Watch.result = (noise * 765 - 255).clamp(0, 255).to(torch.uint8)[0, None]
    with (
        mock.patch.object(Engine, "_begin", begin),
        mock.patch.object(Engine, "_end", end),
        # As with a GPU, some tiles are under way while one is fetched.
        mock.patch.object(
            Engine, "device", property(lambda self: torch.device("cuda"), _ignore), create=True
        ),
        mock.patch.object(infer, "infer_blocks", watched),
        mock.patch.object(inference, "Cache", Counted),
    ):
        yield


def watch(stage: Callable[[], None], *, seconds: float, alone: bool = False) -> None:
    """Run the stage with a device that sleeps `seconds` for a tile."""
    Watch.seconds, Watch.worked, Watch.began, Watch.caches = seconds, 0.0, 0.0, []
    Watch.alone = Lock() if alone else _Free()
    inference._cache_of.cache_clear()
    stage()


SHAPE: Zyx = (32, 2048, 4096)
SHARD: Zyx = (32, 512, 512)
CHUNK: Zyx = (16, 128, 128)
TILES = 32
"""Of a block: one per section. Chunks and shards are those of the default settings."""


def device_busy() -> Iterator[Row]:
    """Share of the time in which a device that sleeps has work, reading and writing real stores."""
    with tempfile.TemporaryDirectory() as name, standing_in():
        folder = Path(name)
        raw = raw_store(folder / "bucket/raw.ome.zarr", volume(SHAPE), chunk=CHUNK, shard=SHARD)
        write_checkpoint(folder / "best.pt", network_of(NetworkConfig(width=4)))
        yield from busy_on(raw, folder, "a local store", {2.0: 0.95, 4.0: 0.95, 1.0: None})
        yield amplification(raw, folder)
        script = Path(__file__).with_name("slow_store.py")
        command = [sys.executable, str(script), str(folder), "--latency-ms", "10"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            address = server.stdout.readline().strip()
            far: Any = location(f"{address}/bucket/raw.ome.zarr")
            yield from busy_on(far, folder, "a store 10 ms away", {2.0: 0.90, 4.0: 0.90})
            server.terminate()


def busy_on(raw: Any, folder: Path, where: str, wanted: dict[float, float | None]) -> Iterator[Row]:
    stage = stage_of(
        InferConfig(tile_px=TILE), raw, folder / "best.pt", folder, Resources(threads=1)
    )
    count = SHAPE[1] * SHAPE[2] // TILE**2

    def io_seconds() -> float:
        """Reading and writing a block, one after the other."""
        watch(stage, seconds=0, alone=True)
        return (Watch.ended - Watch.began) / count

    io_seconds()
    for ratio, target in wanted.items():
        told: list[float] = []

        def share(ratio: float = ratio, told: list[float] = told) -> float:
            told.append(io_seconds())
            watch(stage, seconds=ratio * told[-1] / TILES)
            return Watch.worked / (Watch.ended - Watch.began)

        found = [share() for _ in range(measure.ROUNDS)]
        yield settled(
            f"device busy at compute/IO {ratio:g}, {where}",
            found,
            share,
            target,
            against="the time from the beginning of the first block to the end of the last",
            how=f"the stage, one worker; {count} blocks of {SHARD}; a tile takes its time, as on a "
            "GPU not in the way of the next; each round first measures what reading and writing a "
            "block take alone",
            io_s_per_block=measure.rounded(sorted(told)[len(told) // 2]),
        )


def amplification(raw: Path, folder: Path) -> Row:
    stage = stage_of(
        InferConfig(tile_px=TILE), raw, folder / "best.pt", folder, Resources(threads=1)
    )
    watch(stage, seconds=0)
    decoded = sum(cache.decoded_bytes for cache in Watch.caches)
    needed = sum(cache.needed_bytes for cache in Watch.caches)
    size = SHAPE[0] * SHAPE[1] * SHAPE[2]
    return row(
        "bytes decoded per byte of the volume",
        decoded / size,
        1.2,
        at_least=False,
        against=f"every block by itself: at least {needed / size:.2f}",
        how=f"the stage, counted; {SHAPE} in blocks of {SHARD}, chunks of {CHUNK}, halo of 94",
    )
