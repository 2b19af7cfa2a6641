"""Intensities: normalised by statistics of the whole volume, jittered per patch.

Statistics of the whole volume, not of a patch: a patch of pure background stays background, and
every block of a volume is seen on one scale.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

FloatArray = NDArray[np.float32]

Method = Literal["mean_std", "percentile", "none", "imagenet", "caffe"]

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and deviation of red, green and blue, of the type's range."""

CAFFE = (123.68, 116.779, 103.939)
"""Mean of red, green and blue, of 255."""

_LOW, _HIGH = 5, 995
"""Of the 1001 percentiles 0.0, 0.1, ... 100.0: those at 0.5 and 99.5."""


@dataclass(frozen=True)
class Normaliser:
    """Per channel: ``(raw - offset) * scale``, with `fill` in place of what is not finite."""

    offset: tuple[float, ...]
    scale: tuple[float, ...]
    fill: tuple[float, ...]


def normaliser(
    statistics: Sequence[Mapping[str, Any]], method: Method, dtype: DTypeLike
) -> Normaliser:
    """Offset and scale per channel, from the statistics of a whole volume.

    Parameters
    ----------
    statistics
        Per channel: ``mean``, ``sd``, ``min``, ``max`` and ``percentiles`` (1001 values at 0.0,
        0.1, ... 100.0) of the finite voxels, as in the attributes of a raw store.
    method
        mean_std: mean 0, deviation 1. percentile: percentiles 0.5 and 99.5 (where they are equal:
        minimum and maximum) become 0 and 1. none: divided by the largest value of an integer
        `dtype`; floating point stays as it is. imagenet: divided so, then minus mean and by
        deviation of ImageNet's colours. caffe: divided so, times 255, minus the mean of these
        colours. Channels after blue begin with red again; a single one takes the mean of the three.
    dtype
        Type of the raw volume.

    Channels without spread (or without any finite voxel) become zero throughout, except with none.
    """
    count, kind = len(statistics), np.dtype(dtype)
    if method in ("imagenet", "caffe"):
        channels = [_coloured(of, method, kind, i, count) for i, of in enumerate(statistics)]
    else:
        channels = [_channel(of, method, kind) for of in statistics]
    offset, scale, fill = zip(*channels, strict=True) if channels else ((), (), ())
    return Normaliser(offset, scale, fill)


def normalise(raw: NDArray[Any], by: Normaliser) -> FloatArray:
    """Normalised intensities.

    Parameters
    ----------
    raw : (c, z, y, x), any real type
        NaN and infinities become the mean of the channel before they are normalised.
    by
        Of `normaliser`, with as many channels.

    Returns
    -------
    (c, z, y, x) float32
    """
    if len(raw) != len(by.offset):
        raise ValueError(f"normaliser of {len(by.offset)} channels, raw of {len(raw)}")
    with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinite, then the mean
        out = raw.astype(np.float32)
    for channel, offset, scale, fill in zip(out, by.offset, by.scale, by.fill, strict=True):
        if raw.dtype.kind == "f":
            channel[~np.isfinite(channel)] = fill
        channel -= np.float32(offset)
        channel *= np.float32(scale)
    return out


def restored(seen: FloatArray, by: Normaliser) -> FloatArray:
    """The intensities that normalise to (c, z, y, x) `seen`; of channels without spread the offset.

    NaN and infinities have become the mean of the channel.
    """
    out = seen.copy()
    for channel, offset, scale in zip(out, by.offset, by.scale, strict=True):
        if scale != 0:
            channel /= np.float32(scale)
        channel += np.float32(offset)
    return out


def range_of(dtype: DTypeLike) -> float:
    """The largest value of an integer type; 1 of floating point."""
    return _largest(np.dtype(dtype))


@dataclass(frozen=True)
class Jitter:
    """What is done to the intensities of one patch: ``raw * gain + shift + noise``."""

    gain: float = 1.0
    shift: float = 0.0
    noise_sd: float = 0.0
    noise_seed: int = 0


def draw_jitter(
    rng: np.random.Generator, *, contrast: float, brightness: float, noise_sd: float
) -> Jitter:
    """Gain ``1 +- contrast`` and shift ``+- brightness``, uniform; always the same draws.

    The result is exact in float32 for gain and shift, so that a stored row says all of it.
    """
    gain, shift = rng.uniform(-1, 1, 2)
    noise_seed = int(rng.integers(2**63))
    return Jitter(
        gain=float(np.float32(1 + contrast * gain)),
        shift=float(np.float32(brightness * shift)),
        noise_sd=noise_sd,
        noise_seed=noise_seed,
    )


def jitter(raw: FloatArray, by: Jitter) -> FloatArray:
    """Normalised intensities (any shape, float32) with gain, shift and noise applied."""
    out = raw * np.float32(by.gain) + np.float32(by.shift)
    if by.noise_sd > 0:
        noise = np.random.default_rng(by.noise_seed).standard_normal(raw.shape, np.float32)
        out += np.float32(by.noise_sd) * noise
    return out


def _channel(
    of: Mapping[str, Any], method: Method, dtype: np.dtype[Any]
) -> tuple[float, float, float]:
    """(offset, scale, fill) of one channel."""
    mean = _finite(of["mean"])
    if method == "none":
        return 0.0, 1.0 if dtype.kind == "f" else 1 / _largest(dtype), mean
    if method == "mean_std":
        offset, spread = mean, _finite(of["sd"])
    else:
        low, high = of["percentiles"][_LOW], of["percentiles"][_HIGH]
        if low == high:  # sparse volumes: nearly all voxels are background
            low, high = of["min"], of["max"]
        offset, spread = _finite(low), _finite(high) - _finite(low)
    scale = 1 / spread if spread > 0 else 0.0
    # Beyond float32 the volume is constant for every purpose, and inf * 0 would be NaN.
    return offset, scale if scale < np.finfo(np.float32).max else 0.0, mean


def _coloured(
    of: Mapping[str, Any], method: Method, dtype: np.dtype[Any], channel: int, count: int
) -> tuple[float, float, float]:
    """(offset, scale, fill) of one of `count` channels, by constants."""
    range_ = 1.0 if dtype.kind == "f" else _largest(dtype)
    means, spreads = IMAGENET if method == "imagenet" else ([n / 255 for n in CAFFE], [1 / 255] * 3)
    mean, spread = means[channel % 3], spreads[channel % 3]
    if count == 1:
        mean, spread = sum(means) / 3, sum(spreads) / 3
    return mean * range_, 1 / (spread * range_), _finite(of["mean"])


def _finite(value: float | None) -> float:
    return float(value) if value is not None and isfinite(value) else 0.0


def _largest(dtype: np.dtype[Any]) -> float:
    return float(np.iinfo(dtype).max) if dtype.kind in "iu" else 1.0
