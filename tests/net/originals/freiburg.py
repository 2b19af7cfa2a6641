"""Caffe networks of Freiburg, by the names of their layers: weights `/0`, biases `/1`."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

LEVELS = 4


def shapes(
    w: int, *, last: int, dimensions: int = 2, classes: int = 2
) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors; `last`: channels of the last up-sampling.

    In 3-D z is not pooled on the finest level, whose kernels are flat.
    """
    found: dict[str, tuple[int, ...]] = {}

    def add(
        name: str, outputs: int, inputs: int, kernel: tuple[int, ...], *, up: bool = False
    ) -> None:
        pair = (inputs, outputs) if up else (outputs, inputs)
        found[f"{name}/0"] = (*pair, *kernel)
        found[f"{name}/1"] = (outputs,)

    def kernel(level: int, size: int) -> tuple[int, ...]:
        return (size,) * 2 if dimensions == 2 else (size if level else 1, size, size)

    widths = [w * 2**level for level in range(LEVELS + 1)]
    for level, width in enumerate(widths):
        add(f"conv_d{level}a-b", width, widths[level - 1] if level else 1, kernel(level, 3))
        add(f"conv_d{level}b-c", width, width, kernel(level, 3))
    for level in reversed(range(LEVELS)):
        made = last if level == 0 else widths[level]
        add(up_name(level), made, widths[level + 1], kernel(level, 2), up=True)
        add(f"conv_u{level}b-c", widths[level], made + widths[level], kernel(level, 3))
        add(f"conv_u{level}c-d", widths[level], widths[level], kernel(level, 3))
    add("conv_u0d-score", classes, w, (1,) * dimensions)
    return found


def up_name(level: int) -> str:
    below = f"d{LEVELS}c" if level == LEVELS - 1 else f"u{level + 1}d"
    return f"upconv_{below}_u{level}a"


def scores(state: Mapping[str, Tensor], x: Tensor, *, slope: float, shift: float) -> Tensor:
    """Probabilities, as the networks run after training; `slope` 0: ReLU."""
    flat = x.ndim == 4
    convolve = functional.conv2d if flat else functional.conv3d
    spread = functional.conv_transpose2d if flat else functional.conv_transpose3d
    pool = functional.max_pool2d if flat else functional.max_pool3d

    def act(x: Tensor) -> Tensor:
        return functional.leaky_relu(x, slope)

    def layer(name: str, x: Tensor) -> Tensor:
        return act(convolve(x, state[f"{name}/0"], state[f"{name}/1"]))

    skips = []
    x = x + shift
    for level in range(LEVELS + 1):
        x = layer(f"conv_d{level}b-c", layer(f"conv_d{level}a-b", x))
        if level < LEVELS:
            skips.append(x)
            x = pool(x, 2 if level or flat else (1, 2, 2))
    for level in reversed(range(LEVELS)):
        name, step = up_name(level), 2 if level or flat else (1, 2, 2)
        x = act(spread(x, state[f"{name}/0"], state[f"{name}/1"], stride=step))
        cut = skips[level]
        for axis in range(2, x.ndim):
            lost = cut.shape[axis] - x.shape[axis]
            cut = cut.narrow(axis, lost // 2, x.shape[axis])
        x = layer(f"conv_u{level}b-c", torch.cat([x, cut], 1))
        x = layer(f"conv_u{level}c-d", x)
    score = convolve(x, state["conv_u0d-score/0"], state["conv_u0d-score/1"])
    return torch.softmax(score, dim=1)
