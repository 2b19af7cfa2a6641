"""One volume in many jobs: begun by one, each slab by one, published by one.

The bytes are those of one job for the whole, which also goes on from what slabs have done.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

from unet_core.config import InferConfig, Resources
from unet_core.config.extent import Extent
from unet_core.config.spread import listed, slab_for, slabs_for
from unet_core.errors import PlanError
from unet_core.geometry import Box, Zyx, by
from unet_core.io.arrays import chunk_of, open_level, shard_of
from unet_core.io.atomic import write_json, write_text
from unet_core.io.ledger import building, slabs_of
from unet_core.io.remote import Location
from unet_core.io.slabs import building_slab
from unet_core.run.crew import Crew
from unet_core.stages.infer import compute
from unet_core.stages.infer_job import Asked, asked_for, read_networks

log = logging.getLogger(__name__)


def prepare_slabs(
    config: InferConfig,
    *,
    raw: Location,
    checkpoint: Path | Sequence[Path],
    out: Path,
    resources: Resources,
    mask: Path | None = None,
) -> None:
    """Begin the store `out`, without what is stale of it, and list its slabs in ``out.slabs``.

    One that is finished stays as it is: another's job, begun late, takes nothing from its readers.
    """
    asked = _asked(config, raw, checkpoint, out, mask, resources)
    with (
        Crew(resources) as crew,
        building(out, **asked.work, ending=crew.ending, keep=True) as build,
    ):
        done, every = build.done("infer"), asked.plan(asked.create(build.store))
        if any(block.name not in done for block in every):
            build.unpublish()
        names = slabs_for(config, _extent(asked))
        write_json(listed(out), {"slabs": names})
    write_text(slabs_of(out) / "prepared", f"{len(names)} slabs\n")
    log.info("%d slabs of %s voxels", len(names), by(slab_for(config, _extent(asked))))


def infer_slab(
    config: InferConfig,
    slab: str,
    *,
    raw: Location,
    checkpoint: Path | Sequence[Path],
    out: Path,
    resources: Resources,
    mask: Path | None = None,
) -> None:
    """Write the blocks of `out` that start in a slab, named by its first voxel, ``z-y-x``.

    Raises
    ------
    StoreError
        If `out` was not begun with these settings and inputs.
    PlanError
        If no slab of infer.slab starts there.
    """
    asked = _asked(config, raw, checkpoint, out, mask, resources)
    box = _box(config, slab, asked)
    with (
        Crew(resources) as crew,
        building_slab(out, slab, **asked.work, ending=crew.ending) as build,
    ):
        every = asked.plan(open_level(out, mode="r+"))
        compute(crew, build, asked, [b for b in every if _starts_in(b.write.start, box)])
    write_text(slabs_of(out) / f"{slab}.done", "")


def _asked(
    config: InferConfig,
    raw: Location,
    checkpoint: Path | Sequence[Path],
    out: Path,
    mask: Path | None,
    resources: Resources,
) -> Asked:
    networks = read_networks(checkpoint)
    return asked_for(config, raw=raw, networks=networks, out=out, mask=mask, resources=resources)


def _extent(asked: Asked) -> Extent:
    level = asked.level
    return Extent(shape=asked.job.raw_shape, chunk=chunk_of(level), shard=shard_of(level))


def _box(config: InferConfig, slab: str, asked: Asked) -> Box:
    names = slabs_for(config, _extent(asked))
    if slab not in names:
        size = by(slab_for(config, _extent(asked)))
        raise PlanError(
            f"no slab of {size} voxels starts at {slab} (z-y-x) of {by(asked.job.shape)}; there "
            f"are {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}"
        )
    z, y, x = (int(each) for each in slab.split("-"))
    depth, height, width = slab_for(config, _extent(asked))
    return Box((z, y, x), (z + depth, y + height, x + width))


def _starts_in(start: Zyx, box: Box) -> bool:
    return all(a <= n < b for a, n, b in zip(box.start, start, box.stop, strict=True))
