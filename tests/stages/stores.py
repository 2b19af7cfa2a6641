"""What tests of later stages write in place of earlier ones."""

from pathlib import Path
from typing import Any

import numpy as np

from unet_core.io.arrays import create_array
from unet_core.io.ledger import building
from unet_core.io.ngff import multiscale


def told_of(values: np.ndarray, **more: Any) -> dict[str, Any]:
    """Attributes that `infer` gives to a store of `values`, (c, z, y, x)."""
    channels = [f"class {number}" for number in range(1, len(values) + 1)]
    return {"classes": len(values) + 1, "channels": channels, **more}


def mask_store(store: Path, inside: np.ndarray, chunk: tuple[int, int, int] = (4, 8, 8)) -> Path:
    """A finished store of a mask, (z, y, x)."""
    with building(store, stage="convert", settings={}, inputs={"name": store.stem}) as build:
        keys: dict[str, Any] = {"chunk": chunk, "shard": chunk, "dtype": np.uint8}
        create_array(store, "0", shape=inside.shape, **keys)[...] = inside
        build.tick("level 0", "all", digest=str(hash(inside.tobytes())), note=None)
        ome = multiscale("mask", axes="zyx", voxel_size_nm=(40, 4, 4))
        build.publish(ome=ome, unet={"mask": {}})
    return store
