"""Sizes that a network accepts as it was trained, for programs that know nothing of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from unet_core.config.networks.build import graph_of
from unet_core.config.networks.everywhere import Bins
from unet_core.config.networks.geometry import (
    geometry_of,
    input_sizes,
    nearest_input_size,
    own_lost,
    padded_halo,
)
from unet_core.config.networks.layers import Axes
from unet_core.config.networks.settings import NetworkConfig
from unet_core.errors import ConfigError


@dataclass(frozen=True)
class Accepted:
    """Voxels along the network's own axes, ([z,] y, x), run with its own padding."""

    least: Axes
    """The smallest size."""

    step: Axes
    """Further ones are as much larger; 0: there are none."""

    lost: Axes
    """Per side by which results are smaller."""

    halo: Axes
    """Per side of a result that depends on where a tile ends; 0 where none is without it."""

    def sizes(self, number: int) -> Axes:
        """The `number`-th size, from 0."""
        return tuple(
            least + number * step for least, step in zip(self.least, self.step, strict=True)
        )

    @property
    def roomy(self) -> "Accepted":
        """The same from the smallest size on that leaves something without the halo.

        At least the second: of the first, one voxel may be left on the deepest level, of which no
        normalisation makes sense.
        """
        least = []
        for size, step, lost, halo in zip(
            self.sizes(1), self.step, self.lost, self.halo, strict=True
        ):
            missing = 1 + 2 * (lost + halo) - size
            least.append(size + max(0, -(-missing // step)) * step if step else size)
        return Accepted(tuple(least), self.step, self.lost, self.halo)


def accepted(model: NetworkConfig, size: Sequence[int] | None = None) -> Accepted:
    """What a network accepts, or of one that averages over parts of the map, `size` alone.

    Raises
    ------
    ConfigError
        If it needs `size` and there is none, or does not accept it.
    """
    numbers = range(3 - model.dimensions, 3)
    none = (0,) * model.dimensions
    has_halo = geometry_of(model).is_exact and model.padding == "same"
    halo = padded_halo(model)[numbers.start :] if has_halo else none
    lost = own_lost(model)[numbers.start :]
    if not is_of_one_size(model):
        pairs = [tuple(islice(input_sizes(model, axis), 2)) for axis in numbers]
        least, step = zip(*((a, b - a) for a, b in pairs), strict=True)
        return Accepted(least, step, lost, halo)
    if size is None:
        raise ConfigError(
            "this network averages over parts of what it sees, and can be exported for one size "
            "alone: give --size, the voxels per axis of the patches it was trained on"
        )
    given = tuple(size) if len(size) > 1 else tuple(size) * model.dimensions
    if len(given) != model.dimensions:
        raise ConfigError(
            f"--size needs one number, or {model.dimensions}, one per axis; got {list(given)}"
        )
    nearest = tuple(nearest_input_size(model, n, a) for n, a in zip(given, numbers, strict=True))
    if given != nearest:
        raise ConfigError(
            f"the network does not accept --size {list(given)}; the nearest that it does: "
            f"{list(nearest)}"
        )
    return Accepted(given, none, lost, none)


def is_of_one_size(model: NetworkConfig) -> bool:
    """Whether the sizes of what it averages over follow from that of the map."""
    layers = (node.layer for node in graph_of(model).without_auxiliary().nodes)
    return any(isinstance(layer, Bins) and layer.count > 1 for layer in layers)
