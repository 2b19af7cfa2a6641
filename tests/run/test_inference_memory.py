"""Memory of inference: tiles that a GPU does not hold, and what a process takes."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.run.jobs import fresh, job_of, limited, plan_of, result_of
from tests.stages.test_infer import MODEL, checkpoint_file, noise, raw_store, statistics_of
from unet_core.errors import PlanError
from unet_core.net import engine, predict
from unet_core.net.engine import engine_of
from unet_core.net.network import Network
from unet_core.run.inference import infer_blocks
from unet_core.run.tile_choice import _Trial, try_tiles

__all__ = ["fresh"]


def test_tiles_too_large_for_the_gpu_are_halved_remembered_and_give_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    values = noise((1, 2, 16, 500))
    expected = result_of(job_of(tmp_path / "a", values, shard=(1, 16, 504), tile_px=512))
    engine_of.cache_clear()
    given = limited(monkeypatch, 300 * 300)
    job = job_of(tmp_path / "b", values, shard=(1, 16, 504), tile_px=512)
    assert np.array_equal(result_of(job), expected)
    assert sum(voxels > 300 * 300 for voxels in given) == 1
    assert any("does not hold tiles of 512 px; going on with 256" in m for m in caplog.messages)


def test_what_one_volume_has_shown_not_to_fit_is_not_tried_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 300 * 300
    given = limited(monkeypatch, most)
    for number, sections in enumerate((2, 1, 3)):
        values = noise((1, sections, 16, 500)) + number  # other intensities: another engine
        job = job_of(tmp_path / str(number), values, shard=(1, 16, 504), tile_px=512)
        result_of(job)
        assert sum(voxels > most for voxels in given) == 1
    assert engine_of.cache_info().misses == 3
    # Others are tried for themselves.
    model = replace(MODEL, width=3)
    job = job_of(tmp_path / "other", noise((1, 1, 16, 500)), shard=(1, 16, 504), tile_px=512)
    other = job_of(
        tmp_path / "another", noise((1, 1, 16, 500)), shard=(1, 16, 504), tile_px=512, model=model
    )
    result_of(job)
    assert sum(voxels > most for voxels in given) == 1
    result_of(other)
    assert sum(voxels > most for voxels in given) == 2


def test_a_trial_leaves_out_tiles_that_were_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = limited(monkeypatch, 300 * 300)
    job = job_of(tmp_path, noise((1, 1, 500, 500)), shard=(1, 504, 504), tile_px=512)
    jobs = [job.with_tile(px) for px in (512, 256, 192)]
    for _ in range(2):
        note = try_tiles(_Trial("all"), jobs=jobs, raw="uint8").note
        assert note["seconds_per_mvoxel"].keys() == {"256", "192"}
    assert sum(voxels > 300 * 300 for voxels in given) == 1


def test_where_none_of_those_tried_fits_the_next_smaller_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = limited(monkeypatch, 300 * 300)
    job = job_of(tmp_path, noise((1, 1, 600, 600)), shard=(1, 600, 600), tile_px=512)
    note = try_tiles(_Trial("all"), jobs=[job, job.with_tile(576)], raw="uint8").note
    assert note == {"tile_px": 256, "seconds_per_mvoxel": {}}
    assert len(given) == 2
    limited(monkeypatch, 100)
    with pytest.raises(PlanError, match=r"seen with \d+ x \d+ voxels, needs about \d+ MB.*tile_px"):
        try_tiles(_Trial("least"), jobs=[job.with_tile(192)], raw="uint8")


FULL = [
    "GET was unable to find an engine to execute this computation",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
]


@pytest.mark.parametrize("words", FULL)
def test_a_library_of_the_gpu_says_in_its_own_words_that_memory_is_full(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most, forward = 300 * 300, Network.forward

    def checked(network: Network, x: torch.Tensor) -> torch.Tensor:
        if x.numel() > most:
            raise RuntimeError(words)
        return forward(network, x)

    monkeypatch.setattr(Network, "forward", checked)
    values = noise((1, 1, 16, 500))
    result_of(job_of(tmp_path, values, shard=(1, 16, 504), tile_px=512))
    most = 0
    with pytest.raises(PlanError, match=rf"needs about \d+ MB.*{re.escape(words[:20])}"):
        result_of(job_of(tmp_path / "none", values, shard=(1, 16, 504), tile_px=512))


def test_another_error_of_a_library_is_not_taken_for_a_full_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(network: Network, x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(Network, "forward", broken)
    job = job_of(tmp_path, noise((1, 1, 16, 40)), shard=(1, 16, 40), tile_px=512)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        result_of(job)


@pytest.mark.parametrize("where", ["_intensities", "_values", "quantised"])
def test_a_gpu_may_run_out_of_memory_anywhere(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    values = noise((1, 1, 16, 500))
    expected = result_of(job_of(tmp_path / "a", values, shard=(1, 16, 504), tile_px=512))
    engine_of.cache_clear()
    owner: Any = engine if where == "quantised" else predict.Predictor
    function = getattr(owner, where)

    def checked(*given: Any) -> Any:
        if max(x.shape[-1] for x in given if isinstance(x, torch.Tensor)) > 400:
            raise torch.OutOfMemoryError("as a GPU would")
        return function(*given)

    monkeypatch.setattr(owner, where, checked)
    job = job_of(tmp_path / "b", values, shard=(1, 16, 504), tile_px=512)
    assert np.array_equal(result_of(job), expected)
    assert any("going on with 256" in message for message in caplog.messages)


def test_where_no_tile_fits_the_gpu_the_numbers_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict, "free_mb", lambda device: None)
    limited(monkeypatch, 1000)
    job = job_of(tmp_path, noise((1, 1, 16, 40)), shard=(1, 16, 40), tile_px=512)
    with pytest.raises(PlanError, match=r"seen with \d+ x \d+ voxels, needs about \d+ MB.*tile_px"):
        infer_blocks(plan_of(job), job=job)


RUN = """
import sys
from pathlib import Path
from unet_core.config import InferConfig, Resources
from unet_core.stages.infer import infer_probabilities

folder, given = Path(sys.argv[1]), int(sys.argv[2])
infer_probabilities(
    InferConfig(tile_px=128, precision="float32"),
    raw=folder / "raw.ome.zarr",
    checkpoint=folder / "best.pt",
    out=folder / "out.ome.zarr",
    resources=Resources(memory_mb=given),
)
with open("/proc/self/status") as lines:
    print(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_volume_and_stays_below_what_was_given(
    tmp_path: Path,
) -> None:
    given, peaks = 900, []
    for sections in (32, 512):  # of 16 blocks and of 256; as float32 the larger is 134 MB
        folder = tmp_path / str(sections)
        folder.mkdir()
        values = np.tile(noise((1, 8, 256, 256)), (1, sections // 8, 1, 1))
        known = statistics_of(values[:, :8])
        raw_store(folder / "raw.ome.zarr", values, (8, 128, 128), known, chunk=(4, 64, 64))
        checkpoint_file(folder / "best.pt")
        run = subprocess.run(
            [sys.executable, "-c", RUN, folder, str(given)],
            check=True,
            text=True,
            stdout=subprocess.PIPE,
        )
        peaks.append(int(run.stdout) * 1024 / 1e6)
    assert peaks[1] < peaks[0] + 20
    assert max(peaks) < given
