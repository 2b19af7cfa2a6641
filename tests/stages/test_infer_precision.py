"""The number type of a volume: one, chosen once, whatever device a worker has."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.run.jobs import fresh
from tests.stages.test_infer import CONFIG, checkpoint_file, noise, raw_store
from unet_core.config import Resources
from unet_core.errors import PlanError
from unet_core.io.arrays import array_digest, open_level
from unet_core.net import device
from unet_core.net.engine import engine_of
from unet_core.stages.infer import infer_probabilities
from unet_core.stages.infer_job import Asked, asked_for, read_networks

__all__ = ["fresh"]

AUTO = replace(CONFIG, precision="auto")


def given_of(folder: Path) -> dict[str, Any]:
    raw = raw_store(folder / "raw.ome.zarr", noise((1, 2, 20, 20)), (1, 16, 16))
    return {"raw": raw, "checkpoint": checkpoint_file(folder / "best.pt")}


def asked_of(folder: Path, config: Any = AUTO, **resources: Any) -> Asked:
    given = given_of(folder)
    return asked_for(
        config,
        raw=given["raw"],
        networks=read_networks(given["checkpoint"]),
        out=folder / "out.ome.zarr",
        mask=None,
        resources=Resources(**resources),
    )


@pytest.mark.parametrize("native", [True, False])
def test_a_worker_computes_in_the_number_type_of_the_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, native: bool
) -> None:
    monkeypatch.setattr(device, "_has_bfloat16", lambda device: native)
    asked = asked_of(tmp_path)
    expected = "bfloat16" if native else "float32"
    assert asked.settings["infer"]["precision"] == asked.job.config.precision == expected
    monkeypatch.setattr(device, "_has_bfloat16", lambda device: not native)  # of a worker
    (member,) = engine_of(asked.job.members, asked.job.config, gpus=0).members
    assert str(member.dtype) == f"torch.{expected}"


def test_what_auto_stands_for_makes_the_same_store_as_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "_has_bfloat16", lambda device: True)
    given, found = given_of(tmp_path), []
    for name, config in (("a", AUTO), ("b", replace(CONFIG, precision="bfloat16"))):
        out = tmp_path / f"{name}.ome.zarr"
        infer_probabilities(config, **given, out=out, resources=Resources())
        found.append(array_digest(open_level(out)[:]))
    assert found[0] == found[1]


def test_jobs_with_gpus_that_are_not_there_yet_need_a_number_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UNET_DEVICE", raising=False)
    queued = {"launcher": "jobqueue", "gpus": 1, "memory_mb": 8000}
    with pytest.raises(PlanError, match="set it to bfloat16"):
        asked_of(tmp_path, **queued)
    job = asked_of(tmp_path, replace(CONFIG, precision="bfloat16"), **queued).job
    assert (job.gpus, job.config.precision) == (1, "bfloat16")
