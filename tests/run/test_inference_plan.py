"""Plans that a job's memory holds, by arithmetic alone."""

from dataclasses import replace
from pathlib import Path

from tests.run.test_inference import MODEL, large_job, plan_of
from unet_core.config import Resources
from unet_core.run.inference_plan import Raw, fit, need_mb


def test_passes_at_a_time_are_fewer_where_the_memory_holds_no_more(tmp_path: Path) -> None:
    model = replace(MODEL, width=32)
    job = large_job(tmp_path, (1, 512, 512), tile_px=128, model=model)
    raw = Raw(job.raw_shape, (1, 128, 128), 1, "|u1")
    two = int(need_mb(replace(job, passes=2), raw, 0)) + 1
    assert need_mb(replace(job, passes=3), raw, 0) > two
    for given, passes in ((two, 2), (int(need_mb(job, raw, 0)) + 1, 1), (10**6, 8)):
        resources = Resources(threads=8, memory_mb=given)
        fitted = fit(replace(job, passes=8), plan_of(job), raw, resources)
        assert fitted.job.passes == passes
        assert fitted.need_mb <= given
