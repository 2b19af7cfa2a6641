"""How large stores of real volumes are, against what is told before anything runs."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from unet_core.cli import main
from unet_core.config.needs import Files
from unet_core.config.workflow import Workflow, load_workflow
from unet_core.stages.estimate import estimate_run
from unet_core.stages.estimate_hardware import Hardware

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
VOLUMES = {
    "isbi2012": ("train-volume.tif", "train-labels.tif", "50,4,4", "0:12"),
    "fib-medulla": ("grayscale", "groundtruth.h5::stack", "10,10,10", "0:64"),
}
"""Raw, truth, voxels in nanometres, and the sections that a test converts."""


def workflow_of(name: str, data: Path, folder: Path) -> Workflow:
    """The shipped configuration of a volume, with some of its sections alone."""
    raw, truth, size, sections = VOLUMES[name]
    sheet = folder / "volumes.tsv"
    heads = ("name", "raw", "truth", "fold", "voxel_size_nm", "sections")
    rows = (heads, ("part", raw, truth, "train", size, sections))
    sheet.write_text("".join("\t".join(row) + "\n" for row in rows))
    config: dict[str, Any] = {}
    for file in ("config.yaml", f"{name}.yaml"):
        for key, value in yaml.safe_load((REPOSITORY / "config" / file).read_text()).items():
            both = isinstance(value, dict) and isinstance(config.get(key), dict)
            config[key] = {**config[key], **value} if both else value
    config |= {"volumes": str(sheet), "data": str(data)}
    return load_workflow(config, presets=REPOSITORY / "config/models")


def make(flow: Workflow, folder: Path) -> dict[str, Path]:
    """Convert raw and truth, and weigh."""
    volume = flow.volumes["part"]
    stores = {kind: folder / f"{kind}.ome.zarr" for kind in ("raw", "truth", "weights")}
    for image in ("raw", "truth"):
        settings = flow.settings("convert", volume="part", image=image)
        told = ["--config", settings, "--raw", volume.source(image), "--out", str(stores[image])]
        assert main(["convert", *told, *(["--truth"] if image == "truth" else [])]) == 0
    told = ["--config", flow.settings("weights"), "--truth", str(stores["truth"])]
    assert main(["weights", *told, "--out", str(stores["weights"])]) == 0
    return stores


def written(store: Path) -> int:
    """Bytes of a store's voxels."""
    files = (path for path in store.rglob("*") if path.is_file() and path.name != "zarr.json")
    return sum(path.stat().st_size for path in files)


@pytest.mark.parametrize("name", VOLUMES)
def test_stores_of_real_volumes_are_within_half_of_what_was_told(
    name: str, real_data: Path, tmp_path: Path
) -> None:
    if not (real_data / name).exists():
        pytest.skip(f"no {name} in UNET_TEST_DATA")
    flow = workflow_of(name, real_data / name, tmp_path)
    files = Files(results=tmp_path / "none", headers=tmp_path / "none.json")
    told = estimate_run(flow, files=files, hardware=Hardware()).stores
    found = make(flow, tmp_path)
    for store in told:
        if store.kind in found:
            ratio = store.disk_bytes / written(found[store.kind])
            assert 1 / 1.5 <= ratio <= 1.5, f"{store.kind}: {ratio:.2f} times what is written"
