"""Volumes to a bank of patches: drawn from a seed, deformed, stored ready for training."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass
from functools import cache, partial
from itertools import zip_longest
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_core.config import AugmentConfig, Resources
from unet_core.errors import StoreError
from unet_core.geometry import IGNORED_ID, Box, Zyx
from unet_core.io.arrays import array_digest, create_array, open_level, read, read_mirrored
from unet_core.io.ledger import Build, building
from unet_core.io.ngff import attributes_of, content_of, write_group
from unet_core.ops.boundary import IGNORED_CLASS
from unet_core.ops.intensity import Normaliser, normaliser
from unet_core.ops.placement import ReadTarget, Scene
from unet_core.ops.plan import Fold, Patch, Row, config_of, draw_row, make_patch, source_of
from unet_core.provenance import digest_of
from unet_core.run.crew import Crew, Done

log = logging.getLogger(__name__)

TARGET = "labels/target/0"
"""Array of a weights store that holds the class of every voxel."""

OBJECTS = "labels/objects/0"
"""Array that holds the ids of objects, where affinities are learnt."""

Columns = dict[str, NDArray[Any]]
"""Arrays of the bank by name, one row per patch."""


@dataclass(frozen=True)
class Volume:
    """An annotated volume that patches are taken from."""

    raw: Path
    weights: Path
    shape: Zyx
    channels: int
    normaliser: Normaliser
    offsets: tuple[Zyx, ...] = ()
    """Of the affinities to learn; none: classes are learnt."""


@dataclass(frozen=True)
class Rows:
    """A worker's unit: the patches ``[start, stop)``, one file of each array."""

    start: int
    stop: int

    @property
    def name(self) -> str:
        """Number of the first patch."""
        return str(self.start)


def build_patch_bank(
    config: AugmentConfig,
    *,
    raw: Sequence[Path],
    weights: Sequence[Path],
    training: bool,
    out: Path,
    resources: Resources,
) -> None:
    """Write the bank of training patches, or that of validation patches, to the store `out`.

    Parameters
    ----------
    raw, weights
        Finished stores of the volumes, pairwise.
    training
        True: `config.patches`, deformed. False: `config.validation_patches`, as they are.
    out
        Gets ``raw`` (n, c, z, y, x) float16, ``target`` (n, z, y, x) uint8 with 255 ignored,
        ``border`` (n, z, y, x) float16, and one row per patch in each array of ``plan``. Its
        attribute ``unet`` counts the target voxels of each class over the whole bank. Where
        affinities are learnt, ``target`` is (n, offsets, z, y, x) of 0 and 1, which are counted.

    Raises
    ------
    StoreError
        If the stores do not belong together, or no voxel of any patch is annotated.
    """
    fold: Fold = "train" if training else "validation"
    drawn = config_of(config, fold)
    volumes, known = _volumes(raw, weights, drawn)
    settings = asdict(drawn)
    del settings["validation_patches"]  # the number drawn stands in patches
    made_from = {"raw": [content_of(s) for s in raw], "weights": [content_of(s) for s in weights]}
    with building(
        out, stage="augment", settings={"augment": settings, "fold": fold}, inputs=made_from
    ) as build:
        offsets = volumes[0].offsets
        _create(build, drawn, volumes[0].channels, affinities=len(offsets))
        above = [number for number, count in enumerate(known) if number and count]
        work = partial(fill_rows, config=drawn, fold=fold, volumes=volumes, classes=above, out=out)
        n, step = drawn.patches, drawn.shard_patches
        plan = [Rows(start, min(start + step, n)) for start in range(0, n, step)]
        with Crew(resources) as crew:
            need_mb = _need_mb(drawn, volumes[0].channels, affinities=len(offsets))
            notes = crew.run(build, "patches", work, plan, need_mb=need_mb)
        counts = _total(notes, len(known))
        _check_counts(counts, drawn, fold, affinities=bool(offsets))
        write_group(build.store / "plan", {})
        build.publish(
            unet={
                "normalise": drawn.normalise,
                "channels": volumes[0].channels,
                "patch": list(drawn.patch),
                "fold": fold,
                **({"affinities": [list(offset) for offset in offsets]} if offsets else {}),
                **counts,
            }
        )


def fill_rows(
    rows: Rows,
    *,
    config: AugmentConfig,
    fold: Fold,
    volumes: Sequence[Volume],
    classes: Sequence[int],
    out: Path,
) -> Done:
    """Draw, make and write some patches; the note counts their target voxels by class.

    `classes`: those above 0 that occur in the volumes.
    """
    scene = Scene([volume.shape for volume in volumes], _target_reader(volumes), classes)
    drawn = [
        draw_row(index, config, fold=fold, scene=scene) for index in range(rows.start, rows.stop)
    ]
    patches = [patch_of(row, volumes[row.volume], config.patch) for row in drawn]
    columns = {**_patch_columns(patches), **_plan_columns(drawn)}
    digests = []
    for name, data in columns.items():
        open_level(out, name, mode="r+")[rows.start : rows.stop] = data
        digests.append(array_digest(data).encode())
    return Done(digest_of(digests), note=_count(columns["target"]))


