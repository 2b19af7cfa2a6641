"""What makes blocks stale, and what does not: settings, weights and voxels, nothing else."""

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.stages.stores import mask_store
from tests.stages.test_infer import checkpoint_file, noise, raw_store
from unet_core.config import InferConfig, NetworkConfig, Resources
from unet_core.io.ngff import attributes_of, content_of
from unet_core.stages.infer import infer_probabilities

NET = NetworkConfig(width=2, depth=1, convolutions=1)
CONFIG = InferConfig(tile_px=16, precision="float32")
BLOCKS = 4


class Run:
    """One volume of four blocks; `again` tells how many of them were computed."""

    def __init__(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        self.folder, self.caplog = folder, caplog
        self.given: dict[str, Any] = {
            "raw": raw_store(folder / "raw.ome.zarr", noise((1, 2, 32, 32)), (2, 16, 16)),
            "checkpoint": checkpoint_file(folder / "best.pt", NET),
            "resources": Resources(),
        }
        assert self.again() == BLOCKS
        assert self.again() == 0

    def again(self, config: InferConfig = CONFIG, **given: Any) -> int:
        self.caplog.clear()
        with self.caplog.at_level("INFO"):
            out = self.folder / "probabilities.ome.zarr"
            infer_probabilities(config, out=out, **(self.given | given))
        computed = re.search(r"infer: resumed \d+, computed (\d+)", self.caplog.text)
        assert computed is not None
        return int(computed[1])


@pytest.fixture
def run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Run:
    return Run(tmp_path, caplog)


@pytest.mark.parametrize(
    "changed",
    [
        {"dtype": "float16"},
        {"precision": "bfloat16"},
        {"averaging": "symmetries"},
        {"region": ((0, 2), (0, 32), (0, 32))},
        {"classes": (0, 1)},
        {"downsample": (2, 1, 1)},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_another_setting_makes_every_block_stale(run: Run, changed: dict[str, Any]) -> None:
    keys: dict[str, Any] = {"tile_px": 16, "precision": "float32"}
    assert run.again(InferConfig(**(keys | changed))) == BLOCKS
    assert run.again() == BLOCKS, "and back"


def test_other_weights_raw_or_mask_make_every_block_stale(run: Run) -> None:
    other = checkpoint_file(
        run.folder / "other.pt", NetworkConfig(width=4, depth=1, convolutions=1)
    )
    assert run.again(checkpoint=other) == BLOCKS
    assert run.again(checkpoint=[other, run.given["checkpoint"]]) == BLOCKS
    assert run.again(checkpoint=[run.given["checkpoint"], other]) == 0, "order counts for nothing"
    values = noise((1, 2, 32, 32))
    values[0, 1, 31, 31] ^= 1
    changed = raw_store(run.folder / "changed.ome.zarr", values, (2, 16, 16))
    assert run.again(raw=changed) == BLOCKS
    inside = np.ones((2, 32, 32), np.uint8)
    for n in range(2):
        mask = mask_store(run.folder / f"mask-{n}.ome.zarr", inside, (2, 16, 16))
        assert run.again(mask=mask) == BLOCKS
        assert run.again(mask=mask) == 0
        told = attributes_of(run.folder / "probabilities.ome.zarr")["unet"]
        assert told["mask"] == content_of(mask)
        inside[0, 5, 5] = 0


def test_files_that_are_touched_or_moved_make_none(run: Run) -> None:
    for path in run.folder.rglob("*"):
        os.utime(path, (10**9, 10**9))
    assert run.again() == 0
    moved = run.given["raw"].rename(run.folder / "elsewhere.ome.zarr")
    best = run.given["checkpoint"].rename(run.folder / "elsewhere.pt")
    assert run.again(raw=moved, checkpoint=best) == 0


def test_what_computes_makes_none(run: Run) -> None:
    for resources in (
        Resources(threads=2),
        Resources(memory_mb=8000),
        Resources(lease_s=1000.0),
    ):
        assert run.again(resources=resources) == 0
    for config in (
        InferConfig(tile_px=8, precision="float32"),
        InferConfig(tile_px="auto", precision="float32"),
        InferConfig(tile_px=16, precision="float32", on_error="skip-and-report"),
    ):
        assert run.again(config) == 0


def test_the_window_decides_where_a_network_sees_all_of_its_input(run: Run) -> None:
    net = NetworkConfig(width=2, depth=1, convolutions=1, norm="instance", padding="same")
    best = checkpoint_file(run.folder / "instance.pt", net)
    plain = InferConfig(tile_px=16, precision="float32", window=16)
    assert run.again(plain, checkpoint=best) == BLOCKS
    assert run.again(replace(plain, tile_px=8), checkpoint=best) == 0
    assert run.again(replace(plain, window=8), checkpoint=best) == BLOCKS
