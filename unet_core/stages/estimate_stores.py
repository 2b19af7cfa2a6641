"""Files and bytes of every store that a run will write, counted without listing anything."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod, sqrt

from unet_core.config.extent import Extent, counted
from unet_core.config.work import itemsize_of
from unet_core.config.workflow import Workflow
from unet_core.ops.downsample import level_factors, level_shape

RATIOS = {
    "zstd": {"raw": 1.1, "truth": 45.0, "mask": 100.0},
    "lz4": {"raw": 1.05, "truth": 25.0, "mask": 60.0},
    "none": {"raw": 1.0, "truth": 1.0, "mask": 1.0},
    "": {"target": 17.0, "probabilities": 1.5, "patches": 1.0},
}
"""Bytes over bytes on disk, by convert.codec, and of stores that do not depend on it. Seen on
electron micrographs: raw 1.07 to 1.14, truth 35 to 48, target 14 to 20, probabilities 1.4 to
1.5."""

BORDER = {"binary": 11.0, "instances": 24.0, "semantic": 1000.0, "foreground": 1000.0}
"""The same of the border term, by truth.kind. Membranes that are annotated leave few voxels far
from two cells (ISBI 2012: 10.8); cells that touch leave more (17 to 36); without cells it is 0."""

LABELS = {"watershed": 150.0, "threshold": 55.0}
"""The same of labels, by the method of stitch: an edge between two objects takes about 2.3 bytes.
Those of a watershed abut (seen: 107 to 196); a threshold leaves borders between objects, and specks
(51 to 57)."""

_UNKNOWN = 90.0
"""Before calibrate has chosen one of the two: in between."""

_COARSER = 0.8
"""Power of infer.downsample by which it falls: half as many voxels per edge have nearly twice the
edges. Seen: 1.6 to 1.9 for 2, 2.8 to 3.3 for 4."""

_BESIDE = 1
"""Files beside a store: its ledger."""

_ARRAYS_OF_BANK = 14
"""Of a patch bank, in two groups: raw, target, border and eleven columns of the plan."""


@dataclass(frozen=True, kw_only=True)
class Store:
    """What is written to one store, or to several of one kind."""

    kind: str
    count: int
    voxels: int
    files: int
    raw_bytes: int
    """Before compression."""

    ratio: float

    @property
    def disk_bytes(self) -> float:
        """About, on disk."""
        return self.raw_bytes / self.ratio


def stores_of(
    workflow: Workflow,
    extents: dict[str, Extent],
    sizes: dict[str, Sequence[float]],
    method_of: Callable[[str], str | None],
) -> list[Store]:
    """Every kind of store, those of all volumes added up.

    Parameters
    ----------
    extents, sizes
        By volume: how large it is, and the edges (z, y, x) of its voxels in nanometres.
    method_of
        How calibrate has chosen to make objects of what a model predicts; None: not yet.
    """
    found: dict[str, list[Store]] = {}
    for name, extent in extents.items():
        for store in _of_volume(workflow, name, extent, sizes[name], method_of):
            found.setdefault(store.kind, []).append(store)
    for store in _banks(workflow):
        found.setdefault(store.kind, []).append(store)
    return [_added(kind, each) for kind, each in found.items()]


def _of_volume(
    workflow: Workflow,
    name: str,
    extent: Extent,
    size: Sequence[float],
    method_of: Callable[[str], str | None],
) -> Iterator[Store]:
    volume, convert = workflow.volumes[name], workflow.sections["convert"]
    infer = workflow.sections["infer"]
    smallest = convert.smallest_level_px
    levels = [
        level_shape(extent.shape, factor)
        for factor in level_factors(extent.shape, size, smallest_px=smallest)
    ]
    codec = RATIOS[convert.codec]
    raw = extent.voxel_bytes
    yield _store("raw", extent, levels, raw, codec["raw"])
    if volume.truth is not None:
        yield _store("truth", extent, levels, 4, codec["truth"])
    if volume.mask is not None:
        yield _store("mask", extent, [extent.shape], 1, codec["mask"])
    same = RATIOS[""]
    if volume.truth is not None and volume.fold in ("train", "validation"):
        kind = workflow.sections["truth"].kind
        border = _store("weights", extent, [extent.shape], 4, BORDER[kind])
        target = _store("weights", extent, [extent.shape], 1, same["target"])
        arrays = [border, target]
        if workflow.sections["weights"].affinities:
            arrays.append(_store("weights", extent, [extent.shape], 4, codec["truth"]))
        both, parts = _added("weights", arrays), len(arrays)
        # One store: the groups labels and labels/NAME besides, no group and ledger for each.
        files = both.files + parts - (parts - 1) * (1 + _BESIDE)
        yield Store(**{**vars(both), "count": 1, "files": files})
    made = extent.downsampled(infer.downsample)
    for predictor in workflow.predictors:
        classes = workflow.models[workflow.members(predictor)[0]].model.classes
        value = itemsize_of(infer.dtype) * len(infer.stored(classes))
        yield _store("probabilities", made, [made.shape], value, same["probabilities"])
        coarser = sqrt(prod(infer.downsample[1:])) ** _COARSER
        asked = workflow.sections["stitch"].method
        method = method_of(predictor) if asked == "calibrated" else asked
        seen = LABELS.get(method or "", _UNKNOWN) / coarser
        yield _store("labels", made, [made.shape], 8, max(1.0, seen))


def _store(
    kind: str, extent: Extent, levels: Sequence[Sequence[int]], value: int, ratio: float
) -> Store:
    """Of arrays `levels`, cut alike, with `value` bytes per voxel."""
    _, shard = extent.fitted
    voxels = [prod(shape) for shape in levels]
    files = sum(counted(shape, shard) + 1 for shape in levels)  # and the array's metadata
    return Store(
        kind=kind,
        count=1,
        voxels=voxels[0],
        files=files + 1 + _BESIDE,
        raw_bytes=sum(voxels) * value,
        ratio=ratio,
    )


def _banks(workflow: Workflow) -> Iterator[Store]:
    augment = workflow.sections["augment"]
    channels = max(model.model.channels for model in workflow.models.values())
    target = max(1, len(workflow.sections["weights"].affinities))
    value = prod(augment.patch) * (2 * channels + target + 2)
    for fold, patches in (
        ("train", augment.patches),
        ("validation", augment.validation_patches),
    ):
        if workflow.fold(fold):
            shards = counted([patches], [augment.shard_patches])
            yield Store(
                kind="patches",
                count=1,
                voxels=prod(augment.patch) * patches,
                files=_ARRAYS_OF_BANK * (shards + 1) + 2 + _BESIDE,
                raw_bytes=patches * value,
                ratio=RATIOS[""]["patches"],
            )


def _added(kind: str, each: Sequence[Store]) -> Store:
    size = sum(one.raw_bytes for one in each)
    return Store(
        kind=kind,
        count=sum(one.count for one in each),
        voxels=sum(one.voxels for one in each),
        files=sum(one.files for one in each),
        raw_bytes=size,
        ratio=size / sum(one.disk_bytes for one in each),
    )
