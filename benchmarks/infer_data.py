"""Sections, stores and networks that the benchmarks of inference run on."""

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from unet_core.geometry import Zyx, blocks
from unet_core.io.arrays import array_digest, create_array, shard_of, write_block
from unet_core.io.ledger import building
from unet_core.io.ngff import multiscale
from unet_core.ops.phantom import make_phantom

Voxels = Any


@cache
def real() -> tuple[Voxels, Voxels] | None:
    """Fifteen sections of tissue and their membranes, or None where there are none."""
    folder = Path(os.environ.get("UNET_TEST_DATA", "none")) / "drosophila-vnc"
    if not folder.is_dir():
        return None
    from PIL import Image

    raw = np.stack([tifffile.imread(path) for path in sorted((folder / "raw").glob("*.tif"))])
    masks = [np.asarray(Image.open(path)) for path in sorted((folder / "membranes").glob("*.png"))]
    return raw, np.stack(masks).astype(bool)


@cache
def made_up() -> tuple[Voxels, Voxels]:
    """A few sections of the phantom, and its membranes."""
    raw, ids = make_phantom((6, 1024, 1024))
    return raw, ids == 0


def sections() -> tuple[Voxels, Voxels]:
    """(z, y, x) uint8 and its membranes."""
    return real() or made_up()


def volume(shape: Zyx) -> Voxels:
    """Sections mirrored until they fill `shape`."""
    raw, _ = sections()
    return np.pad(
        raw, [(0, max(0, n - m)) for n, m in zip(shape, raw.shape, strict=True)], "symmetric"
    )[tuple(slice(n) for n in shape)]


def raw_store(store: Path, voxels: Voxels, *, chunk: Zyx, shard: Zyx) -> Path:
    """A finished raw store of (z, y, x) voxels."""
    content = array_digest(voxels)
    with building(store, stage="convert", settings={}, inputs={"file": content}) as build:
        array = create_array(
            store, "0", shape=(1, *voxels.shape), dtype=voxels.dtype, chunk=chunk, shard=shard
        )
        for block in blocks(voxels.shape, block=shard_of(array)):
            write_block(array, block.write, voxels[block.write.slices][None])
        build.tick("level 0", "all", digest=content, note=None)
        build.publish(
            ome=multiscale("raw", axes="czyx", voxel_size_nm=(40.0, 4.0, 4.0)),
            unet={"statistics": [statistics_of(voxels)]},
        )
    return store


def statistics_of(voxels: Voxels) -> dict[str, Any]:
    percentiles: Sequence[float] = np.percentile(
        voxels[:, ::4, ::4], np.linspace(0, 100, 1001)
    ).tolist()
    return {
        "count": voxels.size,
        "mean": float(voxels.mean()),
        "sd": float(voxels.std()),
        "min": float(voxels.min()),
        "max": float(voxels.max()),
        "percentiles": percentiles,
    }
