"""Into how many parts a volume is cut that jobs of their own compute."""

from collections.abc import Sequence
from math import prod

from unet_core.config.base import Zyx
from unet_core.config.extent import counted

MOST_SLABS = 4000
"""Of a run: Snakemake plans some thousand jobs in minutes, and clusters take no more."""

LEAST_VOXELS = 2**33
"""Of a slab, where the volume has as many: minutes of a GPU, so a job's start counts little."""


def default_slab(shape: Sequence[int], shard: Sequence[int], *, most: int = MOST_SLABS) -> Zyx:
    """Voxels (z, y, x) of a slab: whole shards of the store that is written.

    Doubled along its shortest edge until it holds LEAST_VOXELS and the volume has at most `most`.
    """
    slab = list(shard)
    while prod(slab) < LEAST_VOXELS or counted(shape, slab) > most:
        open_axes = [axis for axis in range(3) if slab[axis] < shape[axis]]
        if not open_axes:
            break
        axis = min(open_axes, key=lambda axis: (slab[axis], axis))
        slab[axis] *= 2
    z, y, x = (min(size, -(-n // s) * s) for size, n, s in zip(slab, shape, shard, strict=True))
    return z, y, x
