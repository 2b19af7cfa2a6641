"""What storing and reading costs, by tensorstore as we use it, beside zarr-python and zarrs.

    UNET_TEST_DATA=... python benchmarks/storage.py

CPU seconds of one thread, medians of interleaved rounds; some five minutes. Raw voxels are
those of `isbi2012` below UNET_TEST_DATA, or made up. Then how often chunks are decoded, counted;
and how busy a device is kept by a store that answers 10 ms late. The last thing printed is a JSON
list.
"""

import itertools
import json
import os
import queue
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from measure import Rounds, Row, row

# isort: split
import numpy as np
import tifffile
import zarr
from scipy.ndimage import gaussian_filter

from unet_core.geometry import Block, Box, Zyx, blocks
from unet_core.io.arrays import (
    chunk_of,
    create_array,
    open_level,
    read,
    shard_of,
    stored,
    write_block,
)
from unet_core.io.cache import Cache
from unet_core.io.remote import location
from unet_core.io.transfer import write_box
from unet_core.traversal import walk

REPETITIONS = 7
SHAPE: Zyx = (32, 1024, 1024)
HALO: Zyx = (0, 96, 96)
SEEN = Box((0, 160, 160), (32, 864, 864))
"""A block of 32 x 512 x 512 with a halo of 96."""

CUTS = {
    "16x128x128 in 32x512x512": {"chunk": (16, 128, 128), "shard": (32, 512, 512)},
    "16x256x256 in 32x1024x1024": {"chunk": (16, 256, 256), "shard": (32, 1024, 1024)},
    "32x64x64 in 32x512x512": {"chunk": (32, 64, 64), "shard": (32, 512, 512)},
}
PIPELINES = {
    "zarr-python": "zarr.core.codec_pipeline.BatchedCodecPipeline",
    "zarrs": "zarrs.ZarrsCodecPipeline",
}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = [*codecs(Path(folder)), *amplification(Path(folder)), *late(Path(folder))]
    print(json.dumps(rows, indent=1))


def codecs(folder: Path) -> Iterator[Row]:
    """Writing shards, reading them whole, and reading one block with its halo."""
    for (kind, voxels), codec in itertools.product(data().items(), ("zstd", "none")):
        for cut in CUTS if (kind, codec) == ("raw", "zstd") else list(CUTS)[:1]:
            store = folder / f"{kind}{codec}{cut}".replace(" ", "")
            ways = ways_of(store, voxels, codec, CUTS[cut])
            for act in ("write", "read", "read a block with its halo"):
                yield from compared(
                    f"{act}, {kind}, {codec}, {cut}", {name: way[act] for name, way in ways.items()}
                )


def compared(name: str, ways: dict[str, Callable[[], object]]) -> Iterator[Row]:
    """How many times our CPU seconds zarr-python takes, and zarrs."""
    rounds = Rounds(ways, rounds=REPETITIONS)
    yield rounds.ratio(
        f"{name}: CPU seconds, times ours",
        lambda seconds: seconds["zarr-python"] / seconds["ours"],
        1.2,
        against="zarr-python's own pipeline",
        how=f"uint8, {SHAPE}, without digests",
    )
    yield rounds.ratio(
        f"{name}: CPU seconds, times ours",
        lambda seconds: seconds["zarrs"] / seconds["ours"],
        0.8,
        against="zarrs",
        how=f"uint8, {SHAPE}, without digests",
    )


def ways_of(store: Path, voxels: Any, codec: Any, cut: Any) -> dict[str, dict[str, Any]]:
    """By library: what is timed."""
    keys = {"shape": voxels.shape, "dtype": voxels.dtype, "codec": codec, **cut}
    plan = [block.write for block in blocks(voxels.shape, block=cut["shard"])]
    found: dict[str, dict[str, Any]] = {}

    def add(name: str, put: Callable[[Box], object], get: Callable[[Box], Any]) -> None:
        whole = Box((0, 0, 0), voxels.shape)
        found[name] = {
            "write": lambda: [put(box) for box in plan],
            "read": lambda: get(whole),
            "read a block with its halo": lambda: get(SEEN),
        }
        found[name]["write"]()
        assert np.array_equal(get(whole), voxels)
        assert np.array_equal(get(SEEN), voxels[SEEN.slices])

    array = create_array(store / "ours", "0", **keys)
    found_at = stored(array)
    add(
        "ours",
        lambda box: write_box(found_at, box.start, voxels[box.slices]),  # without the digest
        lambda box: read(array, box),
    )
    for name, path in PIPELINES.items():
        create_array(store / name, "0", **keys)
        with zarr.config.set({"codec_pipeline.path": path, "threading.max_workers": 1}):
            other = zarr.open_array(store / name / "0", mode="r+")
        add(
            name,
            lambda box, other=other: other.__setitem__(box.slices, voxels[box.slices]),
            lambda box, other=other: other[box.slices],
        )
    return found


