"""Memory of a pass: what the formula says is what a process takes."""

import subprocess
import sys
from functools import partial

import pytest

from unet_core.config import InferConfig, NetworkConfig
from unet_core.config.networks.geometry import geometry_of
from unet_core.config.networks.memory import part_mb, pass_mb
from unet_core.config.windowed import windows_for
from unet_core.net.memory import batch_of, indexable, pinned_mb

MEASURE = """
import sys
import numpy as np
from unet_core.config import InferConfig, NetworkConfig
from unet_core.net.checkpoint import Checkpoint
from unet_core.net.memory import keep_freed_memory
from unet_core.net.predict import Predictor
from unet_core.net.initial import initialise
from unet_core.net.network import Network

width, depth, dimensions, small, large, precision = map(eval, sys.argv[1:])
model = NetworkConfig(width=width, depth=depth, dimensions=dimensions)
state = initialise(Network.of(model), seed=0).state_dict()
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
    model = NetworkConfig(width=width, depth=depth, dimensions=dimensions)  # type: ignore[arg-type]
    bytes_per_value = 4 if precision == "float32" else 2
    predicted = pass_mb(model, [large] * dimensions, bytes_per_value=bytes_per_value)
    assert predicted > 70
    assert float(run.stdout) == pytest.approx(predicted, rel=0.05)


def test_by_hand_it_is_that_of_the_finest_maps_and_of_the_input() -> None:
    maps = 64 * 4 * (568**2 + 3 * 392**2) / 1e6
    found = pass_mb(NetworkConfig(), (572, 572), bytes_per_value=4)
    assert found == pytest.approx(maps + 4 * 572**2 / 1e6)


PART = """
import sys
import numpy as np
from unet_core.config import InferConfig, NetworkConfig
from unet_core.config.windowed import windows_for
from unet_core.geometry import Box
from unet_core.net.checkpoint import Checkpoint
from unet_core.net.engine import Engine
from unet_core.net.memory import keep_freed_memory
from unet_core.net.parts import parts_of
from unet_core.net.predict import Predictor
from unet_core.net.initial import initialise
from unet_core.net.network import Network

model, count, config, sections, small, large = eval(sys.argv[1])
state = initialise(Network.of(model), seed=0).state_dict()
models = [model] * count
engine = Engine([Predictor(Checkpoint(model, "none", state), config) for _ in models], config)
keep_freed_memory(False)

def status(key):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) / 1e3 * 1.024 for line in lines if line.startswith(key))

def run(px):
    box = Box((0, 0, 0), (sections, px, px))
    (part,) = parts_of(
        models,
        box,
        tile_px=px,
        downsample=config.downsample,
        sections=sections,
        windows=[windows_for(config, each, shape=box.shape, patch=None) for each in models],
    )
    raw = np.ones((1, *part.read.shape), np.uint8)
    raw[..., 0] = 0  # not all of one value
    out = np.ones((model.classes - 1, 1, px, px), config.dtype)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before = status("VmRSS")
    engine.fill(out, [part], raw, first=(0, 0, 0), at=part.read.start, passes=1)
    return status("VmHWM") - before

run(small)
print(run(large))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("count", "averaging", "sections"), [(1, "symmetries", 1), (2, "none", 4)])
def test_averages_and_ensembles_take_what_the_formula_says(
    count: int, averaging: str, sections: int
) -> None:
    model, large = NetworkConfig(width=4, depth=2), 960
    config = InferConfig(
        precision="float32",
        averaging=averaging,  # type: ignore[arg-type]
        downsample=(sections, 1, 1),
    )
    run = subprocess.run(
        [sys.executable, "-c", PART, repr((model, count, config, sections, 96, large))],
        check=True,
        text=True,
        stdout=subprocess.PIPE,
    )
    read = (sections, *[large + 2 * geometry_of(model).halo[2]] * 2)
    predicted = part_mb([model] * count, [read] * count, config, bytes_per_value=4)
    bare = pass_mb(model, read[1:], bytes_per_value=4)
    assert predicted > 1.15 * bare  # what is tested here is no part of the margin
    assert float(run.stdout) == pytest.approx(predicted, rel=0.07)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("averaged", "classes"), [("logits", 2), ("probabilities", 5)])
def test_windows_take_what_the_formula_says(averaged: str, classes: int) -> None:
    model, large = NetworkConfig(width=4, depth=2, padding="same", classes=classes), 1600
    config = InferConfig(
        precision="float32",
        window=96,
        averaged=averaged,  # type: ignore[arg-type]
    )
    run = subprocess.run(
        [sys.executable, "-c", PART, repr((model, 1, config, 1, 96, large))],
        check=True,
        text=True,
        stdout=subprocess.PIPE,
    )
    shape = (1, large, large)
    windows = windows_for(config, model, shape=shape, patch=None)
    predicted = part_mb([model], [shape], config, bytes_per_value=4, core=shape, windows=[windows])
    assert float(run.stdout) == pytest.approx(predicted, rel=0.07)


def test_by_hand_an_ensemble_adds_results_and_averaging_a_sum() -> None:
    model, read = NetworkConfig(width=8, depth=1, classes=3), (5, 84, 84)
    section = 4 * 2 * (84 - 16) ** 2 / 1e6  # two classes are stored
    one = pass_mb(model, (84, 84), bytes_per_value=4)
    alone = part_mb([model], [read], InferConfig(), bytes_per_value=4)
    assert alone == pytest.approx(4 * section + one)
    three = part_mb([model] * 3, [read] * 3, InferConfig(), bytes_per_value=4)
    assert three == pytest.approx(5 * section + 4 * section + one)
    total = 4 * 3 * (84 - 16) ** 2 / 1e6
    flipped = 4 * 84**2 / 1e6
    averaged = pass_mb(model, (84, 84), bytes_per_value=4, averaged=True)
    assert averaged == pytest.approx(one + total + flipped)


def test_a_gpu_reads_from_and_writes_to_powers_of_two() -> None:
    assert pinned_mb([1000, 1025], 300) == pytest.approx((3 * (1024 + 2048 + 512) + 4 * 512) / 1e6)


def test_on_a_gpu_sections_are_shown_as_many_as_half_of_its_memory_holds() -> None:
    model, size = NetworkConfig(), (572, 572)
    one = pass_mb(model, size, bytes_per_value=2)
    most = partial(batch_of, model, size, bytes_per_value=2)
    assert most(free=None) == 1
    assert most(free=20.5 * one) == 10
    assert most(free=20.5 * one, results_mb=4 * one) == 8
    assert most(free=one, results_mb=2 * one) == 1
    averaged = pass_mb(model, size, bytes_per_value=2, averaged=True)
    assert most(free=2.01 * 7 * averaged, averaged=True) == 7
    assert most(free=1e9) == indexable(model, size) == 2**31 // (128 * 572**2)
