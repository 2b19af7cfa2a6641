"""Memory of a pass: what the formula says is what a process takes."""

import subprocess
import sys

import pytest

from unet_core.config import UNetConfig
from unet_core.config.shape import pass_mb
from unet_core.net.memory import batch_of, indexable

MEASURE = """
import sys
import numpy as np
from unet_core.config import InferConfig, UNetConfig
from unet_core.net.checkpoint import Checkpoint
from unet_core.net.memory import keep_freed_memory
from unet_core.net.predict import Predictor
from unet_core.net.unet import UNet, initialise

width, depth, dimensions, small, large, precision = map(eval, sys.argv[1:])
model = UNetConfig(width=width, depth=depth, dimensions=dimensions)
state = initialise(UNet(model), seed=0).state_dict()
predictor = Predictor(Checkpoint(model, "none", state), InferConfig(precision=precision))
keep_freed_memory(False)

def status(key):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) / 1e3 * 1.024 for line in lines if line.startswith(key))

def run(size):
    z = size if dimensions == 3 else 1
    predictor(np.zeros((1, z, size, size), np.uint8))

run(small)
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
before = status("VmRSS")
run(large)
print(status("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("width", "depth", "dimensions", "small", "large", "precision"),
    [
        (16, 3, 2, 108, 988, "float32"),
        (16, 2, 3, 44, 108, "float32"),
        (16, 2, 3, 44, 108, "bfloat16"),
    ],
)
def test_a_pass_takes_what_the_formula_says(
    width: int, depth: int, dimensions: int, small: int, large: int, precision: str
) -> None:
    arguments = [*map(str, (width, depth, dimensions, small, large)), repr(precision)]
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, *arguments],
        check=True,
        text=True,
        stdout=subprocess.PIPE,
    )
    model = UNetConfig(width=width, depth=depth, dimensions=dimensions)  # type: ignore[arg-type]
    bytes_per_value = 4 if precision == "float32" else 2
    predicted = pass_mb(model, [large] * dimensions, bytes_per_value=bytes_per_value)
    assert predicted > 70
    assert float(run.stdout) == pytest.approx(predicted, rel=0.05)


def test_by_hand_it_is_that_of_the_finest_maps_and_of_the_input() -> None:
    maps = 64 * 4 * (568**2 + 3 * 392**2) / 1e6
    found = pass_mb(UNetConfig(), (572, 572), bytes_per_value=4)
    assert found == pytest.approx(maps + 4 * 572**2 / 1e6)


def test_on_a_gpu_sections_are_shown_as_many_as_half_of_its_memory_holds() -> None:
    model, size = UNetConfig(), (572, 572)
    one = pass_mb(model, size, bytes_per_value=2)
    assert batch_of(model, size, 2, None) == 1
    assert batch_of(model, size, 2, 20.5 * one) == 10
    assert batch_of(model, size, 2, one) == 1
    assert batch_of(model, size, 2, 1e9) == indexable(model, size) == 2**31 // (128 * 572**2)
