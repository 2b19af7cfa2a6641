"""How objects are made best: every threshold and watershed of a grid, on the validation volumes."""

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from unet_core.config import CalibrateConfig, ObjectsConfig, Resources, canonical
from unet_core.errors import PlanError, StoreError
from unet_core.geometry import IGNORED_ID, Box, Zyx
from unet_core.io.arrays import open_level, read
from unet_core.io.atomic import write_json
from unet_core.io.calibration import FORMAT
from unet_core.io.ledger import building
from unet_core.io.ngff import content_of, voxel_size_of
from unet_core.io.probabilities import Probabilities, open_probabilities, read_foreground
from unet_core.io.truth import Truth, open_truth
from unet_core.metrics.contingency import contingency
from unet_core.metrics.isbi import VARIANT, truth_objects
from unet_core.metrics.rand import RandSums, RandVariant, rand_scores, rand_sums
from unet_core.metrics.thinning import grow_labels
from unet_core.ops.components import inside, label_block, label_whole
from unet_core.ops.heights import (
    depth_steps,
    fenced,
    heights_of,
    smooth,
    smoothing_reach,
    smoothing_sd,
)
from unet_core.ops.watershed import merge_fragments, whole_fragments
from unet_core.provenance import digest_of
from unet_core.run.crew import Crew, Done

log = logging.getLogger(__name__)

Candidate = dict[str, Any]
Labels = npt.NDArray[np.unsignedinteger[Any]]

_OBJECT_VARIANT: RandVariant = "pairs_zero_is_label"

_BYTES_PER_VOXEL = 150
"""While one volume or section is in memory: truth, probability, drains, labels, table."""


@dataclass(frozen=True)
class Part:
    """What one worker scores at a time: a box of a volume, under some of the candidates."""

    volume: int
    box: Box
    candidates: tuple[int, ...]

    @property
    def name(self) -> str:
        """Unique among all parts."""
        return f"{self.volume}.{self.box.start[0]}.{self.candidates[0]}"


def calibrate_objects(
    config: CalibrateConfig,
    *,
    objects: ObjectsConfig,
    probabilities: Sequence[Path],
    truth: Sequence[Path],
    out: Path,
    resources: Resources,
    masks: Sequence[Path] = (),
) -> None:
    """Write to the JSON file `out` how every candidate did, and which did best.

    `best` has `method`, its settings (`threshold`, or `smoothing_px` and `depth`) and `value`, the
    measure over all volumes, 1 is best. Of equals the simplest wins: thresholds before watersheds,
    then the middle one. `best_threshold` is the best of the thresholds alone.

    Parameters
    ----------
    probabilities, truth
        Stores of the same volumes in the same order. Voxels without probability count for nothing.
    masks
        Those that probabilities were computed within, in any order.

    Raises
    ------
    StoreError
        If stores do not fit each other, a mask is missing or no truth holds any object.
    ConfigError
        If objects.foreground is a class that the probabilities do not have.
    PlanError
        If objects.scope is volume and a volume does not fit the memory.
    """
    pairs = _checked(probabilities, truth, masks, objects)
    candidates = candidates_of(config)
    made_from = {
        "probabilities": [content_of(store) for store in probabilities],
        "truth": [content_of(store) for store in truth],
        "kinds": [known.kind for _, known in pairs],
        "voxel_size_nm": [list(voxel_size_of(store)) for store in probabilities],
    }
    if any(source.facts for source, _ in pairs):
        made_from["computed"] = [source.facts for source, _ in pairs]
    settings = {"calibrate": config, "objects": objects}
    parts = _parts([known.shape for _, known in pairs], candidates, objects, resources)
    score = partial(
        score_part,
        pairs=pairs,
        candidates=candidates,
        objects=objects,
        measure=config.measure,
    )
    work = out.with_name(f"{out.stem}.work")
    with building(work, stage="calibrate", settings=settings, inputs=made_from) as build:
        with Crew(resources) as crew:
            need_mb = 300 + max(part.box.size for part in parts) * _BYTES_PER_VOXEL / 1e6
            notes = crew.run(build, "calibrate", score, parts, need_mb=need_mb)
        _write(out, config, candidates, _values(parts, notes, len(candidates)), build.provenance)
        build.discard()


