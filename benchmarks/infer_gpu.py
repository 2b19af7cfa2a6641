"""The same on a GPU: store to store against the bare passes and against the matrix rate."""

# isort: off
from measure import Rounds, Row, row
# isort: on

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from infer_data import raw_store, volume
from infer_forward import PAPER, SMALL, network_of, tile_of
from infer_pipeline import stage_of

from unet_core.config import InferConfig, NetworkConfig, Resources
from unet_core.config.networks.cost import multiply_adds
from unet_core.net.checkpoint import write_checkpoint
from unet_core.net.device import memory_format
from unet_core.net.predict import Predictor

TILE = 2048
BLOCKS = 8
SECTIONS = 16


def gpu() -> Iterator[Row]:
    names = {
        "store to store over the bare rate": (0.90, "the bare passes on tiles in GPU memory"),
        "store to store over the matrix rate": (0.50, "the matrix rate measured in this run"),
        "store to store, Mvoxel/s": (None, "no published figure"),
    }
    for model in (PAPER, SMALL):
        if torch.cuda.is_available():
            with tempfile.TemporaryDirectory() as folder:
                yield from gpu_of(model, Path(folder), names)
            continue
        for name, (target, against) in names.items():
            told = f"GPU, {name}, width {model.width}"
            yield row(told, None, target, against=against, how="not run: there is no GPU")


def gpu_of(model: NetworkConfig, folder: Path, names: dict[str, Any]) -> Iterator[Row]:
    voxels = SECTIONS * BLOCKS * TILE**2
    keys: dict[str, Any] = {"chunk": (16, 256, 256), "shard": (SECTIONS, TILE, TILE)}
    long = raw_store(folder / "long.zarr", volume((SECTIONS, TILE, (BLOCKS + 1) * TILE)), **keys)
    short = raw_store(folder / "short.zarr", volume((SECTIONS, TILE, TILE)), **keys)
    write_checkpoint(folder / "best.pt", network_of(model))
    config, resources = InferConfig(tile_px=TILE), Resources(threads=8, gpus=1)
    work = 2 * multiply_adds(model, tile_of(model, TILE)[1:]) * SECTIONS * BLOCKS
    rounds = Rounds(
        {
            "long": stage_of(config, long, folder / "best.pt", folder, resources),
            "short": stage_of(config, short, folder / "best.pt", folder, resources),
            "bare": bare(model, config, SECTIONS * BLOCKS),
            "matrices": matrices(),
        }
    )
    values = {
        "store to store over the bare rate": lambda s: s["bare"] / (s["long"] - s["short"]),
        "store to store over the matrix rate": lambda s: (
            (work / (s["long"] - s["short"])) / (MATRIX_WORK / s["matrices"])
        ),
        "store to store, Mvoxel/s": lambda s: voxels / 1e6 / (s["long"] - s["short"]),
    }
    for name, (target, against) in names.items():
        yield rounds.ratio(
            f"GPU, {name}, width {model.width}",
            values[name],
            target,
            of="wall",
            against=against,
            how=f"{torch.cuda.get_device_name()}; {BLOCKS} blocks of {SECTIONS} sections, tiles of "
            f"{TILE} px; the stage on {BLOCKS + 1} blocks less the stage on one",
        )


def bare(model: NetworkConfig, config: InferConfig, count: int) -> Callable[[], None]:
    predictor = Predictor(network_of(model), config, gpus=1)
    side = tile_of(model, TILE)[1]
    tile = torch.randn(1, 1, side, side, device=predictor.device)
    tile = tile.to(predictor.dtype, memory_format=memory_format(2))

    @torch.inference_mode()
    def once() -> None:
        for _ in range(count):
            predictor.network(tile)
        torch.cuda.synchronize()

    return once


SIDE, PRODUCTS = 8192, 100
MATRIX_WORK = 2 * SIDE**3 * PRODUCTS


def matrices() -> Callable[[], None]:
    """Products of bfloat16 matrices."""
    a, b = (torch.randn(SIDE, SIDE, device="cuda", dtype=torch.bfloat16) for _ in range(2))

    def once() -> None:
        for _ in range(PRODUCTS):
            torch.mm(a, b)
        torch.cuda.synchronize()

    return once
