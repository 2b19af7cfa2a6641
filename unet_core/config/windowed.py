"""Which networks are laid over a volume in windows, and in which."""

from collections.abc import Sequence

from unet_core.config.inference import InferConfig
from unet_core.config.networks.geometry import (
    geometry_of,
    input_sizes,
    nearest_input_size,
    output_size,
    own_lost,
)
from unet_core.config.networks.settings import NetworkConfig
from unet_core.errors import PlanError
from unet_core.geometry import Zyx, by
from unet_core.windows import Windows

_UNTOLD_PX = {2: 512, 3: 128}
"""Windows of networks whose patches of training are not known, by dimensions."""

_WINDOWS_PER_SIDE = 8
"""Most of what is computed at a time: there about a quarter of a section's windows is computed
again, and with more it is little less."""


def in_windows(config: InferConfig, model: NetworkConfig) -> bool:
    """Whether a network runs in windows: it is asked to, or its results depend on all it sees."""
    return config.window is not None or not geometry_of(model).is_exact


def windows_for(
    config: InferConfig, model: NetworkConfig, *, shape: Zyx, patch: Sequence[int] | None
) -> Windows | None:
    """How `model` is laid over a volume of `shape` in windows; None: in exact tiles.

    Along an axis on which the volume is smaller than a window, that is the least which holds it.

    Parameters
    ----------
    patch
        Voxels (z, y, x) of the patches it was trained on; None: not known.

    Raises
    ------
    PlanError
        If infer.window is no size that it yields, infer.window_stride leaves gaps, or
        infer.averaging turns what cannot be turned.
    """
    _check_views(config, model)
    if not in_windows(config, model):
        return None
    sizes = _sizes(config, model, patch)
    strides = _strides(config, model, sizes)
    fitted = [
        _fitted(model, n, shape[axis], axis) for n, axis in zip(sizes, _axes(model), strict=True)
    ]
    return Windows(
        shape,
        _zyx(fitted),
        _zyx(strides),
        halo=own_lost(model),
        weight=config.window_weight,
    )


def _check_views(config: InferConfig, model: NetworkConfig) -> None:
    _, y, x = geometry_of(model).stride
    if y != x and config.averaging in ("turns", "symmetries"):
        raise PlanError(
            f"infer.averaging {config.averaging} lets y and x change places, the network's strides "
            f"are {y} and {x} px along them; use mirrors or none"
        )


def part_sizes(windows: Sequence[Windows], *, step: int, shard: Zyx, shape: Zyx) -> list[int]:
    """Sizes of what is computed at a time (px) that are worth having, rising.

    Whole parts and multiples of a shard: the larger, the fewer windows are computed again.

    Parameters
    ----------
    step
        They are multiples of it.
    shard, shape
        Of the raw volume (z, y, x).
    """
    sides = [max(each.size) for each in windows]
    side, most = min(max(shard), max(shape)), _WINDOWS_PER_SIDE * max(sides)
    wanted = [*(-(-side // k) for k in range(1, 9)), *(side * 2**n for n in range(1, 12))]
    sizes = {-(-px // step) * step for px in wanted if px < 2 * max(shape)}
    return sorted(px for px in sizes if min(sides) <= px <= most) or [min(sizes)]


def _sizes(
    config: InferConfig, model: NetworkConfig, patch: Sequence[int] | None
) -> tuple[int, ...]:
    """Voxels that a window yields, per axis of the network."""
    if config.window is None:
        seen = patch or (_UNTOLD_PX[model.dimensions],) * 3
        return tuple(
            output_size(model, nearest_input_size(model, seen[axis], axis), axis)
            for axis in _axes(model)
        )
    sizes = _per_axis("window", config.window, model)
    lost = own_lost(model)
    nearest = tuple(
        output_size(model, nearest_input_size(model, n + 2 * lost[axis], axis), axis)
        for n, axis in zip(sizes, _axes(model), strict=True)
    )
    if sizes != nearest:
        raise PlanError(
            f"infer.window {by(sizes)} is no size that the network yields; the nearest that is: "
            f"{by(nearest)}"
        )
    return sizes


def _strides(config: InferConfig, model: NetworkConfig, sizes: Sequence[int]) -> tuple[int, ...]:
    if config.window_stride is None:
        gaussian = config.window_weight == "gaussian"
        return tuple(max(1, n // 2 if gaussian else 2 * n // 3) for n in sizes)
    strides = _per_axis("window_stride", config.window_stride, model)
    if any(stride > size for stride, size in zip(strides, sizes, strict=True)):
        raise PlanError(
            f"infer.window_stride {by(strides)} is larger than the window, {by(sizes)}, and would "
            "leave voxels between windows; make it at most that"
        )
    return strides


def _per_axis(key: str, given: int | tuple[int, ...], model: NetworkConfig) -> tuple[int, ...]:
    if isinstance(given, int):
        return (given,) * model.dimensions
    if len(given) != model.dimensions:
        axes = "z, y, x" if model.dimensions == 3 else "y, x"
        raise PlanError(
            f"infer.{key} {list(given)} has {len(given)} numbers, the network sees "
            f"{model.dimensions} axes: give one number, or one for each of {axes}"
        )
    return given


def _fitted(model: NetworkConfig, window: int, length: int, axis: int) -> int:
    """The window along an axis of `length` voxels."""
    step = geometry_of(model).stride[axis]
    least = output_size(model, next(input_sizes(model, axis)), axis)
    return max(window - max(0, window - length) // step * step, least)


def _axes(model: NetworkConfig) -> range:
    """Of (z, y, x), those that the network sees."""
    return range(3 - model.dimensions, 3)


def _zyx(values: Sequence[int]) -> Zyx:
    """One section at a time where the network does not see z."""
    z, y, x = values if len(values) == 3 else (1, *values)
    return z, y, x
