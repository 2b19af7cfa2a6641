"""How fast this machine is: one pass and one training step, timed."""

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from unet_core.config import InferConfig, NetworkConfig, TrainConfig
from unet_core.config.networks.cost import multiply_adds, tile_work
from unet_core.config.networks.geometry import geometry_of, own_lost
from unet_core.net.checkpoint import Checkpoint
from unet_core.net.device import choose_device, choose_dtype, prepare
from unet_core.net.initial import initialise
from unet_core.net.loop import begin
from unet_core.net.network import Network
from unet_core.net.patches import Batch
from unet_core.net.predict import Predictor

_REPEATS = 3


def flops_per_s(model: NetworkConfig, patch: Sequence[int], *, gpus: int = 0) -> dict[str, float]:
    """Operations per second of passes by stage, of one thread or one GPU.

    Parameters
    ----------
    patch
        Voxels (z, y, x) of a training patch.
    """
    return {"train": _training(model, patch, gpus), "infer": _inferring(model, patch, gpus)}


def _inferring(model: NetworkConfig, patch: Sequence[int], gpus: int) -> float:
    found = geometry_of(model)
    sizes = [
        max(1, (n - 2 * halo) // stride) * stride + 2 * halo
        for n, halo, stride in zip(patch, found.halo, found.stride, strict=True)
    ][3 - model.dimensions :]
    state = initialise(Network.of(model), seed=0).state_dict()
    predictor = Predictor(Checkpoint(model, "none", state), InferConfig(), gpus=gpus)
    deep = [] if model.dimensions == 3 else [model.sections]
    seen = np.zeros((model.channels, *deep, *sizes), np.uint8)
    return 2 * tile_work(model, sizes) / _fastest(lambda: predictor(seen))


def _training(model: NetworkConfig, patch: Sequence[int], gpus: int) -> float:
    sizes = list(patch[3 - model.dimensions :])
    device = choose_device(gpus)
    prepare(device, threads=1)
    training = begin(
        TrainConfig(),
        model,
        class_weights=[1.0] * model.classes,
        device=device,
        dtype=choose_dtype("auto", device),
    )
    lost = own_lost(model)[3 - model.dimensions :]
    made = [n - 2 * cut for n, cut in zip(sizes, lost, strict=True)]
    batch = Batch(
        torch.zeros((1, model.inputs, *sizes)),
        torch.zeros((1, *made), dtype=torch.uint8),
        torch.zeros((1, *made)),
    )

    def step() -> None:
        training.step(batch)
        training.read_losses()  # waits for a GPU

    return 3 * 2 * multiply_adds(model, sizes) / _fastest(step)


def _fastest(function: Callable[[], object]) -> float:
    """Seconds of the fastest of some calls; the first is not counted."""
    function()
    taken = []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        function()
        taken.append(time.perf_counter() - began)
    return min(taken)
