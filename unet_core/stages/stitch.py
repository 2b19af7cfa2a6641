"""Probabilities to objects: one id each over the whole volume, whatever the blocks."""

import logging
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from unet_core.config import ObjectsConfig, Resources, StitchConfig
from unet_core.geometry import Block, Box, Zyx
from unet_core.io.arrays import (
    create_array,
    cut_of,
    open_level,
    shard_of,
    write_block,
)
from unet_core.io.calibration import read_calibration
from unet_core.io.ledger import Build, building
from unet_core.io.ngff import content_of, label_image, multiscale, voxel_size_of
from unet_core.io.probabilities import Probabilities, open_probabilities, read_foreground
from unet_core.ops.components import inside
from unet_core.ops.heights import (
    HeightArray,
    depth_steps,
    fenced,
    heights_of,
    smooth,
    smoothing_reach,
    smoothing_sd,
)
from unet_core.ops.union import ObjectArray
from unet_core.run.basins import label_watershed
from unet_core.run.crew import Crew, Done
from unet_core.run.objects import label_components

log = logging.getLogger(__name__)


def stitch_labels(
    config: StitchConfig,
    *,
    objects: ObjectsConfig,
    probabilities: Path,
    calibration: Path | None,
    out: Path,
    resources: Resources,
    mask: Path | None = None,
) -> None:
    """Write the objects of the foreground class to the store `out`: ``0``, uint64, 0 is none.

    Ids are 1..n in raster order of the objects' first voxels; they depend neither on the blocks
    nor on the workers. Voxels that were not computed (region, mask, failed blocks) are in none.

    Raises
    ------
    StoreError
        If `probabilities` is no finished store, was computed within a mask that is not `mask`, or
        `calibration` is no file of `calibrate`.
    ConfigError
        If objects.foreground is a class that the probabilities do not have.
    """
    level = open_level(probabilities)
    source = open_probabilities(probabilities, [mask] if mask else [])
    source.channels(objects.classes)
    made_from: dict[str, Any] = {
        "probabilities": content_of(probabilities),
        "cut": cut_of(level),
        **source.facts,
    }
    how = _chosen(config, calibration)
    # Not the calibration's content: another calibration with the same outcome changes nothing.
    settings = {"stitch": how, "objects": objects}
    if how["method"] == "watershed" and objects.scope == "volume":
        made_from["voxel_size_nm"] = list(voxel_size_of(probabilities))
    with (
        building(out, stage="stitch", settings=settings, inputs=made_from) as build,
        Crew(resources) as crew,
    ):
        create_array(build.store, "0", shape=level.shape[-3:], dtype="uint64", **cut_of(level))
        make = _by_threshold if how["method"] == "threshold" else _by_watershed
        count = make(crew, build, how, objects, source)
        log.info("%d objects by %s", count, how)
        steps = source.downsample
        size = [edge / n for edge, n in zip(voxel_size_of(probabilities), steps, strict=True)]
        ome = multiscale("labels", axes="zyx", voxel_size_nm=size, factors=[steps])
        build.publish(
            ome=label_image(ome),
            unet={"objects": count, "scope": objects.scope, **how},
        )


def _chosen(config: StitchConfig, calibration: Path | None) -> dict[str, Any]:
    """The method and the settings it reads, no others."""
    if config.method == "calibrated" and calibration is not None:
        config = read_calibration(calibration)
    elif config.method == "calibrated":
        log.info("no calibration given: objects by stitch.threshold %s", config.threshold)
    if config.method == "watershed":
        return {
            "method": "watershed",
            "smoothing_px": config.smoothing_px,
            "depth": config.depth,
        }
    return {"method": "threshold", "threshold": config.threshold}


def _by_threshold(
    crew: Crew, build: Build, how: dict[str, Any], objects: ObjectsConfig, source: Probabilities
) -> int:
    inner = partial(_mask_of, source=source, classes=objects.classes)
    return label_components(
        crew,
        build,
        mask_of=partial(inner, threshold=how["threshold"]),
        write=partial(_write, out=build.store),
        shape=_shape_of(build.store),
        shard=shard_of(open_level(build.store)),
        scope=objects.scope,
        min_size=objects.min_size_vx,
    )


def _by_watershed(
    crew: Crew, build: Build, how: dict[str, Any], objects: ObjectsConfig, source: Probabilities
) -> int:
    sd = smoothing_sd(how["smoothing_px"], voxel_size_of(source.store), objects.scope)
    return label_watershed(
        crew,
        build,
        heights_of=partial(_heights_of, source=source, classes=objects.classes, sd=sd),
        write=partial(_write, out=build.store),
        shape=_shape_of(build.store),
        shard=shard_of(open_level(build.store)),
        scope=objects.scope,
        depth=depth_steps(how["depth"]),
        min_size=objects.min_size_vx,
    )


def _mask_of(
    box: Box, *, source: Probabilities, classes: tuple[int, ...], threshold: float
) -> npt.NDArray[np.bool_]:
    found = inside(read_foreground(source, box, classes), threshold)
    computed = source.computed(box)
    return found if computed is None else found & computed


def _heights_of(
    box: Box, *, source: Probabilities, classes: tuple[int, ...], sd: tuple[float, float, float]
) -> HeightArray:
    stored = read_foreground(source, box.grow(smoothing_reach(sd)), classes)
    return fenced(smooth(heights_of(stored), sd), source.computed(box))


def _write(block: Block, labels: ObjectArray, *, out: Path) -> Done:
    return Done(write_block(open_level(out, mode="r+"), block.write, labels))


def _shape_of(store: Path) -> Zyx:
    z, y, x = open_level(store).shape
    return z, y, x
