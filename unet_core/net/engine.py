"""Tiles of a volume through one or several networks: raw voxels in, stored probabilities out."""

import itertools
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from unet_core.config import InferConfig, NetworkConfig
from unet_core.errors import CheckpointError
from unet_core.geometry import Box, Tile, Zyx, coarse
from unet_core.net.checkpoint import read_checkpoint
from unet_core.net.memory import (
    KNOWN_TILES,
    UNDER_WAY,
    give_back_memory,
    held_of,
    is_out_of_memory,
)
from unet_core.net.parts import LEAST_PX, Part, step_of
from unet_core.net.predict import Predictor, Scaling, check_finite, quantised, too_large
from unet_core.net.transfers import Transfers
from unet_core.net.windows import Windowed
from unet_core.windows import Windows

Array = npt.NDArray[Any]


class Engine:
    """The mean probabilities of one or several networks, on one device."""

    def __init__(self, members: Sequence[Predictor], config: InferConfig) -> None:
        self.members = list(members)
        self.config = config
        self.device = members[0].device
        self._transfers = Transfers(self.device)
        self._held = held_of(tuple(self.models), members[0].dtype, config.averaging)
        self._known: OrderedDict[Any, Tensor] = OrderedDict()
        self._lock = Lock()

    @property
    def models(self) -> list[NetworkConfig]:
        """The architectures."""
        return [member.model for member in self.members]

    def smaller(self, tile_px: int) -> int | None:
        """Half of `tile_px` on the grid, to be tried where it does not fit; None: too small.

        In 2-D not below the size down to which results of exact tiles are the same bits.
        """
        step = step_of(self.models, self.config)
        half = tile_px // 2 // step * step
        deep = any(model.dimensions == 3 for model in self.models)
        least = step if deep else -(-LEAST_PX // step) * step
        return half if half >= least else None

    def fitting(self, tile_px: int) -> int:
        """The first of `tile_px` and its halves that was not too large, else the smallest."""
        failed = self._held.tile_px
        while failed and tile_px >= failed and (half := self.smaller(tile_px)):
            tile_px = half
        return tile_px

    def remember(self, tile_px: int) -> None:
        """Note that the GPU does not hold tiles of `tile_px`, for all volumes of this process."""
        self._held.tile_px = min(tile_px, self._held.tile_px or tile_px)

    def fill(
        self, out: Array, parts: Sequence[Part], voxels: Array, *, first: Zyx, at: Zyx, passes: int
    ) -> None:
        """Compute `parts` and put them into `out`.

        Parameters
        ----------
        out : (stored classes, z, y, x) uint8 or float16
            Downsampled; its first voxel stands for those from `first` on.
        voxels : (c, z, y, x)
            Raw values that hold what the parts see, from voxel `at` on.
        passes
            Tiles computed at a time, each by one thread (CPU).

        Raises
        ------
        CheckpointError
            If a probability is not finite.
        TileTooLarge
            If the GPU's memory does not hold a tile.
        """

        def put(some: Sequence[Part]) -> None:
            for part, result in self._results(some, voxels, at):
                out[(..., *coarse(part.core.relative_to(first), self.config.downsample).slices)] = (
                    result
                )

        if passes == 1:
            put(parts)
            return
        with ThreadPoolExecutor(passes) as pool:
            try:
                for _ in pool.map(put, [[part] for part in parts]):
                    pass
            finally:
                pool.shutdown(cancel_futures=True)

    def _results(
        self, parts: Sequence[Part], voxels: Array, at: Zyx
    ) -> Iterator[tuple[Part, Array]]:
        """What is stored of each part; a GPU computes the next meanwhile."""
        ahead = UNDER_WAY if self.device.type == "cuda" else 0
        under_way: deque[tuple[Part, _Begun]] = deque()
        for part in parts:
            under_way.append((part, self._begin(part, voxels, at)))
            if len(under_way) > ahead:
                part, begun = under_way.popleft()
                yield part, self._end(begun)
        for part, begun in under_way:
            yield part, self._end(begun)

    def _begin(self, part: Part, voxels: Array, at: Zyx) -> "_Begun":
        try:
            return self._sent_off(part, voxels, at)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            cause = str(error)
        give_back_memory()
        raise too_large(self.members, [_shown(tile) for tile in part.tiles], cause)

    @torch.inference_mode()
    def _sent_off(self, part: Part, voxels: Array, at: Zyx) -> "_Begun":
        seen = voxels[(..., *part.read.relative_to(at).slices)]
        key = None
        if (value := value_of(seen)) is not None:
            inside = tuple(_place(tile, part.core) for tile in part.tiles)
            key = (value, part.core.shape, inside)
            with self._lock:
                known = self._known.get(key)
            if known is not None:
                return _Begun(None, known, None, None)
        mean = self._mean(part, voxels, at)
        finite = torch.isfinite(mean.sum())
        mean = averaged(mean, self.config.downsample)
        stored = quantised(mean, self.config.dtype)
        (stored, finite), event = self._transfers.fetched((stored, finite))
        return _Begun(key, stored, finite, event)

    def _mean(self, part: Part, voxels: Array, at: Zyx) -> Tensor:
        """Mean probabilities of the networks: (stored classes, z, y, x) float32, of the core."""
        total: Tensor | None = None
        for member, tile in zip(self.members, part.tiles, strict=True):
            seen = self._transfers.sent(voxels[(..., *tile.read.relative_to(at).slices)])
            if isinstance(tile, Windowed):
                p = member.over_windows(seen, tile)
            else:
                inset = Box((0, 0, 0), part.core.shape).shift(tile.inset)
                p = member.probabilities(seen)[(..., *inset.slices)]
            total = p if total is None else total.add_(p)
        if total is None:
            raise ValueError("no network")
        return total if len(self.members) == 1 else total.div_(len(self.members))

    def _end(self, begun: "_Begun") -> Array:
        if begun.event is not None:
            begun.event.synchronize()
        if begun.finite is not None:
            check_finite(bool(begun.finite))
        if begun.key is not None:
            with self._lock:
                self._known[begun.key] = begun.stored
                while len(self._known) > KNOWN_TILES:
                    self._known.popitem(last=False)
        result: Array = begun.stored.numpy()
        return result


@dataclass(frozen=True)
class _Begun:
    """A part that is being computed."""

    key: Any
    """Of its result among those kept; None where it is not to be kept."""

    stored: Tensor
    finite: Tensor | None
    event: torch.cuda.Event | None


def _place(tile: Tile | Windowed, core: Box) -> tuple[Any, ...]:
    """What a result depends on besides the voxels that are seen."""
    if isinstance(tile, Windowed):
        return tile.places
    return tile.read.relative_to(core.start), tile.inset


def _shown(tile: Tile | Windowed) -> Zyx:
    """Voxels of one pass."""
    return tile.shown if isinstance(tile, Windowed) else tile.read.shape


def averaged(p: Tensor, downsample: Zyx) -> Tensor:
    """Means over boxes of `downsample` voxels, fewer at the far edge: (..., z, y, x) float32.

    Summed in one order whatever the size, so that tiles agree to the bit.
    """
    if downsample == (1, 1, 1):
        return p
    sizes = [-(-n // f) for n, f in zip(p.shape[-3:], downsample, strict=True)]
    total = p.new_zeros((*p.shape[:-3], *sizes))
    count = p.new_zeros(sizes)
    for start in itertools.product(*map(range, downsample)):
        (a, b, c), (i, j, k) = start, downsample
        some = p[..., a::i, b::j, c::k]
        z, y, x = some.shape[-3:]
        total[..., :z, :y, :x] += some
        count[:z, :y, :x] += 1
    return total.div_(count)


def value_of(seen: Array) -> tuple[Any, ...] | None:
    """Value per channel of voxels that are all alike, else None."""
    first = seen[:, :1, :1, :1]
    some = seen[:, ::4, ::16, ::16]  # nearly always enough to tell, and 1000 times less to look at
    if not (some == first).all() or not (seen == first).all():
        return None
    return tuple(first.ravel().tolist())


@dataclass(frozen=True)
class Member:
    """A network as a worker finds it."""

    checkpoint: Path
    content: str
    """Digest of its weights."""

    model: NetworkConfig
    by: Scaling
    """How raw becomes what it was trained on."""

    windows: Windows | None = None
    """How it is laid over the volume; None: in exact tiles."""


@lru_cache(maxsize=1)
def engine_of(members: tuple[Member, ...], config: InferConfig, *, gpus: int) -> Engine:
    """The engine of some networks, made once per process.

    Raises
    ------
    CheckpointError
        If a file does not hold the weights it is said to.
    """
    loaded = [_loaded(each.checkpoint, each.content, config, gpus=gpus) for each in members]
    return Engine(
        [network.scaled(each.by) for network, each in zip(loaded, members, strict=True)], config
    )


def forget() -> None:
    """Give back what `engine_of` keeps in this process, and on its GPU."""
    engine_of.cache_clear()
    _loaded.cache_clear()
    give_back_memory()


@lru_cache(maxsize=8)
def _loaded(path: Path, content: str, config: InferConfig, *, gpus: int) -> Predictor:
    """A network as it is kept from volume to volume."""
    checkpoint = read_checkpoint(path)
    if checkpoint.content != content:
        raise CheckpointError(f"{path} changed while it was in use; run the same command again")
    return Predictor(checkpoint, config, gpus=gpus)
