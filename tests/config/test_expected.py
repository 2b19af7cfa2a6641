"""What jobs were expected to take, by the names of their benchmark files."""

from pathlib import Path

import pytest

from unet_core.config import ConvertConfig, demand
from unet_core.config.expected import expected, work_of
from unet_core.config.extent import Extent, described
from unet_core.config.needs import Needs
from unet_core.config.sheet import Volume
from unet_core.config.workflow import Workflow, load_workflow
from unet_core.stages.estimate import jobs_of

PRESETS = Path(__file__).parents[2] / "config/models"
ROWS = (
    ("name", "raw", "truth", "fold", "voxel_size_nm", "batch"),
    ("a", "a.tif", "a.tif", "train", "50,4,4", "-"),
    ("b", "b.tif", "b.tif", "validation", "50,4,4", "-"),
    ("c", "c.tif", "-", "predict", "50,4,4", "both"),
    ("d", "d.tif", "d.tif", "test", "50,4,4", "both"),
)


@pytest.fixture
def needs(tmp_path: Path) -> Needs:
    sheet = tmp_path / "volumes.tsv"
    sheet.write_text("".join("\t".join(row) + "\n" for row in ROWS))
    flow = load_workflow(
        {"volumes": str(sheet), "data": str(tmp_path), "models": ["tiny", "small"]}, presets=PRESETS
    )
    sizes = {"a": (40, 900, 900), "b": (8, 700, 700), "c": (70, 1500, 600), "d": (9, 500, 600)}
    extents = {name: described(ConvertConfig(), size) for name, size in sizes.items()}

    def extent_of(flow: Workflow, volume: Volume, image: str | None = None) -> Extent:
        return extents[volume.name]

    return Needs(workflow=flow, extent_of=extent_of)


def test_every_job_is_known_by_the_name_of_its_benchmark(needs: Needs) -> None:
    batches = {tuple(names): batch for batch, names in needs.workflow.batches.items()}
    for stage, job in jobs_of(needs.workflow):
        names = job.get("volumes", [])
        volume = batches.get(tuple(names), *names[:1]) if stage != "calibrate" else None
        parts = (volume, job.get("image"), job.get("fold"), job.get("model"))
        name = ".".join(part for part in parts if part) or "report"
        assert work_of(needs, stage, name, threads=2) == needs.work(stage, threads=2, **job), name
    with pytest.raises(KeyError):
        work_of(needs, "stitch", "gone.tiny")


def test_slabs_take_as_long_as_the_whole_but_for_their_starts(needs: Needs) -> None:
    whole = expected(needs, "infer", "a.small", threads=2)
    slabs = expected(needs, "infer", "a.small", threads=2, slabs=4)
    starts = demand.seconds(needs.work("report"), "report", threads=1)
    assert whole.seconds < slabs.seconds < whole.seconds + 6 * starts
    assert slabs.memory_mb <= whole.memory_mb
    over = expected(needs, "infer", "a.small", threads=2, nodes=2)
    assert over.seconds < whole.seconds
    assert over.memory_mb == whole.memory_mb