def patch_of(row: Row, volume: Volume, shape: Zyx) -> Patch:
    """The patch (z, y, x) of a row, read from the stores: only its box, mirrored at the edge."""
    box, coordinates = source_of(row, shape)
    return make_patch(
        row,
        coordinates,
        raw=read_mirrored(open_level(volume.raw), box),
        target=_learnt_from(volume, box),
        border=read_mirrored(open_level(volume.weights), box),
        by=volume.normaliser,
        offsets=volume.offsets,
    )


def _learnt_from(volume: Volume, box: Box) -> NDArray[Any]:
    """Classes of a box; for affinities the ids, unknown outside of the volume."""
    if not volume.offsets:
        return read_mirrored(open_level(volume.weights, TARGET), box)
    ids: NDArray[np.uint32] = np.full(box.shape, IGNORED_ID, np.uint32)
    known = box.clip(volume.shape)
    if known.size:
        level = open_level(volume.weights, OBJECTS)
        ids[known.relative_to(box.start).slices] = read(level, known)
    return ids


def _volumes(
    raw: Sequence[Path], weights: Sequence[Path], config: AugmentConfig
) -> tuple[list[Volume], list[int]]:
    """The volumes, checked against each other, and the voxels of each class in them."""
    if len(raw) != len(weights) or not raw:
        raise StoreError(
            f"{len(raw)} raw and {len(weights)} weights stores were given; needed is one or more "
            "of each, the weights in the order of the raw volumes"
        )
    volumes = [_volume(r, w, config) for r, w in zip(raw, weights, strict=True)]
    for volume in volumes:
        if volume.channels != volumes[0].channels:
            raise StoreError(
                f"{volume.raw} has {volume.channels} channel(s), {volumes[0].raw} has "
                f"{volumes[0].channels}; one network needs volumes of equal channels: leave "
                "those with others out of this workflow's volumes"
            )
    if config.jitter == "colours" and volumes[0].channels != 3:
        raise StoreError(
            f"augment.jitter colours needs 3 channels (red, green and blue), {volumes[0].raw} has "
            f"{volumes[0].channels}; set it to normalised"
        )
    if len({volume.offsets for volume in volumes}) > 1:
        raise StoreError(
            "the weights stores differ in their affinities "
            f"({', '.join(str(list(map(list, v.offsets))) for v in volumes)}); make all with the "
            "same weights.affinities"
        )
    if not any(prod(volume.shape) for volume in volumes):
        raise StoreError("no volume has any voxel; give at least one that is not empty")
    known = [attributes_of(volume.weights)["unet"].get("classes", []) for volume in volumes]
    return volumes, [sum(of) for of in zip_longest([0, 0], *known, fillvalue=0)]


def _volume(raw: Path, weights: Path, config: AugmentConfig) -> Volume:
    level, border, target = open_level(raw), open_level(weights), open_level(weights, TARGET)
    channels, *shape = level.shape
    for name, array in (("border term", border), ("target", target)):
        if tuple(array.shape) != tuple(shape):
            raise StoreError(
                f"the {name} of {weights} has {tuple(array.shape)} voxels (z, y, x), {raw} has "
                f"{tuple(shape)}; weights must be made from the truth of that raw volume"
            )
    statistics = attributes_of(raw)["unet"].get("statistics")
    if statistics is None or len(statistics) != channels:
        raise StoreError(
            f"{raw} has no statistics of its {channels} channel(s); is it a truth store? Make it "
            "with `unet-core convert` without --truth"
        )
    z, y, x = shape
    by = normaliser(statistics, config.normalise, level.dtype)
    told = attributes_of(weights)["unet"].get("affinities", ())
    return Volume(raw, weights, (z, y, x), channels, by, tuple((a, b, c) for a, b, c in told))


