"""Real processes take what the arithmetic says that their jobs take, with a generous margin."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from unet_core.cli import main
from unet_core.config import work, work_net
from unet_core.config.data import AugmentConfig, ConvertConfig
from unet_core.config.demand import memory_mb, used_mb
from unet_core.config.extent import described
from unet_core.config.presets import Model, read_model
from unet_core.config.work import Work
from unet_core.config.workflow import SECTIONS

SHAPE = (24, 512, 512)
AUGMENT = {"patches": 32, "patch": [1, 252, 252]}
DEFAULTS: dict[str, Any] = {name: schema() for name, schema in SECTIONS.items()}
TINY = Path(__file__).parents[2] / "config/models/tiny.yaml"

RUN = """
import sys
from unet_core.cli import main
status = main(sys.argv[1:])
with open("/proc/self/status") as lines:  # ru_maxrss would be that of the parent, before exec
    print(next(int(line.split()[1]) * 1.024e-3 for line in lines if line.startswith("VmHWM")))
sys.exit(status)
"""


def took_mb(*arguments: str) -> float:
    """Largest resident memory of a process that runs a command with one thread."""
    run = subprocess.run(
        [sys.executable, "-c", RUN, *arguments], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return float(run.stdout.split()[-1])


def check(took: float, of: Work) -> None:
    """Never more than asked for, and more than a third of what was expected."""
    assert took <= memory_mb(of, threads=1)
    assert used_mb(of, threads=1) / 3 <= took <= 1.3 * used_mb(of, threads=1)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_stages_take_the_memory_that_was_expected(tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert main(["phantom", "--shape", *map(str, SHAPE), "--out", str(data)]) == 0
    raw, truth, weights, bank = (
        str(tmp_path / f"{name}.zarr") for name in ("raw", "truth", "weights", "bank")
    )
    extent = described(ConvertConfig(), SHAPE)
    took = took_mb("convert", "--raw", str(data / "raw.tif"), "--out", raw)
    check(took, work.convert(DEFAULTS, extent, "raw"))
    took = took_mb("convert", "--raw", str(data / "truth.tif"), "--out", truth, "--truth")
    check(took, work.convert(DEFAULTS, extent, "truth"))
    check(took_mb("weights", "--truth", truth, "--out", weights), work.weights(DEFAULTS, extent))
    sections = DEFAULTS | {"augment": AugmentConfig(patches=32, patch=(1, 252, 252))}
    told = ["--config", json.dumps({"augment": AUGMENT}), "--fold", "train", "--raw", raw]
    took = took_mb("augment", *told, "--weights", weights, "--out", bank)
    check(took, work.augment(sections, channels=1, fold="train"))
    tiny: Model = read_model(TINY, {"train": {"steps": 4, "warmup_steps": 0}})
    settings = {"model": {"width": 16, "depth": 2, "norm": "batch", "dropout": 0.0}}
    settings["train"] = {"steps": 4, "validate_every": 2, "batch": 2, "optimiser": "adamw"}
    out = ["--patches", bank, "--out", str(tmp_path / "best.pt")]
    took = took_mb("train", "--config", json.dumps(settings), *out)
    check(took, work_net.train(sections, tiny, gpus=0))
    took = took_mb("infer", "--raw", raw, "--checkpoint", out[3], "--out", str(tmp_path / "p.zarr"))
    check(took, work_net.infer(sections, [tiny.model], extent, threads=1, gpus=0))
    took = took_mb("stitch", "--probabilities", str(tmp_path / "p.zarr"), "--out", raw + ".l")
    check(took, work.stitch(DEFAULTS, extent, "threshold"))
