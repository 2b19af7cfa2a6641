"""`unet-core infer` where input is damaged or output not finite: those blocks fail, no others."""

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.stages.faults import files_of, finished, until
from tests.stages.scenes import BLOCKS, SHAPE, SHARD, Scene
from tests.stages.test_infer import MODEL, noise, raw_store, statistics_of
from unet_core.config import InferConfig, Resources
from unet_core.io.ngff import attributes_of
from unet_core.io.probabilities import open_probabilities
from unet_core.net.checkpoint import read_checkpoint, write_checkpoint
from unet_core.net.parts import halo_of
from unet_core.stages.infer import infer_probabilities


def shard_file(raw: Path, section: int) -> Path:
    """The only file of the raw voxels of a block."""
    return raw / "0" / "c" / "0" / str(section) / "0" / "0"


def cut_off(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 4] ^= 4
    file.write_bytes(data)


def shut(file: Path) -> None:
    """Not to be opened by anyone, whoever runs this."""
    file.unlink()
    file.symlink_to(file)


DAMAGES = {4: cut_off, 14: flip, 24: Path.unlink, 34: shut}
"""By section."""
DAMAGED = {f"{section}-0-0" for section in DAMAGES}


def copied(scene: Scene) -> Path:
    """A raw store of its own, to be damaged; returns the one that it is a copy of."""
    whole, scene.raw = scene.raw, scene.folder / "raw.ome.zarr"
    shutil.copytree(whole, scene.raw)
    return whole


def mend(scene: Scene, whole: Path) -> None:
    for section in range(SHAPE[1]):
        file = shard_file(scene.raw, section)
        file.unlink(missing_ok=True)
        shutil.copy(shard_file(whole, section), file)


def test_blocks_of_damaged_chunks_fail_with_their_places_and_the_others_finish(
    scene: Scene,
) -> None:
    whole = copied(scene)
    for section, damage in DAMAGES.items():
        damage(shard_file(scene.raw, section))
    with scene.start(threads=1) as job:
        assert job.wait() == 1, job.text()
        assert "4 block(s) failed" in job.text()
        assert all(name in job.text().splitlines()[-1] for name in DAMAGED)
        assert "Traceback (most" not in job.text()
        assert finished(job.store) == BLOCKS - len(DAMAGES)
        assert not (job.store / "zarr.json").exists()
    mend(scene, whole)
    scene.finish(threads=1)
    scene.check()


@pytest.mark.slow
def test_where_asked_to_skip_it_ends_well_and_says_what_is_missing(scene: Scene) -> None:
    whole = copied(scene)
    for section, damage in DAMAGES.items():
        damage(shard_file(scene.raw, section))
    with scene.start(threads=2, on_error="skip-and-report") as job:
        assert job.wait() == 0, job.text()
        for name in DAMAGED:
            assert f"block {name} failed and is left out" in job.text()
    probabilities = open_probabilities(scene.out)
    assert sorted(box.start[0] for box in probabilities.failed) == sorted(DAMAGES)
    mend(scene, whole)
    scene.finish(threads=1, on_error="skip-and-report", kept=BLOCKS - len(DAMAGES))
    scene.check()


@pytest.mark.slow
def test_where_most_blocks_fail_it_stops_at_once_even_if_asked_to_skip(scene: Scene) -> None:
    copied(scene)
    for section in range(3, SHAPE[1]):
        flip(shard_file(scene.raw, section))
    with scene.start(threads=1, on_error="skip-and-report") as job:
        assert job.wait() == 1, job.text()
        (failed,) = re.findall(r"(\d+) block\(s\) failed", job.text())
        assert int(failed) < BLOCKS - 3
        assert re.search(r"block\(s\) failed, \d+ not tried", job.text())
        assert finished(job.store) == 3
        assert not (job.store / "zarr.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("damage", [shut, flip])
def test_a_chunk_that_can_be_read_a_moment_later_fails_nothing(
    scene: Scene, damage: Callable[[Path], None]
) -> None:
    whole = copied(scene)
    damage(shard_file(scene.raw, 14))
    with scene.start(threads=1) as job:
        until(lambda: "tried again" in job.text(), job)
        mend(scene, whole)
        assert job.wait() == 0, job.text()
    scene.check()


def test_of_blocks_computed_together_those_alone_fail_that_see_the_damage(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """And the same call does them once it is mended, with no file removed by hand."""
    raw = raw_store(scene.folder / "raw.ome.zarr", noise((1, 2, 16, 144)), (1, 16, 16))
    lost = raw / "0" / "c" / "0" / "1" / "0" / "0"
    config = InferConfig(tile_px=144, precision="float32", on_error="skip-and-report")

    def infer(out: Path) -> dict[str, bytes]:
        how = {"checkpoint": scene.checkpoint, "resources": Resources(threads=1)}
        infer_probabilities(config, raw=raw, out=out, **how)
        return files_of(out)

    expected = infer(scene.folder / "expected.ome.zarr")
    lost.rename(scene.folder / "lost")
    infer(scene.out)
    reach = halo_of([MODEL])[2]
    failed = [f"1-0-{x}" for x in range(0, 16 + reach, 16)]
    assert 1 < len(failed) < 9
    assert list(attributes_of(scene.out)["unet"]["failed"]) == sorted(failed)
    (scene.folder / "lost").rename(lost)
    with caplog.at_level("INFO"):
        assert infer(scene.out) == expected
    assert f"infer: resumed {18 - len(failed)}, computed {len(failed)}" in caplog.text


def test_what_is_not_finite_is_refused_with_its_place_and_not_written(scene: Scene) -> None:
    values = noise(SHAPE).astype("float32")
    statistics = statistics_of(values / 1000)
    values[:, 20] *= 1e36  # finite, but no longer once it is normalised
    scene.raw = raw_store(scene.folder / "raw.ome.zarr", values, SHARD, statistics)
    with scene.start(threads=1) as job:
        assert job.wait() == 1, job.text()
        last = job.text().splitlines()[-1]
        assert "1 block(s) failed: 20-0-0 " in last
        assert "not finite" in last
        assert finished(job.store) == BLOCKS - 1
    files = {path for path in files_of(scene.out) if "/c/" in path}
    assert len(files) == BLOCKS - 1
    assert not any(re.search(r"/c/\d+/20/", path) for path in files)


@pytest.mark.slow
def test_weights_that_are_not_finite_stop_it_at_once_with_nothing_written(scene: Scene) -> None:
    trained = read_checkpoint(scene.checkpoint)
    weights = {name: value.clone() for name, value in trained.state.items()}
    next(iter(weights.values())).view(-1)[0] = torch.nan
    scene.checkpoint = scene.folder / "nan.pt"
    write_checkpoint(scene.checkpoint, replace(trained, state=weights))
    with scene.start(threads=2) as job:
        assert job.wait() == 1, job.text()
        assert "not finite" in job.text().splitlines()[-1]
        assert finished(job.store) == 0
        assert [path for path in files_of(job.store) if "/c/" in path] == []
