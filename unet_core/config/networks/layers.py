"""The layers that networks are made of, as values: channels, sizes, and what each one sees."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

Axes = tuple[int, ...]
"""A number per spatial axis of the network, (z, y, x) or (y, x)."""

Interval = tuple[int, int]
"""Voxels along one axis: the first, and the one after the last; may lie outside of the map."""


@dataclass(frozen=True)
class Layer:
    """Makes one map of feature channels from one or several."""

    def channels(self, inputs: Sequence[int]) -> int:
        """Channels of the result."""
        return inputs[0]

    def size(self, axis: int, sizes: Sequence[int]) -> int:
        """Voxels along an axis of the result, from those of the inputs."""
        return sizes[0]

    def seen(self, axis: int, made: Interval, sizes: Sequence[int]) -> list[Interval]:
        """What of each input the results `made` depend on; `sizes` as for `size`."""
        return [made] * len(sizes)

    @property
    def parameters(self) -> int:
        """Numbers that training adjusts."""
        return 0

    @property
    def is_local(self) -> bool:
        """A result depends on what is near it alone, wherever in the map it lies."""
        return True

    @property
    def told(self) -> str:
        """What makes the layer not local, in words."""
        return ""

    def scale(self, axis: int) -> tuple[int, int]:
        """Voxels of the input over voxels of the result, as a fraction."""
        return 1, 1


@dataclass(frozen=True)
class _Windowed(Layer):
    """Every result is made of a window of its input, `stride` voxels beside the one before."""

    kernel: Axes
    stride: Axes
    before: Axes
    """Zeros in front of each axis; a maximum does not see them."""
    after: Axes
    """Zeros behind each axis."""
    dilation: int

    def size(self, axis: int, sizes: Sequence[int]) -> int:
        padded = sizes[0] + self.before[axis] + self.after[axis]
        return (padded - self.dilation * (self.kernel[axis] - 1) - 1) // self.stride[axis] + 1

    def seen(self, axis: int, made: Interval, sizes: Sequence[int]) -> list[Interval]:
        first, last = ((n * self.stride[axis]) - self.before[axis] for n in (made[0], made[1] - 1))
        return [(first, last + self.dilation * (self.kernel[axis] - 1) + 1)]

    def scale(self, axis: int) -> tuple[int, int]:
        return self.stride[axis], 1


@dataclass(frozen=True)
class Convolution(_Windowed):
    """A convolution, zero-padded by `before` and `after`."""

    inputs: int
    outputs: int
    groups: int = 1
    bias: bool = True
    standardised: bool = False
    """Each kernel is brought to mean 0 and deviation 1 before it is used."""
    partial: bool = False
    """2-D: before the bias, results are scaled by taps over taps within the map."""

    def channels(self, inputs: Sequence[int]) -> int:
        return self.outputs

    @property
    def parameters(self) -> int:
        each = self.inputs // self.groups * prod(self.kernel)
        return self.outputs * (each + self.bias)


@dataclass(frozen=True)
class Transposed(Layer):
    """A transposed convolution: every voxel of the input spreads a kernel over the result."""

    inputs: int
    outputs: int
    kernel: Axes
    stride: Axes
    padding: Axes
    """Voxels per side that are cut off the result."""
    bias: bool = True
    groups: int = 1
    learnt: bool = True
    """False: the kernel is that of bilinear interpolation, and stays so."""

    def channels(self, inputs: Sequence[int]) -> int:
        return self.outputs

    def size(self, axis: int, sizes: Sequence[int]) -> int:
        spread = (sizes[0] - 1) * self.stride[axis] + self.kernel[axis]
        return spread - 2 * self.padding[axis]

    def seen(self, axis: int, made: Interval, sizes: Sequence[int]) -> list[Interval]:
        stride, first, last = self.stride[axis], made[0], made[1] - 1
        low = -(-(first + self.padding[axis] - self.kernel[axis] + 1) // stride)
        return [(low, (last + self.padding[axis]) // stride + 1)]

    @property
    def parameters(self) -> int:
        each = self.inputs // self.groups * prod(self.kernel)
        return self.outputs * (each + self.bias)

    def scale(self, axis: int) -> tuple[int, int]:
        return 1, self.stride[axis]


@dataclass(frozen=True)
class Normalisation(Layer):
    """Mean 0 and deviation 1 per channel or group of them, then a learnt scale and shift."""

    kind: Literal["batch", "instance", "group"]
    dimensions: int
    width: int
    """Channels."""
    groups: int = 1
    """Of kind group."""
    eps: float = 1e-5
    momentum: float = 0.1
    """batch: weight of the newest batch in what is kept of mean and variance."""
    affine: bool = True
    """A scale and a shift per channel are learnt."""

    @property
    def parameters(self) -> int:
        return 2 * self.width if self.affine else 0

    @property
    def is_local(self) -> bool:
        return self.kind == "batch"

    @property
    def told(self) -> str:
        return f"{self.kind} normalisation sees each tile's own mean and deviation"


@dataclass(frozen=True)
class Activation(Layer):
    """A function of every value for itself."""

    kind: Literal[
        "relu", "relu6", "leaky_relu", "prelu", "elu", "swish", "sigmoid", "softmax", "tanh"
    ]
    slope: float = 0.1
    """leaky_relu: of negative values."""
    width: int = 0
    """prelu: channels, each with a slope of its own."""

    @property
    def parameters(self) -> int:
        return self.width if self.kind == "prelu" else 0


@dataclass(frozen=True)
class Pooling(_Windowed):
    """The largest value or the mean of each window; as many windows as fit.

    `before` and `after` count for nothing in a maximum; in a mean they count as zeros.
    """

    kind: Literal["max", "mean"] = "max"
    partial: bool = False
    """A last window that reaches beyond the map is taken too."""

    @property
    def is_disjoint(self) -> bool:
        """Every voxel is in one window at most, none in a window that reaches over the edge."""
        plain = not self.partial and not any((*self.before, *self.after)) and self.dilation == 1
        return plain and self.kernel == self.stride

    def size(self, axis: int, sizes: Sequence[int]) -> int:
        if not self.partial:
            return super().size(axis, sizes)
        padded = sizes[0] + self.before[axis] + self.after[axis]
        count = -(-(padded - self.kernel[axis]) // self.stride[axis]) + 1
        begun = (count - 1) * self.stride[axis] < sizes[0] + self.before[axis]
        return count if begun else count - 1


@dataclass(frozen=True)
class Interpolation(Layer):
    """`factor` times the voxels; linear: between centres (``align_corners=False``)."""

    factor: Axes
    mode: Literal["nearest", "linear"]

    def size(self, axis: int, sizes: Sequence[int]) -> int:
        return sizes[0] * self.factor[axis]

    def seen(self, axis: int, made: Interval, sizes: Sequence[int]) -> list[Interval]:
        factor = self.factor[axis]
        if self.mode == "nearest" or factor == 1:
            return [(made[0] // factor, (made[1] - 1) // factor + 1)]
        # The centre of voxel i lies at (i + 1/2) / factor - 1/2, between two of the input.
        first, last = ((2 * n + 1 - factor) // (2 * factor) for n in (made[0], made[1] - 1))
        return [(first, last + 2)]

    def scale(self, axis: int) -> tuple[int, int]:
        return 1, self.factor[axis]


@dataclass(frozen=True)
class Cut(Layer):
    """Voxels taken off (or, where negative, zeros added) in front of and behind each axis."""

    before: Axes
    after: Axes

    def size(self, axis: int, sizes: Sequence[int]) -> int:
        return sizes[0] - self.before[axis] - self.after[axis]

    def seen(self, axis: int, made: Interval, sizes: Sequence[int]) -> list[Interval]:
        return [(made[0] + self.before[axis], made[1] + self.before[axis])]


@dataclass(frozen=True)
class Fitted(Layer):
    """The first input, cut or zero-padded around its centre to the size of the second."""

    def size(self, axis: int, sizes: Sequence[int]) -> int:
        return sizes[1]

    def seen(self, axis: int, made: Interval, sizes: Sequence[int]) -> list[Interval]:
        surplus = sizes[0] - sizes[1]
        # Of an odd number of zeros the greater part is behind, of voxels to cut too.
        first = surplus // 2 if surplus >= 0 else -(-surplus // 2)
        return [(made[0] + first, made[1] + first), (made[0], made[0])]


@dataclass(frozen=True)
class Placed(Layer):
    """The first input from voxel `start` of each axis on, as many as the second has."""

    start: int

    def size(self, axis: int, sizes: Sequence[int]) -> int:
        return sizes[1] if sizes[0] >= self.start + sizes[1] else 0

    def seen(self, axis: int, made: Interval, sizes: Sequence[int]) -> list[Interval]:
        return [(made[0] + self.start, made[1] + self.start), (made[0], made[0])]


@dataclass(frozen=True)
class Join(Layer):
    """All inputs side by side, as channels."""

    def channels(self, inputs: Sequence[int]) -> int:
        return sum(inputs)


@dataclass(frozen=True)
class Sum(Layer):
    """The sum of all inputs; ``mean``: divided by their number."""

    mean: bool = False


@dataclass(frozen=True)
class Product(Layer):
    """The first input times the second, which has one voxel or as many."""

    def seen(self, axis: int, made: Interval, sizes: Sequence[int]) -> list[Interval]:
        return [made, made if sizes[1] == sizes[0] else (0, sizes[1])]


@dataclass(frozen=True)
class Dropout(Layer):
    """In training, units (or whole channels) become 0 by chance."""

    rate: float
    dimensions: int
    whole: bool = False
    """Whole channels."""


@dataclass(frozen=True)
class Affine(Layer):
    """``x * scale + shift``, both fixed."""

    scaled: float = 1.0
    shift: float = 0.0


@dataclass(frozen=True)
class Repeated(Layer):
    """Channels repeated `times` over: c0, c0, ..., c1, c1, ... or, `whole`, c0, c1, ..., c0, ..."""

    times: int
    whole: bool = True

    def channels(self, inputs: Sequence[int]) -> int:
        return inputs[0] * self.times
