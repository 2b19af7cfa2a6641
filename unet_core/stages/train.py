"""Patch bank to checkpoint and history."""

import csv
import io
import logging
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unet_core import provenance
from unet_core.config import NetworkConfig, Resources, TrainConfig
from unet_core.config.networks.cost import parameters
from unet_core.errors import CheckpointError, ConfigError, Interrupted
from unet_core.io.atomic import write_json, write_text
from unet_core.io.lock import Lock, holding
from unet_core.io.ngff import content_of
from unet_core.io.plainly import told_plainly
from unet_core.net.checkpoint import (
    Checkpoint,
    described,
    read_checkpoint,
    read_state,
    write_checkpoint,
    write_state,
)
from unet_core.net.device import choose_device, choose_dtype, prepare
from unet_core.net.loop import Training, begin, class_weights, weights_of
from unet_core.net.patches import Bank, Batch, drawn, read_ahead, read_batch
from unet_core.net.ranks import joined, local_rank
from unet_core.run.steps import asked_to_end, progress
from unet_core.stages.train_banks import affinities_in, normalised_by, open_bank
from unet_core.stages.train_ranks import of_a_node, refuse_uneven

log = logging.getLogger(__name__)

_CHECK_EVERY = 50
"""Steps between looks at the loss: reading it makes a GPU wait."""


@dataclass
class Record:
    """What a run has found so far; saved with the state of the training."""

    history: list[dict[str, Any]] = field(default_factory=list)
    """One row per validation."""

    best: dict[str, Any] = field(default_factory=dict)
    """``step``, ``scores`` and ``weights`` of the lowest validation loss; without a validation
    bank, of the last step."""


