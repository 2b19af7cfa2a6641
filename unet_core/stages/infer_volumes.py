"""Many volumes in one process: networks and workers are loaded once and kept."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unet_core.config import InferConfig, Resources
from unet_core.errors import ConfigError, Hung, Interrupted, UNetCoreError, VolumeError
from unet_core.io.remote import Location
from unet_core.run.crew import Crew
from unet_core.run.dispatch import is_full
from unet_core.stages.infer import infer_probabilities, infer_volume
from unet_core.stages.infer_job import read_networks
from unet_core.stages.infer_slabs import infer_slab, prepare_slabs

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Files:
    """What is read of a volume, and what is written."""

    raw: Location
    out: Path
    mask: Path | None = None


def infer_volumes(
    config: InferConfig,
    *,
    volumes: Sequence[Files],
    checkpoint: Path | Sequence[Path],
    resources: Resources,
    part: str | None = None,
) -> None:
    """Write the class probabilities of each volume, one finished after the other.

    Each is what `infer_probabilities` makes of it, and is resumed as such. One that fails does
    not keep the others from being made, unless the disk takes no more.

    Parameters
    ----------
    part
        Of one volume: prepare, the name of a slab, or publish; see `infer_slabs`.

    Raises
    ------
    ConfigError
        If a part is asked for of several volumes.
    VolumeError
        If some of several volumes failed, naming them.
    UNetCoreError, OSError
        If there is but one: as `infer_probabilities`.
    """
    if part is not None:
        _infer_part(config, part, volumes, checkpoint, resources)
        return
    networks = read_networks(checkpoint)
    failed: dict[str, UNetCoreError | OSError] = {}
    unbegun = 0
    with Crew(resources) as crew:
        for number, files in enumerate(volumes, start=1):
            if len(volumes) > 1:
                log.info("volume %d of %d: %s", number, len(volumes), files.out)
            try:
                infer_volume(
                    config,
                    raw=files.raw,
                    networks=networks,
                    out=files.out,
                    mask=files.mask,
                    crew=crew,
                )
            except (Interrupted, Hung):
                raise
            except (UNetCoreError, OSError) as error:
                if len(volumes) == 1:
                    raise
                log.error("volume %d of %d failed: %s", number, len(volumes), error)
                failed[str(files.out)] = error
                if is_full(error):  # each of the others would run into it, too
                    unbegun = len(volumes) - number
                    break
    if failed:
        raise VolumeError(_told(failed, len(volumes), unbegun))


def _told(failed: Mapping[str, Exception], total: int, unbegun: int) -> str:
    """What a user is told; where the disk is full, by the last of them."""
    name, cause = list(failed.items())[-1 if unbegun else 0]
    others = f"{unbegun} are not begun, the others" if unbegun else "the others"
    return (
        f"{len(failed)} of {total} volumes failed: {', '.join(failed)}; {others} are finished. "
        f"{name}: {cause}; mend the cause and run the same command again"
    )


def _infer_part(
    config: InferConfig,
    part: str,
    volumes: Sequence[Files],
    checkpoint: Path | Sequence[Path],
    resources: Resources,
) -> None:
    if len(volumes) > 1:
        raise ConfigError(
            f"--prepare, --slab and --publish are for one volume, {len(volumes)} are named; run "
            "the command for each"
        )
    (files,) = volumes
    given: dict[str, Any] = {"raw": files.raw, "out": files.out, "mask": files.mask}
    given |= {"checkpoint": checkpoint, "resources": resources}
    if part == "prepare":
        prepare_slabs(config, **given)
    elif part == "publish":
        infer_probabilities(config, **given, sliced=True)
    else:
        infer_slab(config, part, **given)
