"""A synthetic volume with exact truth, for the demo and for first steps."""

import json
import logging
from pathlib import Path

from unet_core.geometry import Zyx
from unet_core.io.pages import description_of, write_pages
from unet_core.ops.phantom import VOXEL_SIZE_NM, make_phantom

log = logging.getLogger(__name__)

VERSION = 1
"""Raise when a change of code changes what a shape and seed give."""


def write_phantom(*, shape: Zyx, seed: int, out: Path) -> None:
    """Write ``raw.tif`` (uint8) and ``truth.tif`` (uint32 ids, 0 is membrane) to the folder `out`.

    Files that were written for the same shape and seed are kept.

    Raises
    ------
    ConfigError
        If `shape` has an axis of less than one voxel, or `seed` is negative.
    """
    made = {"seed": seed, "shape": list(shape), "version": VERSION}
    told = {
        role: json.dumps({"phantom": role, "voxel_size_nm": VOXEL_SIZE_NM, **made})
        for role in ("raw", "truth")
    }
    if all(description_of(out / f"{role}.tif") == text for role, text in told.items()):
        log.info("%s holds this phantom already", out)
        return
    raw, truth = make_phantom(shape, seed)
    write_pages(out / "raw.tif", raw, description=told["raw"])
    write_pages(out / "truth.tif", truth, description=told["truth"])
    log.info("%s: %d cells in %s voxels", out, int(truth.max()), shape)
