"""Speed of objects made block by block, beside libraries that hold the whole volume.

    python benchmarks/stitch.py

The last line is a JSON list of {name, value, target, met, against, how}. All are timed in this
process on one thread, taking turns, medians, in seconds of CPU time. Ours includes
the scratch files between the steps; zarr and the workers are left out on both sides.
"""

# isort: off
from measure import Row, medians, row
# isort: on

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cc3d
import numpy as np
from scipy import ndimage
from skimage.morphology import h_minima
from skimage.segmentation import watershed

from unet_core.config import Resources
from unet_core.geometry import Block, Zyx
from unet_core.run.basins import label_watershed
from unet_core.run.crew import Done
from unet_core.run.objects import label_components

SHAPE = (64, 512, 512)
BLOCK = (32, 256, 256)
SMALL = (24, 192, 192)
SMALL_BLOCK = (12, 96, 96)
DEPTH = 3000
CROSS = ndimage.generate_binary_structure(3, 1)


class Inline:
    """Runs the blocks here, one after the other, instead of a crew."""

    resources = Resources()

    def run(
        self,
        build: Any,
        step: str,
        work: Callable[[Block], Done],
        blocks: Sequence[Block],
        **_: Any,
    ) -> list[Any]:
        return [work(block).note for block in blocks]


def main() -> None:
    rows = [*components(), *basins()]
    print(json.dumps(rows))


def components() -> list[Row]:
    mask = terrain(SHAPE) < 29000
    ours, scipys, cc3ds = medians(
        lambda: blockwise_components(mask, BLOCK),
        lambda: ndimage.label(mask, CROSS),
        lambda: cc3d.connected_components(mask.view(np.uint8), connectivity=6),
    )
    expected, objects = ndimage.label(mask, CROSS)
    shapes = [BLOCK, (64, 512, 512), (7, 200, 333)]
    wrong = sum(int(np.sum(blockwise_components(mask, b) != expected)) for b in shapes)
    speed = f"{mask.size / ours / 1e6:.0f} Mvoxel/s in blocks of {BLOCK}, {objects} objects"
    how = f"{SHAPE} voxels, {speed}; CPU time, 1 thread, medians"
    return [
        row(
            "components in blocks, speed relative to scipy on the whole",
            scipys / ours,
            0.5,
            against=f"scipy.ndimage.label, {mask.size / scipys / 1e6:.0f} Mvoxel/s",
            how=how,
        ),
        row(
            "components in blocks, speed relative to cc3d on the whole",
            cc3ds / ours,
            0.2,
            against=f"cc3d 6-connected uint8, {mask.size / cc3ds / 1e6:.0f} Mvoxel/s",
            how=how,
        ),
        row(
            "voxels whose id differs from scipy's of the whole",
            wrong,
            0,
            at_least=False,
            against="scipy.ndimage.label, ids included",
            how=f"blocks of {shapes}",
        ),
    ]


def basins() -> list[Row]:
    heights = terrain(SMALL)

    def theirs() -> Any:
        markers, _ = ndimage.label(h_minima(heights, DEPTH, footprint=CROSS), CROSS)
        return watershed(heights, markers, connectivity=CROSS)

    ours, scikit = medians(lambda: blockwise_basins(heights, SMALL_BLOCK), theirs)
    whole = blockwise_basins(heights, SMALL)
    shapes = [SMALL_BLOCK, (1, 192, 192), (24, 192, 1), (5, 17, 23)]
    wrong = sum(int(np.sum(blockwise_basins(heights, b) != whole)) for b in shapes)
    speed = f"{heights.size / ours / 1e6:.1f} Mvoxel/s in blocks of {SMALL_BLOCK}"
    how = f"{SMALL} voxels, {speed}, {int(whole.max())} objects; medians"
    return [
        row(
            "watershed in blocks, times scikit-image on the whole",
            scikit / ours,
            3,
            against=f"h_minima + watershed, {heights.size / scikit / 1e6:.2f} Mvoxel/s",
            how=how,
        ),
        row(
            "voxels whose watershed id depends on the blocks",
            wrong,
            0,
            at_least=False,
            against="the whole volume as one block",
            how=f"blocks of {shapes}",
        ),
    ]


def blockwise_components(mask: Any, block: Zyx) -> Any:
    out = np.zeros(mask.shape, np.uint64)
    with tempfile.TemporaryDirectory() as scratch:
        label_components(
            Inline(),
            build_in(scratch),
            mask_of=lambda box: mask[box.slices],
            write=writer(out),
            shape=mask.shape,
            shard=block,
            scope="volume",
        )
    return out


def blockwise_basins(heights: Any, block: Zyx) -> Any:
    out = np.zeros(heights.shape, np.uint64)
    with tempfile.TemporaryDirectory() as scratch:
        label_watershed(
            Inline(),
            build_in(scratch),
            heights_of=lambda box: heights[box.slices],
            write=writer(out),
            shape=heights.shape,
            shard=block,
            scope="volume",
            depth=DEPTH,
        )
    return out


def build_in(scratch: str) -> Any:
    return SimpleNamespace(scratch=Path(scratch), once=lambda step, function: function())


def writer(out: Any) -> Callable[[Block, Any], Done]:
    def write(block: Block, labels: Any) -> Done:
        out[block.write.slices] = labels
        return Done(None)

    return write


def terrain(shape: Zyx) -> Any:
    noise = ndimage.gaussian_filter(np.random.default_rng(0).random(shape, np.float32), 3)
    return ((noise - noise.min()) / np.ptp(noise) * 65534).astype(np.uint16)


if __name__ == "__main__":
    main()
