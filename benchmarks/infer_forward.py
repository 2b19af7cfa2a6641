"""Of the network alone: work spent, speed of a pass, memory of a pass."""

# isort: off
import measure
from measure import Elsewhere, Rounds, Row, fresh, row
# isort: on

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from unet_core.config import InferConfig, NetworkConfig
from unet_core.config.networks.cost import least_multiply_adds, multiply_adds
from unet_core.config.networks.geometry import geometry_of
from unet_core.config.networks.memory import KEPT, part_mb, pass_mb
from unet_core.geometry import Box, Zyx, coarse
from unet_core.net.checkpoint import Checkpoint
from unet_core.net.device import precision_for
from unet_core.net.engine import Engine
from unet_core.net.initial import initialise
from unet_core.net.memory import keep_freed_memory
from unet_core.net.network import Network
from unet_core.net.parts import Part, parts_of
from unet_core.net.predict import Predictor

PAPER = NetworkConfig()
SMALL = NetworkConfig(width=16)
DEEP = NetworkConfig(dimensions=3, width=32, depth=3)
PADDED = NetworkConfig(padding="same")
TILE = 384
"""Yields of an input of 572, the paper's."""

COUNTED_WIDTH = 4
"""Channels of the networks that are run to count: the ratio does not depend on them, nearly."""


def network_of(model: NetworkConfig) -> Checkpoint:
    """Drawn weights, the head's scaled so that probabilities are not all 0 or 1."""
    network = initialise(Network.of(model), seed=1)
    with torch.no_grad():
        network.head.weight.mul_(0.2)
    return Checkpoint(model, "none", network.state_dict())


def tile_of(model: NetworkConfig, tile_px: int) -> Zyx:
    """Voxels that are seen for one tile of full size."""
    box = Box((0, 0, 0), (tile_px if model.dimensions == 3 else 1, tile_px, tile_px))
    (part,) = parts_of([model], box, tile_px=tile_px, downsample=(1, 1, 1))
    return part.read.shape


def noise(model: NetworkConfig, read: Zyx) -> Any:
    """Raw voxels."""
    values = np.random.default_rng(0).standard_normal((model.channels, *read))
    return values.astype(np.float32)


def waste() -> Iterator[Row]:
    """Work of a tile over the least there can be, by arithmetic and counted in a real pass."""
    cases: list[tuple[str, NetworkConfig, int, float | None]] = [
        ("tile 572", PAPER, 384, 1.40),
        ("tile 700", PAPER, 512, 1.30),
        ("tile 1084", PAPER, 896, 1.16),
        ("tile 2108", PAPER, 1920, 1.16),
        ("3-D, input 260", DEEP, 168, 1.8),
        ("padded network run in valid mode, core 512", PADDED, 512, 1.285),
    ]
    for name, model, tile_px, target in cases:
        read = tile_of(model, tile_px)
        sizes, voxels = read[3 - model.dimensions :], tile_px**model.dimensions
        valid = NetworkConfig(**{**vars_of(model), "padding": "valid"})
        spent = multiply_adds(valid, sizes) / (least_multiply_adds(model) * voxels)
        yield row(
            f"work per voxel, {name}",
            spent,
            target,
            at_least=False,
            against="an infinite tile",
            how=f"input {sizes}, {tile_px} px used; multiply-adds by arithmetic",
        )
        if max(sizes) > 1500:
            continue
        counted, expected = fresh(
            count, NetworkConfig(**{**vars_of(model), "width": COUNTED_WIDTH}), read
        )
        yield row(
            f"work counted in a pass over the arithmetic, {name}",
            counted / expected,
            1.0,
            at_least=False,
            against="the arithmetic",
            how=f"torch's FlopCounterMode through the Predictor, width {COUNTED_WIDTH}",
            flops_counted=counted,
            flops_expected=expected,
        )
    same = ((512 + 192) / 512) ** 2
    yield row(
        "work per voxel, padded network with a halo of 96 px, core 512",
        same,
        None,
        against="an infinite tile",
        how="what others do; ours runs it in valid mode",
    )