def _create(build: Build, config: AugmentConfig, channels: int, *, affinities: int) -> None:
    """Create the arrays of the bank, uncompressed: warping anew is quicker than unpacking."""
    # What is written is float16 noise to a compressor, and training reads patches at random.
    k = config.elastic_nodes
    target = ("nczyx", (affinities, *config.patch)) if affinities else ("nzyx", config.patch)
    for name, axes, shape, dtype in (
        ("raw", "nczyx", (channels, *config.patch), "float16"),
        ("target", *target, "uint8"),
        ("border", "nzyx", config.patch, "float16"),
        ("plan/volume", "n", (), "int32"),
        ("plan/centre", "na", (3,), "int64"),
        ("plan/symmetry", "n", (), "uint8"),
        ("plan/flip_z", "n", (), "bool"),
        ("plan/angle", "n", (), "float64"),
        ("plan/scale", "n", (), "float64"),
        ("plan/displacement", "nayx", (2, k, k), "float32"),
        ("plan/gain", "n", (), "float32"),
        ("plan/shift", "n", (), "float32"),
        ("plan/noise_seed", "n", (), "int64"),
        ("plan/colours", "na", (5,), "float32"),
    ):
        chunk = config.shard_patches if name.startswith("plan/") else 1
        create_array(
            build.store,
            name,
            shape=(config.patches, *shape),
            dtype=dtype,
            chunk=(chunk, *shape),
            shard=(config.shard_patches, *shape),
            codec="none",
            axes=axes,
        )


def _patch_columns(patches: Sequence[Patch]) -> Columns:
    names = ("raw", "target", "border")
    return {name: np.stack([getattr(patch, name) for patch in patches]) for name in names}


def _plan_columns(rows: Sequence[Row]) -> Columns:
    return {
        "plan/volume": np.array([row.volume for row in rows], np.int32),
        "plan/centre": np.array([row.centre for row in rows], np.int64),
        "plan/symmetry": np.array([row.code for row in rows], np.uint8),
        "plan/flip_z": np.array([row.flip_z for row in rows], bool),
        "plan/angle": np.array([row.angle for row in rows], np.float64),
        "plan/scale": np.array([row.scale for row in rows], np.float64),
        "plan/displacement": np.array([row.grid for row in rows], np.float32),
        "plan/gain": np.array([row.jitter.gain for row in rows], np.float32),
        "plan/shift": np.array([row.jitter.shift for row in rows], np.float32),
        "plan/noise_seed": np.array([row.jitter.noise_seed for row in rows], np.int64),
        "plan/colours": np.array([astuple(row.colours) for row in rows], np.float32),
    }


def _target_reader(volumes: Sequence[Volume]) -> ReadTarget:
    """Reads a box of a volume's target; a place may be looked for in hundreds of them."""

    @cache
    def level(volume: int) -> Any:
        return open_level(volumes[volume].weights, TARGET)

    return lambda volume, box: read(level(volume), box)


def _need_mb(config: AugmentConfig, channels: int, *, affinities: int) -> float:
    """A process with its libraries, the patches of one file, and the region of one patch."""
    voxels = prod(config.patch)
    stored = voxels * config.shard_patches * (2 * channels + 2 + max(1, affinities))
    # Twice while a file is put together; float32 copies of the region, read with a margin.
    shown = voxels * max(1.0, 1 / config.scale[0]) ** 2
    each = 12 * channels + 12 + 8 * bool(affinities)
    return 300 + (2 * stored + 2 * shown * each) / 10**6


def _count(target: NDArray[np.uint8]) -> list[int]:
    """Voxels by class; the last entry counts those that are ignored."""
    counts = np.bincount(target.ravel(), minlength=IGNORED_CLASS + 1)
    seen = int(np.flatnonzero(counts[:IGNORED_CLASS]).max(initial=-1))
    return [*counts[: seen + 1].tolist(), int(counts[IGNORED_CLASS])]


def _total(notes: Sequence[list[int]], classes: int) -> dict[str, Any]:
    """Counts over the whole bank, of at least `classes` classes."""
    each = [note[:-1] for note in notes]
    sums = [sum(of) for of in zip_longest([0] * classes, *each, fillvalue=0)]
    return {"classes": sums, "ignored": sum(note[-1] for note in notes)}


def _check_counts(
    counts: dict[str, Any], config: AugmentConfig, fold: Fold, *, affinities: bool
) -> None:
    """Refuse a bank that nothing can be learnt from; warn of classes that it does not show."""
    shown = [number for number, count in enumerate(counts["classes"]) if count]
    if not shown:
        raise StoreError(
            f"none of the {config.patches} {fold} patches has an annotated voxel (all are "
            "ignored); annotate more, or check truth.ignore_label, or raise augment.patches "
            "where annotations are few"
        )
    if fold == "train" and len(shown) == 1 and not affinities:
        raise StoreError(
            f"all voxels of the {config.patches} train patches are of class {shown[0]}: there is "
            "nothing to tell apart; give training volumes that show other classes too, set "
            "augment.foreground_share where these are rare, or check truth.kind and "
            "truth.ignore_label"
        )
    for number, count in enumerate(counts["classes"]):
        if count == 0 and not affinities:
            log.warning(
                "none of the %d %s patches has a voxel of class %d: nothing can be learnt or said "
                "of it; raise the number of patches or augment.foreground_share, or give volumes "
                "that show this class",
                config.patches,
                fold,
                number,
            )
