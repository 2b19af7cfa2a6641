"""Probabilities of tiles: the trained network run without padding, numpy in and out."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unet_core.config import InferConfig, UNetConfig
from unet_core.config.shape import activation_mb, parameters
from unet_core.errors import CheckpointError, PlanError
from unet_core.geometry import Tiling, Zyx
from unet_core.net.checkpoint import Checkpoint, read_checkpoint
from unet_core.net.device import choose_device, choose_dtype, memory_format, prepare
from unet_core.net.unet import UNet

_SYMMETRIES = tuple((swap, flip) for swap in (False, True) for flip in ((), (-1,), (-2,), (-1, -2)))
"""Whether y and x change places, and which axes are flipped after that."""

_SHARE = 0.5
"""Of the free memory of a GPU for feature maps; the rest is workspace of the library."""

_INDEXED = 2**31
"""Elements of one feature map up to which all kernels count in 32 bits."""

_LARGEST_BATCH = 2**25
"""Voxels that a GPU is given at a time; more would fill memory and save nothing."""


_LEAST_PX = 192
"""Fewest voxels per side that a 2-D pass yields, unless tile_px is less: small inputs are given to
other kernels, which round otherwise. From 160 px on, results have been the same bits whatever the
tile (2 to 4 poolings, width 8 to 64, float32 and bfloat16); in 3-D that would cost too much."""


def tiling_of(model: UNetConfig, tile_px: int) -> Tiling:
    """How `model` is laid over a volume; along z only if it is 3-D.

    Raises
    ------
    PlanError
        If `tile_px` is no multiple of 2^depth.
    """
    deep = model.dimensions == 3
    step, halo, lost = model.stride_px, model.tile_halo_px, model.valid_halo_px
    least = min(tile_px, -(-_LEAST_PX // step) * step)
    return Tiling(
        tile=(tile_px if deep else 1, tile_px, tile_px),
        stride=(step if deep else 1, step, step),
        halo=(halo if deep else 0, halo, halo),
        lost=(lost if deep else 0, lost, lost),
        least=(1, 1, 1) if deep else (1, least, least),
    )


def pass_mb(model: UNetConfig, read: Zyx, *, bytes_per_value: int) -> float:
    """Most memory (MB) that one pass over `read` voxels takes, input and probabilities included.

    The maps of the finest level, or what follows them: logits, probabilities and their copies.
    """
    sizes = read[3 - model.dimensions :]
    valid = replace(model, padding="valid")
    maps = activation_mb(valid, sizes, bytes_per_value=bytes_per_value)
    inputs = model.channels * prod(sizes) * (4 + bytes_per_value)
    outputs = 4 * 4 * model.classes * prod(valid.output_size(size) for size in sizes)
    return maps + (inputs + outputs) / 1e6


def batch_mb(model: UNetConfig) -> float:
    """Memory (MB) of the largest batch of tiles that a GPU is given, float32."""
    return 4 * model.channels * _LARGEST_BATCH / 1e6


def weights_mb(model: UNetConfig) -> float:
    """Memory (MB) of the weights, in float32 and once more as the kernels want them."""
    return 2 * 4 * parameters(model) / 1e6


def precision_of(config: InferConfig, gpus: int) -> str:
    """Number type of the convolutions, float32 or bfloat16: what "auto" stands for here."""
    return str(choose_dtype(config.precision, choose_device(gpus))).removeprefix("torch.")


class Predictor:
    """One trained network on one device.

    Padded networks are run without padding too: inside a volume the result is the same, at a
    volume's edge they see it mirrored like all others, and what they see of a tile's surroundings
    is real.
    """

    def __init__(self, checkpoint: Checkpoint, config: InferConfig, *, gpus: int = 0) -> None:
        self.model = checkpoint.model
        self.config = config
        self.device = choose_device(gpus)
        self.dtype = choose_dtype(config.precision, self.device)
        # One thread per pass: with more, torch takes other kernels, which round otherwise. Passes
        # may be made by several threads at a time.
        prepare(self.device, threads=1)
        network = checkpoint.network().folded().as_valid().to(self.device, self.dtype).eval()
        layout = memory_format(self.model.dimensions)
        self.network: UNet = network.to(memory_format=layout)  # type: ignore[call-overload]
        self._most = 2**31

    def batch(self, read: Zyx) -> int:
        """Tiles of `read` voxels to give at a time: 1 on a CPU, what the memory holds on a GPU."""
        if self.device.type == "cpu":  # larger batches leave the caches: 315 against 435 GFLOP/s
            return 1
        free, _ = torch.cuda.mem_get_info(self.device)
        one = pass_mb(self.model, read, bytes_per_value=self.dtype.itemsize)
        indexed = _INDEXED // (2 * self.model.width * prod(read))
        fitting = int(_SHARE * free / 1e6 / one)
        return max(1, min(fitting, indexed, _LARGEST_BATCH // prod(read), self._most))

    def __call__(self, seen: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        """Probabilities of the classes 1, 2, ... of some tiles.

        Parameters
        ----------
        seen : (n, c, z, y, x) float32
            Normalised intensities; z is 1 if the network is 2-D.

        Returns
        -------
        (n, classes - 1, z', y', x')
            Smaller by the voxels that the network loses. uint8: ``floor(255 p + 0.5)``, or
            float16.

        Raises
        ------
        CheckpointError
            If a probability is not finite.
        PlanError
            If the GPU's memory does not hold one tile.
        """
        if len(seen) > self._most:
            return self._halves(seen)
        try:
            return self._predict(seen)
        except torch.OutOfMemoryError:
            if len(seen) == 1:
                raise PlanError(self._too_large(seen.shape)) from None
        self._most = len(seen) // 2
        torch.cuda.empty_cache()
        return self._halves(seen)

    def _halves(self, seen: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        half = len(seen) // 2
        return np.concatenate([self(seen[:half]), self(seen[half:])])

    @torch.inference_mode()
    def _predict(self, seen: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        x = torch.from_numpy(seen)
        x = x if self.model.dimensions == 3 else x.squeeze(2)
        probabilities = self._probabilities(x.to(self.device))[:, 1:]
        if not bool(torch.isfinite(probabilities).all()):
            raise CheckpointError(
                "the network's probabilities are not finite: weights that training ruined, or raw "
                "values far beyond those it was trained on; look at the training history, or set "
                "infer.precision to float32"
            )
        stored = quantised(probabilities, self.config.dtype).cpu()
        return (stored if self.model.dimensions == 3 else stored.unsqueeze(2)).numpy()

    def _probabilities(self, x: Tensor) -> Tensor:
        """(n, c, [z,] y, x) -> (n, classes, [z',] y', x') float32."""
        if self.config.averaging == "none":
            return self._softmax(x)
        # Tiles start and end on the pooling grid, so a flipped or turned tile lies on the grid of
        # the flipped or turned volume: each of the eight terms is as exact as one pass.
        total = sum(
            (_undone(self._softmax(_done(x, *by)), *by) for by in _SYMMETRIES[1:]),
            start=self._softmax(x),
        )
        return total / len(_SYMMETRIES)

    def _softmax(self, x: Tensor) -> Tensor:
        x = x.to(self.dtype, memory_format=memory_format(self.model.dimensions))
        logits: Tensor = self.network(x)
        return logits.float().softmax(dim=1)

    def _too_large(self, shape: Sequence[int]) -> str:
        z, y, x = shape[2:]
        need = pass_mb(self.model, (z, y, x), bytes_per_value=self.dtype.itemsize)
        _, total = torch.cuda.mem_get_info(self.device)
        return (
            f"one tile, seen with {z} x {y} x {x} voxels, needs about {need:.0f} MB and workspace, "
            f"the GPU has {total / 1e6:.0f} MB; make infer.tile_px smaller"
        )


@lru_cache(maxsize=1)
def predictor_of(path: Path, content: str, config: InferConfig, *, gpus: int) -> Predictor:
    """The predictor of a checkpoint file, made once per process.

    Raises
    ------
    CheckpointError
        If the file does not hold the weights whose digest is `content`.
    """
    checkpoint = read_checkpoint(path)
    if checkpoint.content != content:
        raise CheckpointError(f"{path} changed while it was in use; run the same command again")
    return Predictor(checkpoint, config, gpus=gpus)


def quantised(probabilities: Tensor, dtype: str) -> Tensor:
    """Probabilities as they are stored: float16, or uint8 with halves rounded up."""
    if dtype == "float16":
        return probabilities.half()
    return probabilities.mul(255).add_(0.5).to(torch.uint8)


def _done(x: Tensor, swap: bool, flip: tuple[int, ...]) -> Tensor:
    return (x.transpose(-1, -2) if swap else x).flip(flip)


def _undone(x: Tensor, swap: bool, flip: tuple[int, ...]) -> Tensor:
    x = x.flip(flip)
    return x.transpose(-1, -2) if swap else x
