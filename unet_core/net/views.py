"""Views of an input whose results are averaged: flips and quarter turns."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from unet_core.config import InferConfig


@dataclass(frozen=True)
class View:
    """One way to look at voxels (..., [z,] y, x); nothing is interpolated."""

    swap: bool = False
    """y and x change places."""

    flip: tuple[int, ...] = ()
    """Axes that are flipped after that."""

    def of(self, x: Tensor) -> Tensor:
        """`x` in this view."""
        x = x.transpose(-1, -2) if self.swap else x
        return x.flip(self.flip) if self.flip else x

    def undone(self, x: Tensor) -> Tensor:
        """What `of` was given."""
        x = x.flip(self.flip) if self.flip else x
        return x.transpose(-1, -2) if self.swap else x


_FLIPS = ((), (-1,), (-2,), (-1, -2))

_TURNS = (View(), View(True, (-2,)), View(False, (-1, -2)), View(True, (-1,)))
"""By 0, 90, 180 and 270 degrees."""


def views_of(config: InferConfig, dimensions: int) -> tuple[View, ...]:
    """The views that `infer.averaging` stands for, of a network of so many dimensions."""
    match config.averaging:
        case "none":
            return (View(),)
        case "turns":
            return _TURNS
        case "symmetries":
            return tuple(View(swap, flip) for swap in (False, True) for flip in _FLIPS)
    axes = range(-1, -1 - dimensions, -1)
    counts = range(dimensions + 1)
    return tuple(View(flip=flip) for n in counts for flip in itertools.combinations(axes, n))


def mean_over(views: tuple[View, ...], values: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Mean of ``values(x)`` over `views`, summed in their order; float32."""
    total = views[0].undone(values(views[0].of(x)))
    for view in views[1:]:
        total += view.undone(values(view.of(x)))
    return total if len(views) == 1 else total.div_(len(views))
