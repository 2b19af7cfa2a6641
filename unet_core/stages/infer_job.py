"""What inference of one volume is asked to do: networks, voxels, settings; nothing is computed."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import gcd, lcm
from pathlib import Path
from typing import Any, cast

from numpy.typing import DTypeLike

from unet_core.config import InferConfig, Resources
from unet_core.config.networks.geometry import geometry_of
from unet_core.config.windowed import windows_for
from unet_core.errors import PlanError, StoreError
from unet_core.geometry import Block, Box, Zyx, blocks, by, coarse, fine
from unet_core.io.arrays import ZarrArray, chunk_of, create_array, cut_of, open_level, shard_of
from unet_core.io.ngff import attributes_of, content_of
from unet_core.io.remote import Location
from unet_core.net.checkpoint import Checkpoint, read_checkpoint
from unet_core.net.device import precision_for, usable_gpus
from unet_core.net.engine import Member
from unet_core.ops.intensity import Method, Normaliser, normaliser
from unet_core.run.inference import Job

_SECTIONS = {False: 1, True: 16}
"""Sections of a tile of a 2-D network, without and with a GPU, which is shown several at a time."""

Networks = Sequence[tuple[Checkpoint, Path]]
"""Networks whose probabilities are averaged, and their files."""


def read_networks(checkpoint: Path | Sequence[Path]) -> Networks:
    """The networks of one or several checkpoints."""
    paths = [checkpoint] if isinstance(checkpoint, Path) else list(checkpoint)
    # In the order of their content: sums of three and more round by their order.
    return sorted(((read_checkpoint(path), path) for path in paths), key=lambda of: of[0].content)


@dataclass(frozen=True)
class Asked:
    """A volume and the networks it is shown to."""

    job: Job
    """Its tiles are chosen later."""

    level: ZarrArray
    """Raw voxels, (c, z, y, x)."""

    settings: dict[str, Any]
    inputs: dict[str, Any]
    """With the settings all that decides the result."""

    @property
    def work(self) -> dict[str, Any]:
        """What names the work, for its ledger."""
        return {"stage": "infer", "settings": self.settings, "inputs": self.inputs}

    def create(self, store: Path) -> ZarrArray:
        """The array that is written, (c, z, y, x), made in `store` or as it is there."""
        config = self.job.config
        return create_array(
            store,
            "0",
            shape=(len(config.stored(self.job.models[0].classes)), *self.job.shape),
            dtype=config.dtype,
            complete=config.region is None,
            **_cut(self.level, config.downsample),
        )

    def plan(self, made: ZarrArray) -> list[Block]:
        """The blocks that hold something to be computed."""
        every = blocks(self.job.shape, block=shard_of(made))
        return [block for block in every if self.job.raw_of(block.write).size]


def asked_for(
    config: InferConfig,
    *,
    raw: Location,
    networks: Networks,
    out: Path,
    mask: Path | None,
    resources: Resources,
) -> Asked:
    """All that is known of a volume before anything is computed.

    Raises
    ------
    PlanError
        If infer.precision is auto and the GPUs are those of jobs that are not there yet.
    """
    gpus, level = usable_gpus(resources.gpus), open_level(raw)
    # Once for all workers: one volume has one number type, also on devices that differ.
    here = resources.launcher != "jobqueue"
    config = replace(config, precision=precision_for(config.precision, gpus, here=here))
    job = _job(config, raw, level, networks, out, mask, gpus)
    trained = [each for each, _ in networks]
    inputs = {
        "raw": job.content,
        "checkpoint": alone([each.content for each in trained]),
        "cut": cut_of(level),
        **({} if mask is None else {"mask": content_of(mask)}),
    }
    return Asked(job, level, _settings(job, trained), inputs)


def _job(
    config: InferConfig,
    raw: Location,
    level: ZarrArray,
    trained: Networks,
    out: Path,
    mask: Path | None,
    gpus: int,
) -> Job:
    """What workers need to know; its tiles are chosen later."""
    raw_shape = _zyx(level.shape[-3:])
    members = tuple(
        Member(
            path,
            each.content,
            each.model,
            _normaliser(raw, level.shape, level.dtype, each),
            windows_for(config, each.model, shape=raw_shape, patch=each.patch),
        )
        for each, path in trained
    )
    _check_classes(config, members)
    _check_affinities(config, [each for each, _ in trained])
    if mask is not None:
        _check_mask(mask, raw_shape)
    shard = _zyx(_cut(level, config.downsample)["shard"])
    return Job(
        raw=raw,
        content=content_of(raw),
        mask=mask,
        out=out,
        members=members,
        config=config,
        tile_px=0,
        raw_shape=raw_shape,
        within=_within(config, raw_shape),
        shape=coarse(Box((0, 0, 0), raw_shape), config.downsample).shape,
        shard=shard,
        unit=shard,
        gpus=gpus,
        sections=_SECTIONS[bool(gpus)],
    )


def _check_classes(config: InferConfig, members: Sequence[Member]) -> None:
    classes = {member.model.classes for member in members}
    if len(classes) > 1:
        raise PlanError(
            f"networks of {' and '.join(map(str, sorted(classes)))} classes cannot be averaged; "
            "use networks of the same classes"
        )
    if max(config.stored(min(classes))) >= min(classes):
        raise PlanError(
            f"infer.classes {list(config.stored(min(classes)))}: the network has the classes 0 to "
            f"{min(classes) - 1}"
        )
    if 0 in config.stored(min(classes)) and any(m.model.output == "sigmoid" for m in members):
        raise PlanError(
            "infer.classes 0: a network with model.output sigmoid predicts every class but 0; "
            "leave it out"
        )


def _check_affinities(config: InferConfig, trained: Sequence[Checkpoint]) -> None:
    if len({each.offsets for each in trained}) > 1:
        told = " and ".join(str([list(o) for o in each.offsets]) for each in trained)
        raise PlanError(
            f"networks of other affinities cannot be averaged ({told}); use networks that were "
            "trained with the same weights.affinities"
        )
    if any(each.offsets for each in trained) and config.averaging != "none":
        raise PlanError(
            f"infer.averaging {config.averaging} is not for a network of affinities: in a view "
            "that is flipped or turned, an offset leads to another voxel; set it to none"
        )


def _check_mask(mask: Path, shape: Zyx) -> None:
    if (found := open_level(mask).shape) != shape:
        raise StoreError(
            f"{mask} is a mask of {' x '.join(map(str, found))} voxels, raw has {by(shape)}; make "
            "it with `unet-core convert --mask-of RAW`, which fits coarser ones to raw"
        )


def _within(config: InferConfig, shape: Zyx) -> Box:
    """The voxels that are computed: infer.region, grown to whole boxes of infer.downsample."""
    volume = Box((0, 0, 0), shape)
    if config.region is None:
        return volume
    (z0, z1), (y0, y1), (x0, x1) = config.region
    within = Box((z0, y0, x0), (z1, y1, x1)).intersection(volume)
    if not within.size:
        raise PlanError(
            f"infer.region {[list(axis) for axis in config.region]} holds no voxel of the volume, "
            f"which has {by(shape)}"
        )
    return fine(coarse(within, config.downsample), config.downsample).intersection(volume)


def _cut(level: ZarrArray, downsample: Zyx) -> dict[str, Any]:
    """Chunk and shard of what is written: those of raw, downsampled to whole voxels."""
    chunk, shard = [], []
    for n, c, s, f in zip(
        level.shape[-3:], chunk_of(level), shard_of(level), downsample, strict=True
    ):
        of = s if s >= n else lcm(s, f)  # voxels that share no stored voxel with the next shard
        shard.append(-(-of // f))
        chunk.append(gcd(shard[-1], c // gcd(c, f)))
    return {"chunk": _zyx(chunk), "shard": _zyx(shard)}


def _settings(job: Job, trained: Sequence[Checkpoint]) -> dict[str, Any]:
    """What decides the result, and no more.

    Without what is computed at a time: an edit of it makes Snakemake start the stage, which then
    finds every block done. With the number type that "auto" stands for here: a run resumed on
    another machine must not mix two of them in one volume.
    """
    infer = asdict(job.config)
    for key in ("on_error", "spread", "slab", "tile_px", "window", "window_stride"):
        del infer[key]
    if not any(job.windows):
        del infer["window_weight"]
        if job.config.averaging == "none":
            del infer["averaged"]
    windows = [each and {"size": each.size, "stride": each.stride} for each in job.windows]
    return {
        "infer": infer,
        **({"windows": alone(windows)} if any(job.windows) else {}),
        "model": alone([asdict(each.model) for each in trained]),
        "normalise": alone([each.normalise for each in trained]),
    }


def told_windows(job: Job) -> Any:
    """The windows of each network, and why it needs them; None where all have exact tiles."""
    if not any(job.windows):
        return None
    return alone(
        [
            each.windows
            and {
                "size": each.windows.size,
                "stride": each.windows.stride,
                "weight": each.windows.weight,
                "because": geometry_of(each.model).inexact,
            }
            for each in job.members
        ]
    )


def _normaliser(
    raw: Location, shape: Sequence[int], dtype: DTypeLike, trained: Checkpoint
) -> Normaliser:
    """How intensities of `raw` become those the network was trained on."""
    statistics = attributes_of(raw)["unet"].get("statistics")
    if statistics is None or len(shape) != 4:
        raise StoreError(f"{raw} is no raw store; make it with `unet-core convert`")
    if shape[0] != trained.model.channels:
        raise StoreError(
            f"{raw} has {shape[0]} channel(s), the network was trained on "
            f"{trained.model.channels}; use a network that was trained on volumes like this one"
        )
    return normaliser(statistics, cast(Method, trained.normalise), dtype)


def alone(values: list[Any]) -> Any:
    """The value itself where there is but one."""
    return values[0] if len(values) == 1 else values


def _zyx(values: Sequence[int]) -> Zyx:
    z, y, x = values
    return z, y, x
