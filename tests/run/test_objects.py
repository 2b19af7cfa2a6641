"""Objects made block by block are those of the whole volume, in any order and after any kill."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from unet_core.config import ObjectsConfig, Resources
from unet_core.errors import BlockError, PlanError
from unet_core.geometry import Block, Box, Zyx
from unet_core.io.arrays import create_array, open_level, write_block
from unet_core.io.ledger import building
from unet_core.ops.union import ObjectArray
from unet_core.run.crew import Crew, Done
from unet_core.run.objects import label_components, refuse_tables

SHAPE = (5, 40, 37)


def speckles(shape: Zyx = SHAPE) -> np.ndarray:
    return np.random.default_rng(5).random(shape) < 0.5


def mask_of(box: Box) -> np.ndarray:
    return speckles()[box.slices]


def write(block: Block, labels: ObjectArray, *, out: Path) -> Done:
    return Done(write_block(open_level(out, mode="r+"), block.write, labels))


def write_with_trouble(block: Block, labels: ObjectArray, *, out: Path, until: Path) -> Done:
    if block.write.start[1] > 0 and not until.exists():
        raise OSError("disk is full")
    return write(block, labels, out=out)


def label(out: Path, shard: Zyx, *, scope: str = "volume", min_size: int = 0, writer=write, **keys):
    objects = ObjectsConfig(min_size_vx=min_size, scope=scope)
    inputs = {"mask": "1"}
    with (
        building(out, stage="stitch", settings={"objects": objects}, inputs=inputs) as build,
        Crew(Resources(**keys)) as crew,
    ):
        create_array(out, "0", shape=SHAPE, dtype="uint64", chunk=shard, shard=shard)
        n = label_components(
            crew,
            build,
            mask_of=mask_of,
            write=partial(writer, out=out),
            shape=SHAPE,
            shard=shard,
            scope=scope,
            min_size=min_size,
        )
        build.publish(unet={"objects": n})
    return n, open_level(out)[:]


@pytest.mark.parametrize("scope", ["section", "volume"])
@pytest.mark.parametrize("shard", [(1, 40, 37), (2, 16, 16), (5, 8, 37)])
def test_labels_are_those_of_scipy_for_every_shard(tmp_path: Path, scope: str, shard: Zyx) -> None:
    structure = ndimage.generate_binary_structure(3, 1)
    if scope == "section":
        structure[[0, 2]] = False
    expected, n = ndimage.label(speckles(), structure)
    count, labels = label(tmp_path / "labels.zarr", shard, scope=scope)
    assert count == n
    np.testing.assert_array_equal(labels, expected)


def test_two_workers_give_what_one_gives(tmp_path: Path) -> None:
    one = label(tmp_path / "one.zarr", (5, 20, 20), min_size=4)
    two = label(tmp_path / "two.zarr", (5, 20, 20), min_size=4, threads=2)
    assert one[0] == two[0]
    np.testing.assert_array_equal(one[1], two[1])


def test_a_run_that_failed_goes_on_to_the_same_labels(tmp_path: Path) -> None:
    until = tmp_path / "mended"
    trouble = partial(write_with_trouble, until=until)
    with pytest.raises(BlockError, match="disk is full"):
        label(tmp_path / "a.zarr", (2, 16, 16), writer=trouble)
    until.touch()
    resumed = label(tmp_path / "a.zarr", (2, 16, 16), writer=trouble)
    whole = label(tmp_path / "b.zarr", (2, 16, 16))
    np.testing.assert_array_equal(resumed[1], whole[1])
    assert resumed[0] == whole[0]
    assert not (tmp_path / "a.zarr.scratch").exists()


def test_tables_beyond_the_memory_are_refused() -> None:
    refuse_tables(10**9, 10**7, None)
    with pytest.raises(PlanError, match="10000000 pieces of objects need about 1000 MB"):
        refuse_tables(10**9, 10**7, 900)
