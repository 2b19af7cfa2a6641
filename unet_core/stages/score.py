"""Labels and probabilities against truth, section by section: scores.json."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from unet_core.config import ObjectsConfig, Resources, ScoreConfig, canonical
from unet_core.errors import StoreError
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
from unet_core.io.ngff import content_of
from unet_core.io.probabilities import Probabilities, open_probabilities, read_foreground
from unet_core.io.truth import Truth, open_truth
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
    mask: Path | None = None,
) -> None:
    """Write the scores of one volume, and the counts they are ratios of, to the JSON file `out`.

    Voxels that were not computed (region, mask, failed blocks) count for nothing.

    Raises
    ------
    StoreError
        If the stores do not hold the same voxels, `truth` is no truth store, or the probabilities
        were computed within a mask that is not `mask`.
    ConfigError
        If objects.foreground is a class that the probabilities do not have.
    """
    source = open_probabilities(probabilities, [mask] if mask else [])
    source.channels(objects.classes)
    known = open_truth(truth, downsample=source.downsample)
    _check_shapes(labels, source, known)
    threshold = None if calibration is None else read_threshold(calibration)
    made_from = {
        "labels": content_of(labels),
        "probabilities": content_of(probabilities),
        "truth": content_of(truth),
        "cut": cut_of(known.open()),
        "kind": known.kind,
        "calibrated_threshold": threshold,
        **source.facts,
    }
    settings = {"score": config, "objects": objects}
    out.unlink(missing_ok=True)
    work = out.with_name(f"{out.stem}.work")
    with building(work, stage="score", settings=settings, inputs=made_from) as build:
        told = _settings(config, objects, threshold)
        with Crew(resources) as crew:
            ids = _truth_ids(crew, build, known, objects)
            count = partial(
                count_sections,
                labels=labels,
                source=source,
                truth=known,
                ids=ids,
                classes=objects.classes,
                settings=told,
                scratch=build.scratch,
            )
            plan = _plan(known)
            need_mb = _need_mb(plan, probabilities)
            notes = crew.run(build, "score", count, plan, need_mb=need_mb)
        counts = added(section for note in notes for section in note)
        if objects.scope == "volume":
            table = added_tables(_load(build.scratch, block) for block in plan)
            counts["objects"] = object_counts(table, config.iou_thresholds)
        _write(out, known.kind, told, counts, build)
        build.discard()


def count_sections(
    block: Block,
    *,
    labels: Path,
    source: Probabilities,
    truth: Truth,
    ids: Path | None,
    classes: tuple[int, ...],
    settings: Mapping[str, Any],
    scratch: Path,
) -> Done:
    """Count what the scores need of some sections; the note is a list of counts, one each."""
    truths, founds = read(truth.open(), block.write), read(open_level(labels), block.write)
    if (computed := source.computed(block.write)) is not None:
        truths = np.where(computed, truths, np.uint32(IGNORED_ID))
    ranked = source.ranked if truth.kind == "semantic" else None
    chosen = read_foreground(source, block.write, classes)
    values = None if ranked is None else read(open_level(source.store), block.write)
    notes = []
    for z, (truth_section, labels_section) in enumerate(zip(truths, founds, strict=True)):
        counts = _count_section(
            _inside(truth_section, truth.kind, classes), labels_section, chosen[z], settings
        )
        if values is not None:
            counts["classes"] = _count_classes(truth_section, values[ranked, z], source.sigmoid)
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


def _count_classes(truth: Ids, stored: npt.NDArray[Any], sigmoid: bool) -> Counts:
    """Counts of every class, class 0 included; the most probable one was found.

    Class 0 has the rest to 1; of outputs by themselves (`sigmoid`) it is where none is above 0.5.
    """
    classes = len(stored) + 1
    if (highest := int(truth[truth != IGNORED_ID].max(initial=0))) >= classes:
        raise StoreError(
            f"truth has class {highest}, the probabilities have classes 0 to {classes - 1}; train "
            "with model.classes that holds all classes of the truth"
        )
    whole = np.int32(255) if stored.dtype == np.uint8 else np.float32(1)
    share = stored.astype(whole.dtype)
    others = share.max if sigmoid else share.sum
    every = np.concatenate([whole - others(axis=0, keepdims=True), share])
    return semantic_counts(contingency(truth, every.argmax(axis=0)), classes)


def _inside(truth: Ids, kind: str, classes: Sequence[int]) -> Ids:
    """Truth with other classes than the foreground as background."""
    if kind != "semantic":
        return truth
    kept = np.isin(truth, [*classes, IGNORED_ID])
    return np.where(kept, truth, 0).astype(np.uint32)


def _truth_ids(crew: Crew, build: Build, truth: Truth, objects: ObjectsConfig) -> Path | None:
    """Ids over the whole volume where truth holds classes: its components, in a scratch store."""
    if truth.kind != "semantic" or objects.scope != "volume":
        return None
    store, level = build.scratch / "truth", truth.open()
    create_array(store, "0", shape=level.shape, dtype="uint64", **cut_of(level))
    label_components(
        crew,
        build,
        mask_of=partial(_mask_of, truth=truth, classes=objects.classes),
        write=partial(_write_ids, store=store),
        shape=truth.shape,
        shard=shard_of(level),
        scope="volume",
    )
    return store


def _mask_of(box: Box, *, truth: Truth, classes: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    return np.isin(read(truth.open(), box), classes)


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


def _check_shapes(labels: Path, source: Probabilities, truth: Truth) -> None:
    shapes = {
        "truth": truth.shape,
        "labels": open_level(labels).shape,
        "probabilities": open_level(source.store).shape[-3:],
    }
    if len(set(shapes.values())) > 1:
        raise StoreError(
            f"scores need the same voxels (z, y, x), got {shapes}; make all from the same volume"
        )


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


def _plan(truth: Truth) -> list[Block]:
    _, y, x = truth.shape
    sections = min(chunk_of(truth.open())[0], _SECTIONS)
    return blocks(truth.shape, block=(sections, max(1, y), max(1, x)))


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
