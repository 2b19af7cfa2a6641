"""Truth as scores read it: its kind, and the level whose voxels are those that were predicted."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unet_core.errors import StoreError
from unet_core.geometry import Zyx
from unet_core.io.arrays import ZarrArray, open_level
from unet_core.io.ngff import attributes_of, factors_of


@dataclass(frozen=True)
class Truth:
    """A level of a finished truth store; picklable."""

    store: Path
    kind: str
    """instances, binary or semantic."""

    level: int

    def open(self) -> ZarrArray:
        """The array (z, y, x) of ids or classes."""
        return open_level(self.store, self.level)

    @property
    def shape(self) -> Zyx:
        """Voxels (z, y, x) of the level."""
        z, y, x = self.open().shape
        return z, y, x


def open_truth(store: Path, *, downsample: Sequence[int] = (1, 1, 1)) -> Truth:
    """The level of a truth store whose voxels span `downsample` raw voxels (z, y, x).

    Raises
    ------
    StoreError
        If `store` is no truth store, or has no such level.
    """
    kind = attributes_of(store)["unet"].get("truth", {}).get("kind")
    if kind not in ("instances", "binary", "semantic"):
        raise StoreError(
            f"{store} is no truth store (kind {kind!r}); make it with `unet-core convert --truth`"
        )
    wanted = tuple(downsample)
    if wanted == (1, 1, 1):
        return Truth(store, str(kind), 0)
    factors = factors_of(store)
    if wanted not in factors:
        raise StoreError(
            f"{store} has no level whose voxels span {list(wanted)} raw voxels (z, y, x), as those "
            f"of the probabilities do; set infer.downsample to one of "
            f"{', '.join(str(list(factor)) for factor in factors)}"
        )
    return Truth(store, str(kind), factors.index(wanted))