def candidates_of(config: CalibrateConfig) -> list[Candidate]:
    """The ways of making objects that compete, in the order in which the first of equals wins."""
    found: list[Candidate] = []
    if "threshold" in config.methods:
        low, high = (math.log(p / (1 - p)) for p in (0.002, 0.998))
        for n in range(config.thresholds):
            logit = low + (high - low) * n / (config.thresholds - 1)
            found.append({"method": "threshold", "threshold": round(1 / (1 + math.exp(-logit)), 6)})
    if "watershed" in config.methods:
        found += [
            {"method": "watershed", "smoothing_px": smoothing, "depth": depth}
            for smoothing in config.smoothing_px
            for depth in config.depths
        ]
    return found


def score_part(
    part: Part,
    *,
    pairs: Sequence[tuple[Probabilities, Truth]],
    candidates: Sequence[Candidate],
    objects: ObjectsConfig,
    measure: str,
) -> Done:
    """Measure the candidates of a part; the note is a list per candidate.

    V_rand: F of every section that has truth. adapted_rand: one mapping of the sums it is a ratio
    of, per section or per volume.
    """
    source, truth = pairs[part.volume]
    computed = source.computed(part.box)
    ids = _truth_ids(read(truth.open(), part.box), truth.kind, objects)
    if computed is not None:
        ids = np.where(computed, ids, np.uint32(IGNORED_ID))
    per_section = measure == "v_rand" or objects.scope == "section"
    if per_section:
        ids = np.stack([truth_objects(section) for section in ids])
    wanted = [candidates[n] for n in part.candidates]
    note: list[list[Any]] = []
    previous: npt.NDArray[Any] | None = None
    for labels in _labels(source, part.box, wanted, objects, computed):
        if previous is not None and np.array_equal(labels, previous):
            note.append(note[-1])  # thresholds between two stored values, depths without a basin
            continue
        previous = labels
        if measure == "v_rand":
            note.append(_v_rand(ids, labels))
        else:
            both = zip(ids, labels, strict=True) if per_section else [(ids, labels)]
            sums = [rand_sums(contingency(t, found), _OBJECT_VARIANT) for t, found in both]
            note.append([vars(one) for one in sums])
    return Done(None, note=note)


def _labels(
    source: Probabilities,
    box: Box,
    candidates: Sequence[Candidate],
    objects: ObjectsConfig,
    computed: npt.NDArray[np.bool_] | None,
) -> Iterator[Labels]:
    """Objects of a box by each candidate; none where nothing was computed."""
    stored = read_foreground(source, box, objects.classes)
    fragments_at: tuple[float, Any] | None = None
    for how in candidates:
        if how["method"] == "threshold":
            mask = inside(stored, how["threshold"])
            mask = mask if computed is None else mask & computed
            yield label_whole(mask, objects.scope, objects.min_size_vx)[0]
            continue
        if fragments_at is None or fragments_at[0] != how["smoothing_px"]:
            sd = smoothing_sd(how["smoothing_px"], voxel_size_of(source.store), objects.scope)
            around = read_foreground(source, box.grow(smoothing_reach(sd)), objects.classes)
            heights = fenced(smooth(heights_of(around), sd), computed)
            fragments_at = how["smoothing_px"], whole_fragments(heights, objects.scope)
        labels, fragments = fragments_at[1]
        of_fragment, _ = merge_fragments(
            fragments,
            np.zeros((0, 2), np.int64),
            depth=depth_steps(how["depth"]),
            min_size=objects.min_size_vx,
        )
        yield np.append(np.uint64(0), of_fragment)[labels]


def _v_rand(ids: npt.NDArray[np.uint32], labels: Labels) -> list[float]:
    tables = (contingency(t, grow_labels(found)) for t, found in zip(ids, labels, strict=True))
    scores = [rand_scores(table, VARIANT).f for table in tables]
    return [f for f in scores if not math.isnan(f)]


def _truth_ids(
    ids: npt.NDArray[np.uint32], kind: str, objects: ObjectsConfig
) -> npt.NDArray[np.uint32]:
    """Ids of the objects; of classes the components of the foreground class."""
    if kind != "semantic":
        return ids
    components, _ = label_block(np.isin(ids, objects.classes), objects.scope)
    return np.where(ids == IGNORED_ID, np.uint32(IGNORED_ID), components)