def balanced() -> Iterator[Row]:
    """Tiles are balanced to what is computed, so that no last row is padding."""
    for side, tile_px, target in ((2048, 1024, 1.16), (2100, 1024, 1.25), (1000, 896, 1.35)):
        box = Box((0, 0, 0), (1, side, side))
        parts = parts_of([PAPER], box, tile_px=tile_px, downsample=(1, 1, 1))
        spent = sum(multiply_adds(PAPER, part.read.shape[1:]) for part in parts)
        fixed = -((-side // tile_px) ** 2) * multiply_adds(PAPER, tile_of(PAPER, tile_px)[1:])
        least = least_multiply_adds(PAPER) * side**2
        yield row(
            f"work per voxel, section of {side} px in tiles of at most {tile_px}",
            spent / least,
            target,
            at_least=False,
            against=f"an infinite tile; tiles of {tile_px} without balance: {fixed / least:.2f}",
            how=f"{len(parts)} tiles seen as {sorted({part.read.shape for part in parts})}",
        )


def count(model: NetworkConfig, read: Zyx) -> tuple[int, int]:
    """FLOPs of a real pass, and by arithmetic."""
    predictor = Predictor(network_of(model), InferConfig())
    raw = torch.from_numpy(noise(model, read))
    with FlopCounterMode(display=False) as counter:
        predictor.probabilities(raw)
    valid = NetworkConfig(**{**vars_of(model), "padding": "valid"})
    return counter.get_total_flops(), 2 * multiply_adds(valid, read[3 - model.dimensions :])


def vars_of(model: NetworkConfig) -> dict[str, Any]:
    return {name: getattr(model, name) for name in model.__dataclass_fields__}


def forward() -> Iterator[Row]:
    """One thread: our pass against the plain one and against what convolutions reach here."""
    for model in (PAPER, SMALL):
        yield from forward_of(model)


def forward_of(model: NetworkConfig) -> Iterator[Row]:
    read = tile_of(model, TILE)
    work = 2 * multiply_adds(model, read[1:])
    peak_work = 2 * 9 * 256 * 256 * PEAK_OUT**2
    precision = precision_for("auto", 0)
    ways = {
        "ours": Elsewhere(our_pass, model, read, "auto"),
        "plain": Elsewhere(plain_pass, model, read),
        "convolution": Elsewhere(convolution, precision),
        "ours float32": Elsewhere(our_pass, model, read, "float32"),
        "convolution float32": Elsewhere(convolution, "float32"),
    }
    with Rounds(ways) as rounds:
        rate = {
            name: work / rounds.seconds(name) / 1e9 for name in ("ours", "plain", "ours float32")
        }
        peaks = ("convolution", "convolution float32")
        rate |= {name: peak_work / rounds.seconds(name) / 1e9 for name in peaks}
        told = {"gflops": {name: measure.rounded(value) for name, value in rate.items()}}
        named = f"width {model.width}"
        how = f"input 572, one tile, {precision}; raw voxels in, stored probabilities out"
        yield rounds.ratio(
            f"forward, times eager float32 NCHW, {named}",
            lambda s: s["plain"] / s["ours"],
            2.5 if precision == "bfloat16" else None,
            against="the same network in torch, eager, float32, NCHW, and its softmax",
            how=how,
            **told,
        )
        for name, target in ((precision, 0.75), ("float32", 0.70)):
            suffix = " float32" if name == "float32" and precision != "float32" else ""
            yield rounds.ratio(
                f"forward, share of the convolution peak, {name}, {named}",
                lambda s, of=suffix: (work / s[f"ours{of}"]) / (peak_work / s[f"convolution{of}"]),
                target,
                against=f"one convolution 256->256, channels last, {name}, {PEAK_OUT} px",
                how=how.replace(precision, name),
                **told,
            )
            if precision == "float32":
                break


PEAK_OUT = 136
"""Voxels per side of the result of the convolution that stands for the peak; as in the network."""


def our_pass(model: NetworkConfig, read: Zyx, precision: Any) -> Callable[[], object]:
    keep_freed_memory(True)  # as workers do whose memory suffices
    predictor = Predictor(network_of(model), InferConfig(precision=precision))
    raw = noise(model, read)
    return lambda: predictor(raw)


def plain_pass(model: NetworkConfig, read: Zyx) -> Callable[[], object]:
    torch.set_num_threads(1)
    network = network_of(model).network()
    raw = torch.from_numpy(noise(model, read)).transpose(0, 1)

    @torch.inference_mode()
    def once() -> object:
        return network(raw).softmax(1)

    return once


def convolution(precision: str) -> Callable[[], object]:
    torch.set_num_threads(1)
    dtype = getattr(torch, precision)
    layer = torch.nn.Conv2d(256, 256, 3).to(dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    size = PEAK_OUT + 2
    x = torch.randn(1, 256, size, size).to(dtype).contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def once() -> object:
        return layer(x)

    return once


def memory() -> Iterator[Row]:
    """What one pass takes, as the plan says before the first block and as a fresh process does."""
    cases = [
        (NetworkConfig(), 384),
        (NetworkConfig(), 896),
        (NetworkConfig(width=32), 1024),
        (NetworkConfig(width=16), 512),
        (NetworkConfig(width=16), 1920),
        (NetworkConfig(dimensions=3, width=16, depth=3), 96),
        (NetworkConfig(dimensions=3, width=32, depth=2), 64),
    ]
    precisions = list(dict.fromkeys((precision_for("auto", 0), "float32")))
    for (model, tile_px), precision in itertools.product(cases, precisions):
        read = tile_of(model, tile_px)
        width = 2 if precision == "bfloat16" else 4
        predicted = pass_mb(model, read[3 - model.dimensions :], bytes_per_value=width)
        given_back = fresh(grown_mb, model, read, precision, False)
        kept = fresh(grown_mb, model, read, precision, True)
        named = f"{model.dimensions}-D, width {model.width}, tile {tile_px}, {precision}"
        how = "growth of the peak of RSS over five passes of a fresh process, after a small one"
        yield row(
            f"memory of a pass, measured against predicted, off by, {named}",
            abs(given_back / predicted - 1),
            0.05,
            at_least=False,
            against=f"{predicted:.0f} MB predicted",
            how=f"{how}: {given_back:.0f} MB; freed memory is given back",
        )
        yield row(
            f"memory of a pass, share of the bound, {named}",
            kept / (KEPT * predicted),
            1.0,
            at_least=False,
            against=f"{KEPT * predicted:.0f} MB planned for",
            how=f"{how}: {kept:.0f} MB; freed memory is kept, which is faster",
        )
    yield from memory_together(precisions)


def memory_together(precisions: Sequence[str]) -> Iterator[Row]:
    """The same of averages over symmetries and over networks, whose sums take memory too."""
    small, deep = NetworkConfig(width=16, depth=3), NetworkConfig(dimensions=3, width=16, depth=2)
    narrow = NetworkConfig(width=8, depth=2)
    cases: list[tuple[list[NetworkConfig], int, Zyx, Any]] = [
        ([small], 896, (1, 1, 1), "symmetries"),
        ([deep], 96, (1, 1, 1), "symmetries"),
        ([small, small], 896, (1, 1, 1), "none"),
        ([deep, deep], 96, (1, 1, 1), "none"),
        ([narrow, narrow], 1920, (2, 1, 1), "symmetries"),
    ]
    for (models, tile_px, downsample, averaging), precision in itertools.product(cases, precisions):
        config = InferConfig(
            precision=precision,  # type: ignore[arg-type]
            averaging=averaging,
            downsample=downsample,
        )
        read = [tile.read.shape for tile in part_of(models, tile_px, config).tiles]
        width = 2 if precision == "bfloat16" else 4
        predicted = part_mb(models, read, config, bytes_per_value=width)
        found = fresh(grown_together_mb, models, tile_px, config)
        first = models[0]
        named = f"{first.dimensions}-D, width {first.width}, tile {tile_px}, {precision}"
        told = f"{len(models)} network(s), averaging {averaging}, {downsample[0]} sections averaged"
        yield row(
            f"memory of a tile, measured against predicted, off by, {told}, {named}",
            abs(found / predicted - 1),
            0.05,
            at_least=False,
            against=f"{predicted:.0f} MB predicted",
            how=f"growth of the peak of RSS of a fresh process, after a small tile: {found:.0f} MB",
        )


def part_of(models: Sequence[NetworkConfig], tile_px: int, config: InferConfig) -> Part:
    """One tile of full size."""
    deep, sections = models[0].dimensions == 3, config.downsample[0]
    box = Box((0, 0, 0), (tile_px if deep else sections, tile_px, tile_px))
    keys: dict[str, Any] = {"downsample": config.downsample, "sections": sections}
    (part,) = parts_of(models, box, tile_px=tile_px, **keys)
    return part


def grown_together_mb(models: Sequence[NetworkConfig], tile_px: int, config: InferConfig) -> float:
    """As `grown_mb`, of a tile through several networks; freed memory is given back."""
    keep_freed_memory(False)
    engine = Engine([Predictor(network_of(model), config) for model in models], config)
    step = max(geometry_of(model).stride[2] for model in models)
    for px in (tile_px // 8 // step * step, tile_px):
        part = part_of(models, px, config)
        raw = noise(models[0], part.read.shape)
        out = np.ones((1, *coarse(part.core, config.downsample).shape), config.dtype)
        Path("/proc/self/clear_refs").write_text("5")
        before = status_mb("VmRSS")
        for _ in range(3):
            engine.fill(out, [part], raw, first=(0, 0, 0), at=part.read.start, passes=1)
    return status_mb("VmHWM") - before


def grown_mb(model: NetworkConfig, read: Zyx, precision: Any, keep: bool) -> float:
    """How far the peak of this process's memory rises above what it held."""
    keep_freed_memory(keep)
    predictor = Predictor(network_of(model), InferConfig(precision=precision))
    predictor(noise(model, tile_of(model, geometry_of(model).stride[2])))  # libraries, kernels
    raw = noise(model, read)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what is held now
    before = status_mb("VmRSS")
    for _ in range(5):
        predictor(raw)
    return status_mb("VmHWM") - before


def status_mb(key: str) -> float:
    """A line of /proc/self/status, in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise KeyError(key)
