"""Truth to what the network learns: the class of every voxel and the border weight map."""

from collections.abc import Sequence
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_core.config import Resources, WeightsConfig
from unet_core.errors import ConfigError, StoreError
from unet_core.geometry import Block, Zyx, blocks
from unet_core.io.arrays import (
    create_array,
    cut_of,
    open_level,
    read,
    shard_of,
    write_block,
)
from unet_core.io.ledger import Build, building
from unet_core.io.ngff import (
    attributes_of,
    content_of,
    label_image,
    multiscale,
    voxel_size_of,
    write_group,
)
from unet_core.ops.boundary import (
    IGNORED_CLASS,
    border_reach,
    target_of_classes,
    target_of_instances,
)
from unet_core.ops.weight_map import border_halo, border_term, near_term
from unet_core.provenance import digest_of
from unet_core.run.crew import Crew, Done

TARGET = "labels/target/0"
"""Array of the store that holds the class of every voxel."""

OBJECTS = "labels/objects/0"
"""Array that holds the ids of objects, where affinities are learnt."""


def compute_weights(config: WeightsConfig, *, truth: Path, out: Path, resources: Resources) -> None:
    """Write target and border weight map of `truth` to the store `out`.

    `out` gets ``0`` (float32, border term of the loss weight) and ``labels/target/0`` (uint8, class
    per voxel, 255 ignored); its attribute ``unet`` holds the voxels of each class over the whole
    volume, from which class weights are balanced without seams. Semantic truth has no border term.
    With `config.affinities` it gets ``labels/objects/0`` too (uint32, the ids): affinities are made
    of them when patches are deformed.

    Raises
    ------
    StoreError
        If `truth` is no finished truth store.
    ConfigError
        If affinities are asked for and it has classes instead of objects.
    """
    level, kind, size = open_level(truth), _kind_of(truth), voxel_size_of(truth)
    if config.affinities and kind == "semantic":
        raise ConfigError(
            f"weights.affinities needs objects, {truth} has classes (truth.kind semantic); set "
            "truth.kind to instances or binary, or leave weights.affinities empty"
        )
    z_spacing = 2 * size[0] / (size[1] + size[2]) if config.distances == "volume" else None
    halo = _halo(config, kind, z_spacing)
    made_from = {
        "truth": content_of(truth),
        "kind": kind,
        "voxel_size_nm": list(size),
        "cut": cut_of(level),
    }
    with building(out, stage="weights", settings={"weights": config}, inputs=made_from) as build:
        cut: dict[str, Any] = {"shape": level.shape, **cut_of(level)}
        create_array(build.store, "0", dtype="float32", **cut)
        create_array(build.store, TARGET, dtype="uint8", **cut)
        if config.affinities:
            create_array(build.store, OBJECTS, dtype="uint32", **cut)
        work = partial(
            weigh_block, truth=truth, out=out, config=config, kind=kind, z_spacing=z_spacing
        )
        plan = blocks(level.shape, block=shard_of(level), halo=halo)
        with Crew(resources) as crew:
            notes = crew.run(build, "weights", work, plan, need_mb=_need_mb(plan))
        told = {"affinities": [list(o) for o in config.affinities]} if config.affinities else {}
        _publish(build, size, {"kind": kind, **told, **_total(notes)})


def weigh_block(
    block: Block,
    *,
    truth: Path,
    out: Path,
    config: WeightsConfig,
    kind: str,
    z_spacing: float | None,
) -> Done:
    """Write target and border term of one block; the note counts its voxels by class."""
    level = open_level(truth)
    seen = block.read.clip(level.shape)
    core = block.write.relative_to(seen.start).slices
    ids = read(level, seen)
    if kind == "semantic":
        target = target_of_classes(ids)
        term = np.zeros(ids.shape, np.float32)
    else:
        target = target_of_instances(ids, border_px=config.border_px, z_spacing=z_spacing)
        term = border_term(
            ids,
            target,
            weight=config.border_weight,
            sigma_px=config.border_sigma_px,
            z_spacing=z_spacing,
        )
        if config.near_weight:
            term += near_term(
                ids,
                target,
                weight=config.near_weight,
                sigma_px=config.near_sigma_px,
                z_spacing=z_spacing,
            )
    target, term = target[core], term[core]
    digests = [
        write_block(open_level(out, "0", mode="r+"), block.write, term),
        write_block(open_level(out, TARGET, mode="r+"), block.write, target),
    ]
    if config.affinities:
        digests.append(write_block(open_level(out, OBJECTS, mode="r+"), block.write, ids[core]))
    return Done(digest_of(d.encode() for d in digests), note=_count(target))


def _kind_of(truth: Path) -> str:
    kind = attributes_of(truth)["unet"].get("truth", {}).get("kind")
    dtype = open_level(truth).dtype
    if kind not in ("instances", "binary", "semantic") or dtype != np.uint32:
        raise StoreError(
            f"{truth} is no truth store (kind {kind!r}, values {dtype}; needed are a kind and "
            "uint32); make it with `unet-core convert --truth`"
        )
    return str(kind)


def _halo(config: WeightsConfig, kind: str, z_spacing: float | None) -> Zyx:
    """Voxels beyond a block on which its target and border term depend."""
    if kind == "semantic":
        return (0, 0, 0)
    terms = (
        (config.border_weight, config.border_sigma_px),
        (config.near_weight, config.near_sigma_px),
    )
    reaches = [border_halo(sigma, z_spacing=z_spacing) for weight, sigma in terms if weight]
    borders = border_reach(config.border_px, z_spacing=z_spacing)
    z, y, x = map(max, borders, (0, 0, 0), *reaches)
    return z, y, x


def _need_mb(plan: Sequence[Block]) -> float:
    """A process with its libraries, and ids, distances, labels, term and masks of one block."""
    return 300 + 60 * max((block.read.size for block in plan), default=0) / 10**6


def _count(target: NDArray[np.uint8]) -> dict[str, Any]:
    counts = np.bincount(target.ravel(), minlength=IGNORED_CLASS + 1)
    highest = int(np.flatnonzero(counts[:IGNORED_CLASS]).max(initial=1))
    return {
        "classes": counts[: highest + 1].tolist(),
        "ignored": int(counts[IGNORED_CLASS]),
    }


def _total(notes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    each = (note["classes"] for note in notes)
    return {
        "classes": [sum(counts) for counts in zip_longest(*each, fillvalue=0)],
        "ignored": sum(note["ignored"] for note in notes),
    }


def _publish(build: Build, voxel_size_nm: Sequence[float], unet: dict[str, Any]) -> None:
    """Write the metadata of the label image, then that of the store, which makes it appear."""
    labels = build.store / "labels"
    names = ["target", "objects"] if "affinities" in unet else ["target"]
    for name in names:
        image = multiscale(name, axes="zyx", voxel_size_nm=voxel_size_nm)
        write_group(labels / name, {"ome": label_image(image)})
    write_group(labels, {"ome": {"version": "0.5", "labels": names}})
    build.publish(ome=multiscale("weights", axes="zyx", voxel_size_nm=voxel_size_nm), unet=unet)
