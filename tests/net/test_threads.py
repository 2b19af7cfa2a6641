"""Threads of a process that computes passes: one for each, whatever else it was told."""

import os
import subprocess
import sys

import pytest


def printed(script: str) -> int:
    """The number that a process of its own prints, which OpenMP was told to have four threads."""
    run = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        text=True,
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "4"},
    )
    return int(run.stdout)


THREADS = """
import os, threading
import numpy as np
import torch
from unet_core.config import InferConfig, NetworkConfig
from unet_core.net.checkpoint import Checkpoint
from unet_core.net.predict import Predictor
from unet_core.net.initial import initialise
from unet_core.net.network import Network

model = NetworkConfig(width=16, depth=1)
state = initialise(Network.of(model), seed=0).state_dict()
predictor = Predictor(Checkpoint(model, "none", state), InferConfig(precision="float32"))
before = len(os.listdir("/proc/self/task"))
thread = threading.Thread(target=predictor, args=[np.zeros((1, 1, 60, 60), np.uint8)])
thread.start()
thread.join()
print(len(os.listdir("/proc/self/task")) - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_pass_has_one_thread_also_in_a_thread_of_its_own() -> None:
    assert printed(THREADS) <= 1


PASSES = """
import os, threading, time
import numpy as np
from unet_core.config import InferConfig, NetworkConfig
from unet_core.geometry import Box
from unet_core.net.checkpoint import Checkpoint
from unet_core.net.engine import Engine
from unet_core.net.parts import parts_of
from unet_core.net.predict import Predictor
from unet_core.net.initial import initialise
from unet_core.net.network import Network

model, config = NetworkConfig(width=16, depth=1), InferConfig(precision="float32")
state = initialise(Network.of(model), seed=0).state_dict()
engine = Engine([Predictor(Checkpoint(model, "none", state), config)], config)
parts = parts_of([model], Box((0, 0, 0), (6, 64, 64)), tile_px=64, downsample=(1, 1, 1))
seen = np.random.default_rng(0).integers(0, 9, (1, 6, 80, 80)).astype(np.uint8)
before, most, done = len(os.listdir("/proc/self/task")), 0, threading.Event()

def watch():
    global most
    while not done.is_set():
        most = max(most, len(os.listdir("/proc/self/task")))

watcher = threading.Thread(target=watch)
watcher.start()
out = np.zeros((1, 6, 64, 64), np.uint8)
engine.fill(out, parts, seen, first=(0, 0, 0), at=(0, -8, -8), passes=2)
done.set()
watcher.join()
print(most - before - 1)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_passes_at_a_time_have_a_thread_each_whatever_openmp_was_told() -> None:
    assert printed(PASSES) <= 2
