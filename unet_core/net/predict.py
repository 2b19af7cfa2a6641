"""Probabilities of one trained network on one device."""

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from functools import partial
from math import prod
from typing import Any, Protocol

import numpy.typing as npt
import torch
from torch import Tensor

from unet_core.config import InferConfig
from unet_core.config.networks.memory import pass_mb, yielded_voxels
from unet_core.config.windowed import in_windows
from unet_core.errors import CheckpointError, PlanError
from unet_core.geometry import Zyx
from unet_core.geometry import by as sizes_by
from unet_core.net.checkpoint import Checkpoint
from unet_core.net.device import (
    choose_device,
    choose_dtype,
    keep_threads,
    memory_format,
    prepare,
)
from unet_core.net.direct import made_direct
from unet_core.net.folding import folded, without_padding
from unet_core.net.memory import (
    batch_of,
    free_mb,
    give_back_memory,
    held_of,
    indexable,
    is_out_of_memory,
    total_mb,
)
from unet_core.net.network import Network
from unet_core.net.views import mean_over, views_of
from unet_core.net.windows import Windowed, mean_over_windows


class Scaling(Protocol):
    """How raw values become intensities: ``(raw - offset) * scale`` per channel.

    `fill` stands in place of what is not finite.
    """

    @property
    def offset(self) -> Sequence[float]:
        """Per channel."""
        ...

    @property
    def scale(self) -> Sequence[float]:
        """Per channel."""
        ...

    @property
    def fill(self) -> Sequence[float]:
        """Per channel."""
        ...


class TileTooLarge(PlanError):
    """The GPU's memory does not hold one tile; a smaller one may fit."""


