"""Which affinities a network can learn of its patches, and be used with."""

from collections.abc import Sequence

from unet_core.config.base import Zyx
from unet_core.config.networks.geometry import own_lost
from unet_core.config.networks.settings import NetworkConfig
from unet_core.errors import ConfigError


def check_affinities(
    offsets: Sequence[Zyx], net: NetworkConfig, patch: Sequence[int], *, of: str
) -> None:
    """Refuse offsets that a network has no outputs for, or that none of its patches shows.

    Parameters
    ----------
    offsets
        Voxels (z, y, x) from one of a pair to the other; none: classes are learnt.
    of
        The network, in words.

    Raises
    ------
    ConfigError
        Naming the offset, or what the network should be.
    """
    if not offsets:
        return
    if not (net.output == "sigmoid" and net.classes == len(offsets) + 1):
        raise ConfigError(
            f"weights.affinities has {len(offsets)} offsets, so {of} needs model.output sigmoid "
            f"and model.classes {len(offsets) + 1} (one more), got {net.output} and {net.classes}"
        )
    lost = own_lost(net)
    for offset in offsets:
        if any(abs(d) >= n - k for d, n, k in zip(offset, patch, lost, strict=True)):
            most = [n - k - 1 for n, k in zip(patch, lost, strict=True)]
            raise ConfigError(
                f"weights.affinities {list(offset)} leads out of every augment.patch {list(patch)} "
                f"from the voxels in its middle that {of} predicts, so that nothing would be "
                f"learnt of it; there offsets have up to {most} voxels: make patches larger along "
                "that axis (of a 2-D network along z: model.sections), or leave the offset out"
            )
