"""Scores of some classes, of a region, and of a coarser level."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.stages.scored import SECTION, VOLUME, Made, write_store
from tests.stages.stores import mask_store, told_of
from unet_core.config import ObjectsConfig
from unet_core.errors import BlockError, StoreError
from unet_core.geometry import IGNORED_ID
from unet_core.io.arrays import create_array
from unet_core.io.ledger import building
from unet_core.io.ngff import content_of, multiscale


def test_a_class_beyond_the_network_is_refused(tmp_path: Path) -> None:
    made = Made(tmp_path, kind="semantic")
    made.paths["truth"] = write_store(
        tmp_path / "many", np.full_like(made.truth, 5), truth={"kind": "semantic"}
    )
    with pytest.raises(BlockError, match="class 5"):
        made.score()


@pytest.mark.parametrize("objects", [SECTION, VOLUME])
def test_voxels_that_were_not_computed_count_as_ignored_ones_do(
    tmp_path: Path, objects: ObjectsConfig
) -> None:
    made, ignored = Made(tmp_path / "made"), Made(tmp_path / "ignored")
    inside = np.ones(made.truth.shape, np.uint8)
    inside[:, 8:, 20:30] = 0
    known = inside.astype(bool)
    known[:, 30:] = known[0] = False  # outside of the region
    made.mask = mask_store(tmp_path / "mask", inside)
    made.paths["probabilities"] = write_store(
        tmp_path / "part", made.stored,
        **told_of(made.stored, region=[[1, 5], [0, 30], [0, 41]], mask=content_of(made.mask)),
    )  # fmt: skip
    truth = np.where(known, made.truth, np.uint32(IGNORED_ID))
    ignored.paths["truth"] = write_store(tmp_path / "t", truth, truth={"kind": "instances"})
    found, expected = made.score(objects=objects), ignored.score(objects=objects)
    assert found["counts"] == expected["counts"]
    assert (
        found["counts"]["voxels"]["ignored"]
        > Made(tmp_path / "w").score()["counts"]["voxels"]["ignored"]
    )
    made.mask = None
    with pytest.raises(StoreError, match="--mask"):
        made.score()


def test_a_coarser_level_is_scored_against_that_level_of_the_truth(tmp_path: Path) -> None:
    coarse, fine = Made(tmp_path / "coarse"), Made(tmp_path / "fine")
    level = fine.truth[:, ::2, ::2]
    store = tmp_path / "levels"
    with building(store, stage="convert", settings={}, inputs={}) as build:
        for name, data in {"0": fine.truth, "1": level}.items():
            cut: dict[str, Any] = {"chunk": (1, 16, 16), "shard": (1, 16, 16), "dtype": data.dtype}
            create_array(store, name, shape=data.shape, **cut)[...] = data
        factors = [(1, 1, 1), (1, 2, 2)]
        ome = multiscale("t", axes="zyx", voxel_size_nm=(50, 4, 4), factors=factors)
        build.publish(ome=ome, unet={"truth": {"kind": "instances"}})
    stored, labels = fine.stored[:, :, ::2, ::2], fine.labels[:, ::2, ::2]
    parts = {"labels": write_store(tmp_path / "l", labels), "truth": store}
    told = told_of(stored, downsample=[1, 2, 2])
    coarse.paths = parts | {"probabilities": write_store(tmp_path / "p", stored, **told)}
    fine.paths = parts | {"truth": write_store(tmp_path / "t", level, truth={"kind": "instances"})}
    fine.paths["probabilities"] = write_store(tmp_path / "q", stored, **told_of(stored))
    assert coarse.score()["counts"] == fine.score()["counts"]
    told["downsample"] = [2, 2, 2]
    coarse.paths["probabilities"] = write_store(tmp_path / "r", stored, **told)
    with pytest.raises(
        StoreError, match=r"no level .* \[2, 2, 2\].*one of \[1, 1, 1\], \[1, 2, 2\]"
    ):
        coarse.score()


def test_classes_are_scored_only_where_all_of_them_are_stored(tmp_path: Path) -> None:
    made = Made(tmp_path, kind="semantic")
    expected = made.score()
    both = np.concatenate([255 - made.stored, made.stored])
    told = {"classes": 2, "channels": ["class 0", "class 1"]}
    made.paths["probabilities"] = write_store(tmp_path / "both", both, **told)
    assert made.score()["classes"] == expected["classes"]
    told = {"classes": 3, "channels": ["class 1"]}
    made.paths["probabilities"] = write_store(tmp_path / "one", made.stored, **told)
    found = made.score()
    assert found["classes"] is None
    assert found["foreground"] == expected["foreground"]