class Predictor:
    """One trained network on one device.

    In exact tiles padded networks are run without padding too: inside a volume the result is the
    same, at a volume's edge they see it mirrored like all others, and what they see of a tile's
    surroundings is real. In windows they are run as they were trained.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        config: InferConfig,
        *,
        by: Scaling | None = None,
        gpus: int = 0,
    ) -> None:
        self.model = checkpoint.model
        self.config = config
        self.stored = config.stored(self.model.classes)
        self.device = choose_device(gpus)
        self.dtype = choose_dtype(config.precision, self.device)
        # One thread per pass: with more, torch takes other kernels, which round otherwise. Passes
        # may be made by several threads at a time.
        prepare(self.device, threads=1)
        network = checkpoint.network()
        if not in_windows(config, self.model):
            network = without_padding(network)
        network = folded(network).to(self.device, self.dtype).eval()
        layout = memory_format(self.model.dimensions)
        self.network: Network = network.to(memory_format=layout)  # type: ignore[call-overload]
        if self.device.type == "cpu":
            self.network = made_direct(self.network)
        self._offset, self._scale, self._fill = self._scaling(by)
        self._views = views_of(config, self.model.dimensions)
        self._held = held_of((self.model,), self.dtype, config.averaging)

    def scaled(self, by: Scaling) -> "Predictor":
        """The same network, for a volume whose raw values become intensities in another way."""
        other = copy(self)
        other._offset, other._scale, other._fill = self._scaling(by)
        return other

    def __call__(self, seen: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Stored probabilities of all voxels that one input yields.

        Parameters
        ----------
        seen : (c, z, y, x), any type that raw is stored in

        Returns
        -------
        (stored classes, z', y', x') uint8 (``floor(255 p + 0.5)``) or float16
            Smaller by the voxels that the network loses.

        Raises
        ------
        CheckpointError
            If a probability is not finite.
        TileTooLarge
            If the GPU's memory does not hold it.
        """
        p = self.probabilities(torch.from_numpy(seen).to(self.device))
        check_finite(bool(torch.isfinite(p.sum())))
        return quantised(p, self.config.dtype).cpu().numpy()

    @torch.inference_mode()
    def probabilities(self, seen: Tensor) -> Tensor:
        """Raw (c, z, y, x) on the device -> (stored classes, z', y', x') float32.

        A 2-D network is shown as many sections at a time as the memory holds: one on a CPU.
        """
        keep_threads()
        if self.model.dimensions == 3:
            return self._passed(seen)[0]
        count = seen.shape[1] - self.model.sections + 1
        height, width = (int(n) for n in seen.shape[2:])
        parts: list[Tensor] = []
        done = 0
        while done < count:
            left = count - done
            most = min(left, self._held.voxels // (height * width))
            batch = max(1, min(most, self._most_sections((height, width), left)))
            try:
                part = self._passed(seen[:, done : done + batch + self.model.sections - 1])
            except TileTooLarge:
                if batch == 1:
                    raise
                self._held.voxels = batch // 2 * height * width
                continue
            parts.append(part.transpose(0, 1))
            done += batch
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def _most_sections(self, sizes: Sequence[int], left: int) -> int:
        """Sections to show the network at a time, of those that are left."""
        each = 4 * len(self.stored) * yielded_voxels(self.model, sizes) / 1e6
        return batch_of(
            self.model,
            sizes,
            bytes_per_value=self.dtype.itemsize,
            free=free_mb(self.device),
            averaged=len(self._views) > 1,
            results_mb=2 * left * each,  # as they come, and joined
        )

    def _inputs(self, seen: Tensor) -> Tensor:
        """Input of the network: (1, c, z, y, x), in 2-D (n, c * sections, y, x)."""
        x, each = self._intensities(seen), self.model.sections
        if self.model.dimensions == 3:
            return x[None]
        if each == 1:
            return x.transpose(0, 1)
        return x.unfold(1, each, 1).permute(1, 0, 4, 2, 3).flatten(1, 2)

    def _intensities(self, raw: Tensor) -> Tensor:
        """Normalised like the volumes the network was trained on, float32; on the device."""
        x = raw.to(torch.float32, copy=True)
        if raw.dtype.is_floating_point:
            x = torch.where(torch.isfinite(x), x, self._fill)
        return x.sub_(self._offset).mul_(self._scale)

    @torch.inference_mode()
    def over_windows(self, seen: Tensor, tile: Windowed) -> Tensor:
        """Raw (c, z, y, x) that the windows of `tile` see -> its (stored classes, z, y, x) float32.

        A GPU is shown several windows at a time, as many in every pass.
        """
        keep_threads()
        before, sizes = self._held.voxels, tile.shown
        while True:
            batch = self._windows_at_a_time(sizes, tile.windows.count)
            try:
                return self._within_memory([sizes], partial(self._over_windows, seen, tile, batch))
            except TileTooLarge:
                if batch == 1:  # then it is the sum that is too large
                    self._held.voxels = before
                    raise
                self._held.voxels = batch // 2 * prod(sizes)

    def _over_windows(self, seen: Tensor, tile: Windowed, batch: int) -> Tensor:
        mean = mean_over_windows(tile, seen, self._of_windows, batch=batch)[None]
        return self._finished(mean)[0]

    def _of_windows(self, raw: Tensor) -> Tensor:
        """Raw (n, c, z, y, x) -> what is averaged, (n, k, z', y', x') float32."""
        x = self._intensities(raw)
        if self.model.dimensions == 3:
            return self._viewed(x)
        return self._viewed(x.flatten(1, 2)).unsqueeze(2)

    def _windows_at_a_time(self, sizes: Zyx, count: int) -> int:
        """Of windows of `sizes`, of which there are `count`; 1 on a CPU, fewer after a failure.

        Not by what memory is free: kernels of another size round otherwise.
        """
        if free_mb(self.device) is None:
            return 1
        most = min(_VOXELS_AT_A_TIME, self._held.voxels) // prod(sizes)
        return max(1, min(most, count, indexable(self.model, sizes[3 - self.model.dimensions :])))

    def _passed(self, seen: Tensor) -> Tensor:
        return self._within_memory(
            [seen.shape[1:]], lambda: self._finished(self._viewed(self._inputs(seen)))
        )

    def _within_memory(
        self, sizes: Sequence[Sequence[int]], compute: Callable[[], Tensor]
    ) -> Tensor:
        try:
            return compute()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            cause = str(error)
        # Outside the handler: the exception holds the frames, and they the feature maps.
        give_back_memory()
        raise too_large([self], sizes, cause)

    def _viewed(self, x: Tensor) -> Tensor:
        """(n, inputs, [z,] y, x) -> what is averaged, (n, k, [z',] y', x') float32.

        Tiles start and end on the pooling grid, so a flipped or turned tile lies on the grid of the
        flipped or turned volume: the pass over each view is as exact as one over the tile.
        """
        return mean_over(self._views, self._values, x)

    def _values(self, x: Tensor) -> Tensor:
        x = x.to(self.dtype, memory_format=memory_format(self.model.dimensions))
        logits: Tensor = self.network(x).float()
        return logits if self.config.averaged == "logits" else self._probable(logits)

    def _finished(self, mean: Tensor) -> Tensor:
        """What is averaged -> stored probabilities, (n, stored classes, [z,] y, x)."""
        return self._probable(mean) if self.config.averaged == "logits" else mean

    def _probable(self, logits: Tensor) -> Tensor:
        """Logits -> probabilities of the stored classes."""
        if self.model.output == "softmax":
            return logits.softmax(dim=1)[:, list(self.stored)]
        return logits[:, [number - 1 for number in self.stored]].sigmoid()

    def _scaling(self, by: Scaling | None) -> Iterator[Tensor]:
        count = self.model.channels
        zero, one = [0.0] * count, [1.0] * count
        given = (by.offset, by.scale, by.fill) if by else (zero, one, zero)
        for values in given:
            tensor = torch.tensor(values, dtype=torch.float32, device=self.device)
            yield tensor.reshape(-1, 1, 1, 1)

    def need_mb(self, seen: Sequence[int]) -> float:
        """Memory (MB) of one pass over a tile seen as (z, y, x), but for the library's own."""
        return pass_mb(
            self.model,
            seen[3 - self.model.dimensions :],
            bytes_per_value=self.dtype.itemsize,
            averaged=len(self._views) > 1,
            in_window=in_windows(self.config, self.model),
        )


def too_large(
    members: Sequence[Predictor], seen: Sequence[Sequence[int]], cause: str
) -> TileTooLarge:
    """The error of a tile, seen as (z, y, x) by each of `members`: what it needs, what there is.

    `cause`: what the library says.
    """
    member, sizes = max(zip(members, seen, strict=True), key=lambda each: each[0].need_mb(each[1]))
    free, total = free_mb(member.device), total_mb(member.device)
    has = "there is less" if free is None else f"the GPU has {free:.0f} MB free"
    of = "" if total is None else f" of {total:.0f}"
    first = cause.strip().splitlines()[:1]
    one, key = ("window",) * 2 if in_windows(member.config, member.model) else ("tile", "tile_px")
    return TileTooLarge(
        f"one {one}, seen with {sizes_by(sizes[3 - member.model.dimensions :])} voxels, needs "
        f"about {member.need_mb(sizes):.0f} MB and workspace, {has}{of} "
        f"({' '.join(first)[:_TOLD]}); make infer.{key} smaller"
    )


_VOXELS_AT_A_TIME = 2**22
"""Of windows, that a GPU is shown."""

_TOLD = 200
"""Letters of what a library says."""


def check_finite(finite: bool) -> None:
    """Raise CheckpointError where probabilities are not finite."""
    if not finite:
        raise CheckpointError(
            "the network's probabilities are not finite: weights that training ruined, or raw "
            "values far beyond those it was trained on; look at the training history, or set "
            "infer.precision to float32"
        )


def quantised(probabilities: Tensor, dtype: str) -> Tensor:
    """Probabilities as they are stored: float16, or uint8 with halves rounded up."""
    if dtype == "float16":
        return probabilities.half()
    return probabilities.mul(255).add_(0.5).to(torch.uint8)
