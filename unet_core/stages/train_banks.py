"""The banks that a network is trained on: opened, and refused where they do not fit it."""

from pathlib import Path

from unet_core.config import NetworkConfig, TrainConfig
from unet_core.config.affinities import check_affinities
from unet_core.config.networks.cost import least_normalised
from unet_core.config.networks.geometry import nearest_patch
from unet_core.errors import ConfigError
from unet_core.geometry import Zyx
from unet_core.io.arrays import open_level
from unet_core.io.ngff import attributes_of
from unet_core.net.patches import Bank


def normalised_by(patches: Path, validation: Path | None) -> str:
    """How the intensities of both banks were normalised; ConfigError where they differ."""
    ways = [attributes_of(store)["unet"]["normalise"] for store in (patches, validation) if store]
    if len(set(ways)) > 1:
        raise ConfigError(
            f"training patches were normalised by {ways[0]}, validation patches by {ways[1]}; "
            "build both banks with the same augment.normalise"
        )
    return str(ways[0])


def open_bank(store: Path, model: NetworkConfig, config: TrainConfig) -> tuple[Bank, list[int]]:
    """The bank of a store, and the voxels of each class in it.

    Of affinities the pairs of voxels apart and together. ConfigError where it does not fit.
    """
    unet = attributes_of(store)["unet"]
    bank = Bank(open_level(store, "raw"), open_level(store, "target"), open_level(store, "border"))
    n, channels, *patch = bank.raw.shape
    if not n:
        raise ConfigError(f"{store} holds no patches; set augment.patches >= 1")
    if channels != model.channels:
        raise ConfigError(
            f"the patches of {store} have {channels} channels, the network takes "
            f"{model.channels}; set model.channels to {channels}"
        )
    _check_patch(patch, model, config)
    return bank, _check_classes(store, list(unet["classes"]), model, unet.get("affinities"))


def _check_patch(patch: list[int], model: NetworkConfig, config: TrainConfig) -> None:
    wanted = list(nearest_patch(model, patch))
    if patch != wanted:
        raise ConfigError(
            f"the network does not accept patches of {tuple(patch)} voxels (z, y, x); the nearest "
            f"augment.patch that it does: {wanted}"
        )
    for kind, voxels in least_normalised(model, patch[3 - model.dimensions :]).items():
        if voxels * (config.batch if kind == "batch" else 1) < 2:
            raise ConfigError(
                f"model.norm {kind} needs more than one voxel at the deepest level, patches of "
                f"{tuple(patch)} leave one; make augment.patch larger"
            )


def affinities_in(model: NetworkConfig, patches: Path, validation: Path | None) -> tuple[Zyx, ...]:
    """Offsets of the affinities that both banks hold; none where they hold classes.

    Raises
    ------
    ConfigError
        If the banks differ, or the network does not predict one probability per offset, or could
        not learn one of them.
    """
    stores = [store for store in (patches, validation) if store]
    offsets, *others = [attributes_of(store)["unet"].get("affinities", []) for store in stores]
    if any(other != offsets for other in others):
        raise ConfigError(
            f"the training patches have the affinities {offsets}, the validation patches "
            f"{others[0]}; build both banks from weights with the same weights.affinities"
        )
    found = tuple((z, y, x) for z, y, x in offsets)
    check_affinities(found, model, attributes_of(patches)["unet"]["patch"], of="the network")
    return found


def _check_classes(
    store: Path, counts: list[int], model: NetworkConfig, affinities: list[list[int]] | None
) -> list[int]:
    if any(counts[model.classes :]):
        raise ConfigError(
            f"the targets of {store} hold class {len(counts) - 1}, the network has "
            f"{model.classes} classes (0..{model.classes - 1}); set model.classes to {len(counts)}"
        )
    if not any(counts):
        raise ConfigError(
            f"{store} holds no annotated voxel: every voxel of its targets is ignored; check "
            "truth.ignore_label and the truth files"
        )
    return (counts + [0] * model.classes)[: 2 if affinities else model.classes]
