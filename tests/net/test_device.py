"""Which device is computed with."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from unet_core.errors import PlanError
from unet_core.net import device
from unet_core.net.device import (
    capability_elsewhere,
    choose_device,
    choose_dtype,
    precision_for,
    usable_gpus,
)


def test_with_unet_device_cpu_a_job_with_gpus_computes_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("UNET_DEVICE", "cpu")
    assert usable_gpus(2) == 0
    assert choose_device(2) == torch.device("cpu")


@pytest.mark.parametrize("unset", [None, ""])
def test_without_it_a_gpu_that_was_asked_for_has_to_be_there(
    monkeypatch: pytest.MonkeyPatch, unset: str | None
) -> None:
    if unset is None:
        monkeypatch.delenv("UNET_DEVICE", raising=False)
    else:
        monkeypatch.setenv("UNET_DEVICE", unset)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert usable_gpus(2) == 2
    assert choose_device(0) == torch.device("cpu")
    with pytest.raises(PlanError, match="finds none"):
        choose_device(1)


def test_no_other_device_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNET_DEVICE", "cuda:1")
    with pytest.raises(PlanError, match=r"UNET_DEVICE is 'cuda:1'; set it to cpu"):
        choose_device(1)


def test_the_number_type_is_that_of_the_device_and_no_gpu_is_opened_to_learn_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = str(choose_dtype("auto", torch.device("cpu"))).removeprefix("torch.")
    assert precision_for("auto", 0) == here
    assert precision_for("bfloat16", 0) == "bfloat16"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(device, "capability_elsewhere", lambda: (9, 0))
    assert precision_for("auto", 2) == "bfloat16"
    monkeypatch.setattr(device, "capability_elsewhere", lambda: (7, 5))
    assert precision_for("auto", 2) == "float32"
    assert precision_for("bfloat16", 2) == "bfloat16"
    monkeypatch.setenv("UNET_DEVICE", "cpu")
    assert precision_for("auto", 2) == here
    assert not torch.cuda.is_initialized()


def test_of_gpus_that_are_elsewhere_the_number_type_has_to_be_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("UNET_DEVICE", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert precision_for("bfloat16", 2, here=False) == "bfloat16"
    with pytest.raises(PlanError, match=r"infer\.precision is auto.*set it to bfloat16"):
        precision_for("auto", 2, here=False)
    assert precision_for("auto", 0, here=False) == precision_for("auto", 0)
    with pytest.raises(PlanError, match="finds none"):
        precision_for("bfloat16", 2)


IN_BFLOAT16 = """
import numpy as np
from unet_core.config import InferConfig, NetworkConfig
from unet_core.net.checkpoint import Checkpoint
from unet_core.net.predict import Predictor
from unet_core.net.initial import initialise
from unet_core.net.network import Network

for dimensions, size in ((2, 60), (3, 44)):
    model = NetworkConfig(width=8, depth=2, dimensions=dimensions)
    state = initialise(Network.of(model), seed=1).state_dict()
    predictor = Predictor(Checkpoint(model, "none", state), InferConfig(precision="bfloat16"))
    shape = (1, size if dimensions == 3 else 1, size, size)
    seen = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    print(*predictor(seen).astype(int).ravel())
"""


def test_a_cpu_without_avx_512_computes_bfloat16_too() -> None:
    """As oneDNN is told to take no newer instructions: the same to a few steps of 255."""
    found = []
    for newest in ("ALL", "AVX2"):
        environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": newest}
        command = [sys.executable, "-c", IN_BFLOAT16]
        told = subprocess.run(command, env=environment, check=True, text=True, capture_output=True)
        found.append([np.array(line.split(), int) for line in told.stdout.splitlines()])
    for one, other in zip(*found, strict=True):
        assert np.ptp(one) > 3
        assert abs(one - other).max() <= 4


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_cannot_be_opened_is_told_with_its_cause() -> None:
    with pytest.raises(PlanError, match=r"cannot be opened \(.+\); look at nvidia-smi"):
        capability_elsewhere()
