"""What a network consists of and costs: arithmetic on its settings, without torch."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from math import prod

from unet_core.config.inference import InferConfig
from unet_core.config.networks.settings import NetworkConfig
from unet_core.windows import Windows


@dataclass(frozen=True)
class Convolution:
    """One convolution of a network."""

    taps: int
    """Voxels along one axis of the input that one output voxel is computed from."""

    stored: int
    """Voxels along one axis of the kernel; larger than taps in a transposed convolution."""

    inputs: int
    """Feature channels it reads."""

    outputs: int
    """Feature channels it makes."""

    level: int
    """Pooling steps above it."""

    normed: bool
    """It is followed by a normalisation, which has a scale and a shift per channel."""

    size: int
    """Voxels per axis of its result."""


def layers(model: NetworkConfig, size: int) -> Iterator[Convolution]:
    """All convolutions of `model` in the order they are computed on `size` voxels per axis."""
    model.output_size(size)
    normed, loss = model.norm != "none", 2 if model.padding == "valid" else 0

    def block(inputs: int, level: int, size: int) -> Iterator[Convolution]:
        outputs = model.width * 2**level
        for i in range(model.convolutions):
            size -= loss
            yield Convolution(3, 3, outputs if i else inputs, outputs, level, normed, size)

    inputs = model.inputs
    for level in range(model.depth + 1):
        size //= 2 if level else 1
        yield from block(inputs, level, size)
        inputs, size = model.width * 2**level, size - loss * model.convolutions
    for level in reversed(range(model.depth)):
        outputs = model.width * 2**level
        if model.up == "transposed":
            yield Convolution(1, 2, 2 * outputs, outputs, level, False, 2 * size)
        else:
            yield Convolution(1, 1, 2 * outputs, outputs, level + 1, False, size)
        size = 2 * size - (loss if model.up == "bilinear" else 0)
        yield from block(2 * outputs, level, size)
        size -= loss * model.convolutions
    yield Convolution(1, 1, model.width, model.classes, 0, False, size)


def parameters(model: NetworkConfig) -> int:
    """Numbers that training adjusts."""
    size = next(model.input_sizes())
    # A convolution before a normalisation has no bias: the normalisation would remove it.
    return sum(
        layer.stored**model.dimensions * layer.inputs * layer.outputs
        + layer.outputs * (2 if layer.normed else 1)
        for layer in layers(model, size)
    )


def convolutions(model: NetworkConfig) -> int:
    """Convolutions of the network, transposed ones and the head included."""
    return sum(1 for _ in layers(model, next(model.input_sizes())))


def multiply_adds(model: NetworkConfig, size: int | Sequence[int]) -> int:
    """Multiplications (each with one addition) of one pass over an input.

    `size`: voxels per axis, or one number where all axes are alike.
    """
    axes = [layers(model, n) for n in _sizes(model, size)]
    return sum(
        prod(layer.taps * layer.size for layer in same) * same[0].inputs * same[0].outputs
        for same in zip(*axes, strict=True)
    )


def multiply_adds_per_voxel(model: NetworkConfig, size: int) -> float:
    """Multiply-adds per output voxel of one pass over `size` voxels per axis."""
    return multiply_adds(model, size) / int(model.output_size(size) ** model.dimensions)


def least_multiply_adds(model: NetworkConfig) -> float:
    """Multiply-adds per output voxel of a tile without end: the least there can be."""
    return sum(
        float((layer.taps / 2**layer.level) ** model.dimensions) * layer.inputs * layer.outputs
        for layer in layers(model, next(model.input_sizes()))
    )


def waste(model: NetworkConfig, inputs: Iterable[Sequence[int]], *, voxels: int) -> float:
    """Work spent on `voxels` results, over the least there can be; 1 is perfect.

    `inputs`: sizes (one per axis of the network) of what it is shown for them, run without
    padding.
    """
    valid = replace(model, padding="valid")
    passes = Counter(tuple(sizes) for sizes in inputs)
    spent = sum(multiply_adds(valid, sizes) * count for sizes, count in passes.items())
    return spent / (least_multiply_adds(model) * voxels)


def activation_mb(
    model: NetworkConfig, size: int | Sequence[int], *, bytes_per_value: int
) -> float:
    """Most memory (MB) that the feature maps of one inference pass take at a time.

    `size` is of the input: voxels per axis, or one number where all axes are alike. On the way
    down that is the skips of the levels above, what a convolution reads and makes, and its weights
    in the order that the kernel wants; on the way up the skips, the up-sampled map and both side by
    side. The finest level decides in all but small tiles.
    """
    axes = list(zip(*(layers(model, n) for n in _sizes(model, size)), strict=True))
    maps = [(same[0].outputs, [layer.size for layer in same]) for same in axes]
    values = [outputs * prod(sizes) for outputs, sizes in maps]
    weights = [one.inputs * one.outputs * one.stored**model.dimensions for one, *_ in axes]
    each, depth, lost = model.convolutions, model.depth, 2 if model.padding == "valid" else 0
    down = [values[i : i + each] for i in range(0, each * (depth + 1), each)]
    skips = [block[-1] for block in down[:-1]]
    most = [
        sum(skips[:level]) + sum(block[-2:]) + weights[each * (level + 1) - 1]
        for level, block in enumerate(down)
    ]
    for level in range(depth):
        # Of the block above a join the first convolution; from the end, where the head is last.
        outputs, sizes = maps[-2 - level * (each + 1) - (each - 1)]
        joined = outputs * prod(n + lost for n in sizes)
        most.append(sum(skips[: level + 1]) + 3 * joined)
    return float(bytes_per_value * max(most) / 1e6)


KEPT = 1.6
"""Memory of passes over that of their maps where freed memory is kept for reuse: it lies in pieces
that do not fit what comes next. Measured: 0.9 to 1.58 for six networks (2-D, 3-D, width 16 to 64,
both number types)."""


def pass_mb(
    model: NetworkConfig,
    sizes: Sequence[int],
    *,
    bytes_per_value: int,
    averaged: bool = False,
    in_window: bool = False,
) -> float:
    """Most memory (MB) that one pass over an input of `sizes` takes.

    Run without padding; `in_window`: with the network's own.

    The input in float32 and as the network sees it, and the maps of the finest level, or the last
    of them with logits, probabilities and their copies; `averaged` over symmetries also the sum of
    those before.
    """
    run = model if in_window else replace(model, padding="valid")
    maps = activation_mb(run, sizes, bytes_per_value=bytes_per_value)
    copied = bytes_per_value == 2 or model.inputs > 1 or averaged
    copies = copied + (model.sections > 1)
    inputs = model.inputs * prod(sizes) * (4 + bytes_per_value * copies) / 1e6
    yielded = prod(map(run.output_size, sizes)) / 1e6
    last = yielded * (bytes_per_value * (model.width + model.classes) + 3 * 4 * model.classes)
    return inputs + max(maps, last) + averaged * 4 * model.classes * yielded


def yielded_voxels(model: NetworkConfig, sizes: Sequence[int]) -> int:
    """Voxels that one pass over an input of `sizes` yields, run without padding."""
    valid = replace(model, padding="valid")
    return prod(valid.output_size(size) for size in sizes)


def part_mb(
    models: Sequence[NetworkConfig],
    reads: Sequence[Sequence[int]],
    config: InferConfig,
    *,
    bytes_per_value: int,
    core: Sequence[int] = (),
    windows: Sequence[Windows | None] = (),
) -> float:
    """Most memory (MB) that a CPU takes to compute one part of a volume with some networks.

    `reads`: voxels (z, y, x) that each of them sees. Besides a pass that are the float32 results
    of the sections before it, and the sum of those of the networks before it. `core`: voxels
    (z, y, x) that are computed; `windows`: how each network is laid, None: in exact tiles.
    """
    most, total = 0.0, 0.0
    for model, read, laid in zip_longest(models, reads, windows):
        if laid is not None:
            own = windowed_mb(model, laid, core, config, bytes_per_value=bytes_per_value)
            most = max(most, total + own)
            total = total or 4 * len(config.stored(model.classes)) * prod(core) / 1e6
            continue
        sizes = read[3 - model.dimensions :]
        one = pass_mb(
            model, sizes, bytes_per_value=bytes_per_value, averaged=config.averaging != "none"
        )
        sections = 1 if model.dimensions == 3 else read[0] - model.sections + 1
        section = 4 * len(config.stored(model.classes)) * yielded_voxels(model, sizes) / 1e6
        # The last pass; then all sections are joined, and what is stored is made of a copy.
        most = max(most, total + (sections - 1) * section + one, total + 2 * sections * section)
        total = total or sections * section
    return most


def windowed_mb(
    model: NetworkConfig,
    windows: Windows,
    core: Sequence[int],
    config: InferConfig,
    *,
    bytes_per_value: int,
) -> float:
    """Most memory (MB) that a CPU takes to compute `core` voxels (z, y, x) in windows.

    Beside a pass the sum of those before it, the weights, and a result times its weights; in the
    end that sum, its weights, and probabilities and what is stored made of it.
    """
    stored = len(config.stored(model.classes))
    kept = model.outputs if config.averaged == "logits" else stored
    one = pass_mb(
        model,
        windows.seen_size[3 - model.dimensions :],
        bytes_per_value=bytes_per_value,
        averaged=config.averaging != "none",
        in_window=True,
    )
    voxels, weighted = prod(core), prod(windows.size)
    made = model.outputs + stored if config.averaged == "logits" else 0
    last = 4 * voxels * max(kept + 2, kept + made, 2 * stored) / 1e6
    return max(one + 4 * (voxels * kept + weighted * (kept + 1)) / 1e6, last)


def weights_mb(model: NetworkConfig) -> float:
    """Memory (MB) of the weights, in float32 and once more as the kernels want them."""
    return 2 * 4 * parameters(model) / 1e6


def _sizes(model: NetworkConfig, size: int | Sequence[int]) -> Sequence[int]:
    return [size] * model.dimensions if isinstance(size, int) else size
