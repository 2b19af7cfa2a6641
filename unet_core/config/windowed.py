"""Which networks are laid over a volume in windows, and in which."""

from collections.abc import Sequence

from unet_core.config.inference import InferConfig
from unet_core.config.networks.settings import NetworkConfig
from unet_core.errors import PlanError
from unet_core.geometry import Zyx, by
from unet_core.windows import Windows

_UNTOLD_PX = {2: 512, 3: 128}
"""Windows of networks whose patches of training are not known, by dimensions."""


def in_windows(config: InferConfig, model: NetworkConfig) -> bool:
    """Whether a network runs in windows: it is asked to, or its results depend on all it sees."""
    return config.window is not None or not model.is_local


def windows_for(
    config: InferConfig, model: NetworkConfig, *, shape: Zyx, patch: Sequence[int] | None
) -> Windows | None:
    """How `model` is laid over a volume of `shape` in windows; None: in exact tiles.

    Parameters
    ----------
    patch
        Voxels (z, y, x) of the patches it was trained on; None: not known.

    Raises
    ------
    PlanError
        If infer.window is no size that it yields, or infer.window_stride leaves gaps.
    """
    if not in_windows(config, model):
        return None
    deep = model.dimensions == 3
    sizes = _sizes(config, model, patch)
    strides = _strides(config, model, sizes)
    size = [
        _fitted(model, window, n)
        for window, n in zip(sizes, shape[-model.dimensions :], strict=True)
    ]
    lost = _lost(model)
    plane = (lost, lost)
    return Windows(
        shape,
        _zyx(size if deep else [1, *size]),
        _zyx(strides if deep else [1, *strides]),
        halo=(lost if deep else model.sections // 2, *plane),
        weight=config.window_weight,
    )


def _sizes(
    config: InferConfig, model: NetworkConfig, patch: Sequence[int] | None
) -> tuple[int, ...]:
    """Voxels that a window yields, per axis of the network."""
    if config.window is None:
        axes = patch or (_UNTOLD_PX[model.dimensions],) * 3
        inputs = (model.nearest_input_size(n) for n in axes[-model.dimensions :])
        return tuple(map(model.output_size, inputs))
    sizes = _per_axis("window", config.window, model)
    nearest = tuple(_nearest(model, n) for n in sizes)
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


def _lost(model: NetworkConfig) -> int:
    """Voxels per side that the network loses, run with its own padding."""
    return model.valid_halo_px if model.padding == "valid" else 0


def _nearest(model: NetworkConfig, window: int) -> int:
    return model.output_size(model.nearest_input_size(window + 2 * _lost(model)))


def _fitted(model: NetworkConfig, window: int, length: int) -> int:
    """The window along an axis of `length` voxels: where that is less, the least that holds it."""
    step = model.stride_px
    least = model.output_size(next(model.input_sizes()))
    return max(window - max(0, window - length) // step * step, least)


def _zyx(values: Sequence[int]) -> Zyx:
    z, y, x = values
    return z, y, x
