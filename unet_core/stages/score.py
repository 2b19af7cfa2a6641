"""Labels and probabilities against truth, section by section: scores.json."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from unet_core.config import ObjectsConfig, Resources, ScoreConfig, canonical
from unet_core.errors import ConfigError, StoreError
from unet_core.geometry import IGNORED_ID, Block, Box, blocks
from unet_core.io.arrays import (
    chunk_of,
    create_array,
    cut_of,
    open_level,
    read,
    shard_of,
    write_block,
)
from unet_core.io.atomic import write_json
from unet_core.io.calibration import read_threshold
from unet_core.io.ledger import Build, building
from unet_core.io.ngff import attributes_of, content_of
from unet_core.metrics.contingency import Table, contingency
from unet_core.metrics.contingency import added as added_tables
from unet_core.metrics.isbi import isbi_counts, threshold_grid, truth_objects
from unet_core.metrics.scores import (
    Counts,
    added,
    label_counts,
    object_counts,
    scores_of,
    semantic_counts,
)
from unet_core.metrics.thinning import components, grow_labels
from unet_core.provenance import digest_of
from unet_core.run.crew import Crew, Done
from unet_core.run.objects import label_components

Ids = npt.NDArray[np.uint32]

_SECTIONS = 4
"""Sections of one unit of work: few, so that many workers have some; more than one, because
chunks of several sections are decompressed whole."""


def score_volume(
    config: ScoreConfig,
    *,
    objects: ObjectsConfig,
    labels: Path,
    probabilities: Path,
    truth: Path,
    calibration: Path | None,
    out: Path,
    resources: Resources,
) -> None:
    """Write the scores of one volume, and the counts they are ratios of, to the JSON file `out`.

    Raises
    ------
    StoreError
        If the stores do not hold the same voxels, or `truth` is no truth store.
    ConfigError
        If objects.foreground is a class that the probabilities do not have.
    """
    kind = _checked(labels, probabilities, truth, objects)
    threshold = None if calibration is None else read_threshold(calibration)
    made_from = {
        "labels": content_of(labels),
        "probabilities": content_of(probabilities),
        "truth": content_of(truth),
        "cut": cut_of(open_level(truth)),
        "kind": kind,
        "calibrated_threshold": threshold,
    }
    settings = {"score": config, "objects": objects}
    out.unlink(missing_ok=True)
    work = out.with_name(f"{out.stem}.work")
    with building(work, stage="score", settings=settings, inputs=made_from) as build:
        told = _settings(config, objects, threshold)
        with Crew(resources) as crew:
            ids = _truth_ids(crew, build, truth, kind, objects)
            count = partial(
                count_sections,
                labels=labels,
                probabilities=probabilities,
                truth=truth,
                ids=ids,
                kind=kind,
                settings=told,
                scratch=build.scratch,
            )
            plan = _plan(truth)
            need_mb = _need_mb(plan, probabilities)
            notes = crew.run(build, "score", count, plan, need_mb=need_mb)
        counts = added(section for note in notes for section in note)
        if objects.scope == "volume":
            table = added_tables(_load(build.scratch, block) for block in plan)
            counts["objects"] = object_counts(table, config.iou_thresholds)
        _write(out, kind, told, counts, build)
        build.discard()


def count_sections(
    block: Block,
    *,
    labels: Path,
    probabilities: Path,
    truth: Path,
    ids: Path | None,
    kind: str,
    settings: Mapping[str, Any],
    scratch: Path,
) -> Done:
    """Count what the scores need of some sections; the note is a list of counts, one each."""
    truths, founds = read(open_level(truth), block.write), read(open_level(labels), block.write)
    level, foreground = open_level(probabilities), settings["foreground"]
    channels = slice(None) if kind == "semantic" else slice(foreground - 1, foreground)
    values = np.asarray(level[(channels, *block.write.slices)])
    chosen = values[foreground - 1] if kind == "semantic" else values[0]
    notes = []
    for z, (truth_section, labels_section) in enumerate(zip(truths, founds, strict=True)):
        counts = _count_section(
            _inside(truth_section, kind, foreground), labels_section, chosen[z], settings
        )
        if kind == "semantic":
            counts["classes"] = _count_classes(truth_section, values[:, z])
        notes.append(counts)
    if settings["scope"] == "volume":
        _save(scratch, block, contingency(_volume_ids(block, ids, truths), founds))
    return Done(None, note=notes)


def _count_section(
    truth: Ids,
    labels: npt.NDArray[np.uint64],
    stored: npt.NDArray[Any],
    settings: Mapping[str, Any],
) -> Counts:
    objects = truth_objects(truth)
    probability = stored / 255 if stored.dtype == np.uint8 else stored.astype(np.float64)
    # An object of a volume may come into a section in pieces; there, each is one of its own.
    pieces = components(labels)
    table = contingency(objects, pieces)
    inside = np.where(truth == IGNORED_ID, truth, truth > 0)
    found = probability > settings["foreground_threshold"]
    counts = {
        "labels": label_counts(table, contingency(objects, grow_labels(pieces))),
        "foreground": semantic_counts(contingency(inside, found), 2),
        "voxels": {"scored": table.voxels, "ignored": truth.size - table.voxels},
        "sections": 1,
    }
    if settings["scope"] == "section":
        counts["objects"] = object_counts(table, settings["iou_thresholds"])
    if settings["thresholds"]:
        counts["isbi"] = isbi_counts(objects, probability, settings["thresholds"])
        if (chosen := settings["calibrated_threshold"]) is not None:
            counts["calibrated"] = isbi_counts(objects, probability, [chosen])
    return counts


def _count_classes(truth: Ids, stored: npt.NDArray[Any]) -> Counts:
    """Counts of every class, the rest class 0 included; the most probable one was found."""
    classes = len(stored) + 1
    if (highest := int(truth[truth != IGNORED_ID].max(initial=0))) >= classes:
        raise StoreError(
            f"truth has class {highest}, the probabilities have classes 0 to {classes - 1}; train "
            "with model.classes that holds all classes of the truth"
        )
    whole = np.int32(255) if stored.dtype == np.uint8 else np.float32(1)
    share = stored.astype(whole.dtype)
    every = np.concatenate([whole - share.sum(axis=0, keepdims=True), share])
    return semantic_counts(contingency(truth, every.argmax(axis=0)), classes)


def _inside(truth: Ids, kind: str, foreground: int) -> Ids:
    """Truth with other classes than the foreground as background."""
    if kind != "semantic":
        return truth
    return np.where((truth == foreground) | (truth == IGNORED_ID), truth, 0).astype(np.uint32)


def _truth_ids(
    crew: Crew, build: Build, truth: Path, kind: str, objects: ObjectsConfig
) -> Path | None:
    """Ids over the whole volume where truth holds classes: its components, in a scratch store."""
    if kind != "semantic" or objects.scope != "volume":
        return None
    store, level = build.scratch / "truth", open_level(truth)
    z, y, x = level.shape
    create_array(store, "0", shape=level.shape, dtype="uint64", **cut_of(level))
    label_components(
        crew,
        build,
        mask_of=partial(_mask_of, truth=truth, foreground=objects.foreground),
        write=partial(_write_ids, store=store),
        shape=(z, y, x),
        shard=shard_of(level),
        scope="volume",
    )
    return store


def _mask_of(box: Box, *, truth: Path, foreground: int) -> npt.NDArray[np.bool_]:
    return np.asarray(read(open_level(truth), box) == foreground)


def _write_ids(block: Block, ids: npt.NDArray[np.uint64], *, store: Path) -> Done:
    write_block(open_level(store, mode="r+"), block.write, ids)
    return Done(None)


def _volume_ids(block: Block, ids: Path | None, truths: Ids) -> npt.NDArray[Any]:
    if ids is None:
        return truths
    return np.where(truths == IGNORED_ID, np.uint64(IGNORED_ID), read(open_level(ids), block.write))


def _save(scratch: Path, block: Block, table: Table) -> None:
    np.savez(scratch / f"table-{block.name}.npz", **vars(table))


def _load(scratch: Path, block: Block) -> Table:
    with np.load(scratch / f"table-{block.name}.npz") as file:
        return Table(file["truth"], file["found"], file["count"])


def _checked(labels: Path, probabilities: Path, truth: Path, objects: ObjectsConfig) -> str:
    """The kind of truth, once the three stores are seen to fit each other."""
    kind = attributes_of(truth)["unet"].get("truth", {}).get("kind")
    if kind not in ("instances", "binary", "semantic"):
        raise StoreError(
            f"{truth} is no truth store (kind {kind!r}); make it with `unet-core convert --truth`"
        )
    shapes = {
        "truth": open_level(truth).shape,
        "labels": open_level(labels).shape,
        "probabilities": open_level(probabilities).shape[-3:],
    }
    if len(set(shapes.values())) > 1:
        raise StoreError(
            f"scores need the same voxels (z, y, x), got {shapes}; make all from the same volume"
        )
    channels = open_level(probabilities).shape[0]
    if objects.foreground > channels:
        raise ConfigError(
            f"objects.foreground is class {objects.foreground}, the probabilities have classes 1 "
            f"to {channels}; choose one of these"
        )
    return str(kind)


def _settings(
    config: ScoreConfig, objects: ObjectsConfig, threshold: float | None
) -> dict[str, Any]:
    return {
        "scope": objects.scope,
        "foreground": objects.foreground,
        "foreground_threshold": 0.5 if threshold is None else threshold,
        "calibrated_threshold": threshold,
        "thresholds": threshold_grid(config.thresholds) if config.isbi else [],
        "iou_thresholds": list(config.iou_thresholds),
    }


def _plan(truth: Path) -> list[Block]:
    level = open_level(truth)
    z, y, x = level.shape
    return blocks((z, y, x), block=(min(chunk_of(level)[0], _SECTIONS), max(1, y), max(1, x)))


def _need_mb(plan: list[Block], probabilities: Path) -> float:
    """A process with its libraries, the slab as stored, and one section being counted."""
    slab, level = max((block.write.size for block in plan), default=0), open_level(probabilities)
    stored = 12 + level.shape[0] * level.dtype.itemsize
    return float(300 + slab * (stored + 150 / _SECTIONS) / 10**6)


def _write(out: Path, kind: str, settings: Mapping[str, Any], counts: Counts, build: Build) -> None:
    scores = {
        "kind": kind,
        "settings": settings,
        "counts": counts,
        **scores_of(counts, settings),
        "provenance": {**build.provenance, "content": digest_of([canonical(counts).encode()])},
    }
    write_json(out, scores)