def data() -> dict[str, Any]:
    """Raw voxels, and probabilities as a network makes them: smooth, and two fifths 0 or 255."""
    rng = np.random.default_rng(0)
    smooth = gaussian_filter(rng.normal(size=(SHAPE[0], 256, 256)), (0.5, 3, 3))
    sharp = 255 / (1 + np.exp(-60 * np.tile(smooth, (1, SHAPE[1] // 256, SHAPE[2] // 256))))
    return {"raw": raw_voxels(), "probabilities": sharp.round().astype("uint8")}


def raw_voxels() -> Any:
    stacks = Path(os.environ.get("UNET_TEST_DATA", "none")) / "isbi2012"
    if not stacks.is_dir():
        grain = np.random.default_rng(1).normal(128, 30, SHAPE)
        return gaussian_filter(grain, (0, 0.5, 0.5)).clip(0, 255).astype("uint8")
    both = [tifffile.imread(stacks / f"{name}-volume.tif") for name in ("train", "test")]
    z, y, x = SHAPE
    return np.tile(np.concatenate(both)[:z], (1, y // 512, x // 512))


def amplification(folder: Path) -> Iterator[Row]:
    """Bytes decoded for one byte of the volume, counted, at an eighth of the size."""
    cases: list[tuple[str, Zyx, Zyx, Zyx, Zyx]] = [
        # name, volume, block, halo, chunk: of the full size
        ("sections, blocks 32x512x512", (128, 4096, 4096), (32, 512, 512), HALO, (16, 128, 128)),
        ("sections, blocks 128x512x512", (128, 4096, 4096), (128, 512, 512), HALO, (16, 128, 128)),
        ("sections, chunk 256", (128, 8192, 8192), (128, 512, 512), HALO, (16, 256, 256)),
        # Of four boxes of 1024^3 each would read 1.27 times its share, whatever the order.
        ("3-D, blocks 128^3", (512, 2048, 2048), (128, 128, 128), (48, 48, 48), (64, 64, 64)),
        ("3-D, blocks 256^3", (1024, 2048, 2048), (256, 256, 256), (48, 48, 48), (64, 64, 64)),
    ]
    for (name, *full), runs in itertools.product(cases, (1, 2, 4)):
        shape, block, halo, chunk = (tuple(max(1, n // 8) if n else 0 for n in f) for f in full)
        store = folder / f"{name}".replace(" ", "")
        array = create_array(store, "0", shape=shape, dtype="uint8", chunk=chunk, shard=block)
        plan = blocks(shape, block=block, halo=halo)
        if runs == 1:
            for each in plan:
                write_block(array, each.write, np.ones(each.write.shape, "uint8"))
            plain = counted(array, plan, 0, 1)
        found = walk(plan, shape=shape, chunk=chunk, runs=runs)
        decoded = counted(array, found.blocks, found.cache_voxels, runs)
        gib = found.cache_voxels * 512 / 2**30
        yield row(
            f"bytes decoded per byte, {name}, runs {runs}",
            decoded,
            1.2,
            at_least=False,
            against=f"in C order without a cache: {plain:.2f}",
            how=f"counted by io.cache; volume {full[0]}, halo {full[2]}, chunk {full[3]}, at an "
            f"eighth of it; foretold: {found.amplification:.3f} with {gib:.2f} GiB per run",
        )


def counted(array: Any, order: list[Block], most_bytes: int, runs: int) -> float:
    """Bytes decoded for one of the volume, in contiguous parts with a cache each."""
    cuts = [len(order) * number // runs for number in range(runs + 1)]
    decoded = 0
    for first, last in itertools.pairwise(cuts):
        cache = Cache(array, most_bytes=most_bytes)
        for block in order[first:last]:
            cache.read_mirrored(block.read)
        decoded += cache.decoded_bytes
    return decoded / array.nbytes


def late(folder: Path) -> Iterator[Row]:
    """How busy a device is, which sleeps, while blocks come from a store 10 ms away."""
    voxels = np.tile(raw_voxels(), (1, 2, 2))
    raw = folder / "bucket" / "raw.ome.zarr"
    array = create_array(
        raw, "0", shape=voxels.shape, dtype="uint8", chunk=(16, 128, 128), shard=(32, 512, 512)
    )
    for block in blocks(voxels.shape, block=shard_of(array)):
        write_block(array, block.write, voxels[block.write.slices])
    command = [sys.executable, str(Path(__file__).with_name("slow_store.py")), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        far = open_level(location(f"{address}/bucket/raw.ome.zarr"))
        plan = blocks(voxels.shape, block=shard_of(array), halo=HALO)
        order = walk(plan, shape=voxels.shape, chunk=chunk_of(array))
        for speed in (30, 100):  # million voxels/s: of the device
            for ahead in (0, 2):
                rates = [
                    busy(far, order.blocks, order.cache_voxels, speed, ahead) for _ in range(5)
                ]
                how = (
                    f"{len(plan)} blocks of 32x512x512, halo 96, from HTTP on the loopback, each "
                    f"answer 10 ms late; 5 times, {min(rates):.3f}..{max(rates):.3f}"
                )
                middle = statistics.median(rates)
                # Where others have the cores, it is these that the device waits for.
                starved = middle < 0.9 and os.getloadavg()[0] > (os.cpu_count() or 1)
                yield row(
                    f"device busy, {speed} Mvoxel/s, {ahead} blocks read ahead",
                    None if starved else middle,
                    0.9 if ahead else None,
                    against="a device that never waits",
                    how=how,
                    **({"not_resolved": f"{middle:.3f}, cores taken"} if starved else {}),
                )
        server.kill()


def busy(far: Any, order: list[Block], most_bytes: int, speed: float, ahead: int) -> float:
    """Share of the time from the first block in hand to the last done that the device works."""
    cache = Cache(far, most_bytes=most_bytes)
    ready: queue.Queue[Any] = queue.Queue(max(1, ahead - 1))

    def read_all() -> None:
        for block in order:
            ready.put(cache.read_mirrored(block.read))

    thread = threading.Thread(target=read_all)
    if ahead:
        thread.start()
    worked = began = 0.0
    for number, block in enumerate(order):
        _ = ready.get() if ahead else cache.read_mirrored(block.read)
        if number == 0:
            began = time.monotonic()
        time.sleep(block.write.size / speed / 1e6)
        worked += block.write.size / speed / 1e6
    whole = time.monotonic() - began
    if ahead:
        thread.join()
    return worked / whole


if __name__ == "__main__":
    main()