def train_unet(
    config: TrainConfig,
    *,
    model: NetworkConfig,
    patches: Path,
    validation: Path | None,
    out: Path,
    resources: Resources,
    initial: Path | None = None,
) -> None:
    """Train a network on the bank `patches` and keep the weights of the lowest validation loss.

    Where this process is one of several that `start_ranks` has started, it sees its part of every
    batch, and the first of them writes. The result is that of one process but for rounding, and
    for the voxels that dropout drops; another number of them may go on from a state.

    Parameters
    ----------
    patches, validation
        Stores of `build_patch_bank`; without `validation` the last weights are kept.
    initial
        Checkpoint of the same network whose weights training begins with; None: they are drawn.
    out
        ``best.pt``, written last; beside it ``model.json``, ``history.csv`` and ``last.pt``, the
        state that the same work goes on from after it was ended.

    Raises
    ------
    ConfigError
        If bank, network and recipe do not fit, or the batch cannot be shared, before the first
        step; if training diverges.
    Interrupted
        If the job was asked to end; the state is saved.
    """
    _check_steps(config, validation)
    bank, counts = open_bank(patches, model, config)
    checks = open_bank(validation, model, config)[0] if validation else None
    offsets = affinities_in(model, patches, validation)
    normalise = normalised_by(patches, validation)
    start = _initial(initial, normalise) if initial else None
    inputs = {
        "patches": content_of(patches),
        "validation": content_of(validation) if validation else None,
        **({"initial": start.content} if start else {}),
    }
    origin = provenance.record("train", {"train": config, "model": model}, inputs)
    name = origin["fingerprint"]
    device = choose_device(resources.gpus, number=local_rank())
    threads = max(1, resources.threads // of_a_node(resources))
    with (
        told_plainly(out),
        joined(device) as ranks,
        holding(out) if ranks.first else nullcontext() as lock,
    ):
        refuse_uneven(config, ranks.count)
        prepare(device, threads=threads)
        training = begin(
            config,
            model,
            class_weights=class_weights(config, counts),
            device=device,
            dtype=choose_dtype(config.precision, device),
            ranks=ranks,
            initial=start.state if start else None,
            affinities=bool(offsets),
        )
        record = _resume(out.with_name("last.pt"), name, training)
        if lock:
            for stale in (out, out.with_name("model.json")):
                stale.unlink(missing_ok=True)
        log.info(
            "%d parameters, %d patches, %s of %s, %d process(es), %d threads",
            parameters(model), len(bank), training.dtype, device, ranks.count, threads,
        )  # fmt: skip
        _Run(training, record, bank, checks, out, name, lock).finish()
        if lock:
            lock.check()
            weights = record.best["weights"]
            made = Checkpoint(model, normalise, weights, bank.patch, offsets)
            _publish(out, made, record, origin)


def _check_steps(config: TrainConfig, validation: Path | None) -> None:
    if not config.steps:
        raise ConfigError(
            "train.steps is 0: there is nothing to train; with pretrained.file, `unet-core import "
            "FILE --out best.pt` makes the model of it"
        )
    if config.schedule == "plateau" and not validation:
        raise ConfigError(
            "train.schedule plateau needs validation patches: give a volume of fold validation, or "
            "set train.schedule to constant, cosine, poly or stairs"
        )


def _initial(path: Path, normalise: str) -> Checkpoint:
    """The checkpoint that training on intensities normalised like this begins with."""
    start = read_checkpoint(path)
    if start.normalise != normalise:
        raise ConfigError(
            f"the weights of {path} were trained on intensities normalised by "
            f"{start.normalise}, the patches by {normalise}; set augment.normalise to the first "
            "(or, if that is not true of them, pretrained.normalise to the second)"
        )
    return start


@dataclass(frozen=True)
class _Run:
    """Steps of a training and what is kept of them; the process that has the lock writes."""

    training: Training
    record: Record
    bank: Bank
    checks: Bank | None
    out: Path
    name: str
    """Fingerprint of the work."""

    lock: Lock | None

    def finish(self) -> None:
        """All steps that are not done yet."""
        training, config, ranks = self.training, self.training.config, self.training.ranks
        done = training.steps_done
        with asked_to_end() as ending, progress("train", total=config.steps, done=done) as advance:
            ranks.meet()  # else a signal ends those who do not wait for it yet, and so all
            for batch in read_ahead(self._patches, range(done, config.steps)):
                training.step(batch)
                advance()
                last = training.steps_done == config.steps
                if training.steps_done % config.validate_every == 0 or last:
                    self._validate()
                elif training.steps_done % _CHECK_EVERY == 0:
                    training.check()
                if ranks.any(ending()) and not last:
                    self._end()

    def _patches(self, step: int) -> Batch:
        config = self.training.config
        chosen = drawn(config.seed, step, batch=config.batch, patches=len(self.bank))
        return self._read(self.bank, self.training.ranks.part(chosen))

    def _read(self, bank: Bank, indices: list[int]) -> Batch:
        pin = self.training.device.type != "cpu"
        return read_batch(bank, indices, self.training.network.config, pin=pin)

    def _validate(self) -> None:
        """Score the weights on the patches of fold validation, if any, and keep what is found."""
        training, checks, ranks = self.training, self.checks, self.training.ranks
        training.check()
        training.check_weights()
        scores: dict[str, Any] = {}
        if checks:
            own = range(ranks.rank, len(checks), ranks.count)
            scores = training.validate(read_ahead(lambda i: self._read(checks, [i]), own))
        _enter(self.record, training, scores)
        training.follow(scores)
        if self.lock:
            table = _table(self.record, training.network.config)
            write_text(self.out.with_name("history.csv"), table)
        self._save()

    def _save(self) -> None:
        if self.lock:
            path = self.out.with_name("last.pt")
            _save(path, self.name, self.training, self.record, self.lock)

    def _end(self) -> None:
        """Save what is done, and end the job."""
        self.training.check()
        self._save()
        # Who ends badly before the state is saved has Slurm kill the others.
        self.training.ranks.meet()
        raise Interrupted(
            f"asked to end: step {self.training.steps_done} of {self.training.config.steps} is "
            "saved; the same command goes on from there"
        )


def _enter(record: Record, training: Training, scores: dict[str, Any]) -> None:
    """Add a row to the history; keep the weights if they are the best."""
    losses = training.read_losses()
    training.losses.clear()
    step, mean = training.steps_done, sum(losses) / len(losses)
    rate = training.rate(step - 1)
    record.history.append({"step": step, "learning_rate": rate, "train_loss": mean, **scores})
    # By loss, not by overlap: it tells apart weights whose decisions at 0.5 are the same, and
    # what `stitch` uses is the probability, not the decision.
    better = not scores or not record.best or scores["loss"] < record.best["scores"]["loss"]
    if better:
        record.best.update(step=step, scores=scores, weights=weights_of(training.network))
    told = (
        f", validation loss {scores['loss']:.5f}, Dice {scores['dice'] or 0:.4f}" if scores else ""
    )
    log.info("step %d: loss %.5f%s%s", step, mean, told, " (best)" if better and scores else "")


def _publish(out: Path, made: Checkpoint, record: Record, origin: dict[str, Any]) -> None:
    """Write history, model.json and, last of all, the network."""
    write_text(out.with_name("history.csv"), _table(record, made.model))
    best, steps = record.best, record.history[-1]["step"]
    told = described(made, origin, step=best["step"], steps=steps, scores=best["scores"])
    write_json(out.with_name("model.json"), told)
    write_checkpoint(out, made)


def _save(path: Path, name: str, training: Training, record: Record, lock: Lock) -> None:
    lock.check()
    write_state(
        path,
        {
            "fingerprint": name,
            "dtype": str(training.dtype),
            "training": training.state(),
            "history": record.history,
            "best": record.best,
        },
    )


def _resume(path: Path, name: str, training: Training) -> Record:
    """Bring `training` to where the same work was left, if it was begun."""
    ranks = training.ranks
    # What one of them reads all go on from, whatever the others see of its file yet.
    state = ranks.from_first(_left(path, name, str(training.dtype)) if ranks.first else {})
    if not state:
        return Record()
    training.resume(state["training"])
    log.info("resumed at step %d of %d", training.steps_done, training.config.steps)
    return Record(state["history"], state["best"])


def _left(path: Path, name: str, dtype: str) -> Mapping[str, Any]:
    """The state that the same work was left in; empty where there is none."""
    if not path.exists():
        return {}
    try:
        state: Mapping[str, Any] = read_state(path)
    except CheckpointError as error:
        log.warning("%s; starting anew", error)
        return {}
    if state.get("fingerprint") != name:
        log.info("%s is of other settings, patches or code: starting anew", path.name)
        path.unlink()
        return {}
    if state["dtype"] != dtype:
        log.info("%s is of a machine that computes in %s: starting anew", path.name, state["dtype"])
        return {}
    return state


def _table(record: Record, model: NetworkConfig) -> str:
    """The history as CSV; cells that were not measured are empty."""
    ious = [f"iou_{k}" for k in range(model.classes)]
    columns = ["step", "learning_rate", "train_loss", "validation_loss", "dice", *ious]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for row in record.history:
        measured = {"validation_loss": row["loss"], "dice": row["dice"]} if "loss" in row else {}
        measured |= dict(zip(ious, row.get("iou", []), strict=False))
        known = {"step": row["step"], "learning_rate": row["learning_rate"]}
        writer.writerow({**known, "train_loss": row["train_loss"], **measured})
    return text.getvalue()
