"""`unet-core infer` where files cannot grow: it ends at once, says so, and goes on later."""

import json
import re
import resource

import pytest

from tests.stages.faults import fill, finished, ledger_of, small_disk, until
from tests.stages.scenes import BLOCKS, Scene


@pytest.mark.parametrize("threads", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_on_a_full_disk_it_ends_at_once_and_goes_on_when_there_is_room(
    scene: Scene, threads: int
) -> None:
    with small_disk(scene.out.parent, mb=4) as disk:
        ballast = fill(disk, but=80_000)
        with scene.start(threads=threads) as job:
            assert job.wait() == 1, job.text()
            assert "No space left on device" in job.text()
            assert "Traceback (most" not in job.text()
            assert not (job.store / "zarr.json").exists()
            kept = finished(job.store)
            assert 0 < kept < BLOCKS // 2
            failed = job.text().rpartition("block(s) failed")[2].partition("block ")[0]
            assert len(re.findall(r"\d+-\d+-\d+", failed)) <= BLOCKS // 4
        ballast.unlink()
        scene.finish(threads=threads, kept=kept)
        scene.check()


@pytest.mark.slow
def test_where_the_ledger_takes_no_more_lines_it_ends_and_goes_on_later(scene: Scene) -> None:
    with scene.start(threads=2) as job:
        until(lambda: finished(job.store) >= 3, job)
        full = ledger_of(job.store).stat().st_size + 150  # in the middle of a line
        resource.prlimit(job.process.pid, resource.RLIMIT_FSIZE, (full, resource.RLIM_INFINITY))
        assert job.wait() == 1, job.text()
        assert "no room for" in job.text()
        assert "File too large" in job.text()
        assert "Traceback (most" not in job.text()
    lines = ledger_of(scene.out).read_text().splitlines()
    assert all(json.loads(line) for line in lines)
    assert len(lines) - 1 == finished(scene.out) >= 3
    scene.finish(threads=1)
    scene.check()


@pytest.mark.slow
def test_where_only_the_marker_finds_no_room_nothing_is_computed_again(scene: Scene) -> None:
    with small_disk(scene.folder / "disk", mb=4) as disk:
        (disk / scene.out.name).mkdir()
        scene.out.parent.mkdir()
        scene.out.symlink_to(disk / scene.out.name)
        scene.finish(threads=1)
        (scene.out / "zarr.json").unlink()
        ballast = fill(disk, but=0)
        with scene.start(threads=1) as job:
            assert job.wait() == 1, job.text()
            assert "no room for" in job.text()
            assert "Traceback (most" not in job.text()
        ballast.unlink()
        scene.finish(threads=1, kept=BLOCKS)
        scene.check()