def _parts(
    shapes: Sequence[Zyx],
    candidates: Sequence[Candidate],
    objects: ObjectsConfig,
    resources: Resources,
) -> list[Part]:
    """Single sections, or whole volumes under one kind of candidates at a time."""
    if objects.scope == "section":
        every = tuple(range(len(candidates)))
        return [
            Part(volume, Box((z, 0, 0), (z + 1, y_end, x_end)), every)
            for volume, (sections, y_end, x_end) in enumerate(shapes)
            for z in range(sections)
        ]
    for shape in shapes:
        need_mb = 300 + math.prod(shape) * _BYTES_PER_VOXEL / 1e6
        if resources.memory_mb and need_mb > resources.memory_mb:
            raise PlanError(
                f"objects.scope volume calibrates on whole volumes: {shape} voxels need about "
                f"{need_mb:.0f} MB, the job has {resources.memory_mb} MB; give it more memory "
                "(mem_mb), validate on a part of the volume (column sections of the sheet), or "
                "set objects.scope to section"
            )
    groups: dict[Any, list[int]] = {}
    for n, how in enumerate(candidates):
        groups.setdefault(how.get("smoothing_px", ("threshold", n // 10)), []).append(n)
    return [
        Part(volume, Box((0, 0, 0), shape), tuple(group))
        for volume, shape in enumerate(shapes)
        for group in groups.values()
    ]


def _values(parts: Sequence[Part], notes: Sequence[Any], number: int) -> list[float]:
    """The measure of every candidate over all parts.

    Raises
    ------
    StoreError
        If no part has truth.
    """
    counted: list[list[Any]] = [[] for _ in range(number)]
    for part, note in zip(parts, notes, strict=True):
        for candidate, counts in zip(part.candidates, note, strict=True):
            counted[candidate] += counts
    values = [_value(counts) for counts in counted]
    if any(math.isnan(value) for value in values):
        raise StoreError(
            "the truth of the validation volumes holds no object, so nothing can be compared; "
            "give fold validation to a volume with annotated objects, or set stitch.method to "
            "threshold or watershed, and score.isbi to false"
        )
    return values


def _value(counts: Sequence[Any]) -> float:
    """Mean of sections' V_rand, or 1 - adapted Rand error of added sums; NaN without truth."""
    if not counts:
        return math.nan
    if isinstance(counts[0], dict):
        return sum((RandSums(**sums) for sums in counts), RandSums(0, 0, 0, 0)).scores.f
    return math.fsum(counts) / len(counts)


def _write(
    out: Path,
    config: CalibrateConfig,
    candidates: Sequence[Candidate],
    values: Sequence[float],
    provenance: dict[str, Any],
) -> None:
    scored = [{**how, "value": value} for how, value in zip(candidates, values, strict=True)]
    best = _best(scored)
    log.info("best of %d: %s", len(scored), best)
    thresholds = [how for how in scored if how["method"] == "threshold"]
    thinned = f"{VARIANT}, borders thinned, mean over sections of F"
    write_json(
        out,
        {
            "format": FORMAT,
            "measure": config.measure,
            "variant": thinned if config.measure == "v_rand" else f"{_OBJECT_VARIANT}, 1 - error",
            "best": best,
            "best_threshold": _best(thresholds) if thresholds else None,
            "candidates": scored,
            "provenance": {**provenance, "content": digest_of([canonical(scored).encode()])},
        },
    )


def _best(scored: Sequence[Candidate]) -> Candidate:
    top = [how for how in scored if how["value"] == max(other["value"] for other in scored)]
    simplest = [how for how in top if how["method"] == top[0]["method"]]
    return simplest[(len(simplest) - 1) // 2]


def _checked(
    probabilities: Sequence[Path],
    truth: Sequence[Path],
    masks: Sequence[Path],
    objects: ObjectsConfig,
) -> list[tuple[Probabilities, Truth]]:
    """The stores of each volume, seen to fit each other."""
    if len(probabilities) != len(truth) or not truth:
        raise StoreError(
            f"{len(probabilities)} stores of probabilities and {len(truth)} of truth; give one "
            "of each for every validation volume, in the same order"
        )
    pairs = []
    for made, known in zip(probabilities, truth, strict=True):
        source = open_probabilities(made, masks)
        source.channels(objects.classes)
        level = open_truth(known, downsample=source.downsample)
        shape = open_level(made).shape
        if shape[-3:] != level.shape:
            raise StoreError(
                f"{made} has shape {shape} and {known} {level.shape}; both must hold the same "
                "voxels, (c, z, y, x) and (z, y, x): make them from the same volume"
            )
        pairs.append((source, level))
    return pairs
