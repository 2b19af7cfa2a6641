"""Weights that were trained before, here or elsewhere, as a checkpoint of this program."""

import logging
from dataclasses import replace
from pathlib import Path

from unet_core import provenance
from unet_core.config import AugmentConfig, NetworkConfig, PretrainedConfig
from unet_core.config.networks.cost import parameters
from unet_core.errors import CheckpointError
from unet_core.io.atomic import write_json, write_text
from unet_core.io.hdf5_weights import read_hdf5_weights
from unet_core.io.plainly import told_plainly
from unet_core.net.checkpoint import Checkpoint, described, write_checkpoint
from unet_core.net.imports import translated
from unet_core.net.imports.files import KERAS, read_foreign
from unet_core.net.imports.transfer import begun, own_state, reordered

log = logging.getLogger(__name__)


def import_weights(
    config: PretrainedConfig,
    *,
    source: Path,
    out: Path,
    model: NetworkConfig | None = None,
    channels: int | None = None,
    seed: int = 0,
) -> None:
    """Turn a checkpoint of any system that is known into one of this program.

    Parameters
    ----------
    source
        .pt, .pth, .tar (torch), .safetensors, .h5, .hdf5, .keras (Keras, Caffe of the Freiburg
        group), or best.pt of this program. Nothing in it is executed.
    out
        The checkpoint; beside it ``model.json`` and ``history.csv`` where it is named best.pt.
    model
        What the weights are for; weights of another network are refused. None: what they are of.
    channels
        Of the raw volume; the first layer is adapted to them. None: those of the model.
    seed
        Of what is drawn where `config.part` is not the whole network.

    Raises
    ------
    CheckpointError
        If the file cannot be read, holds code, or is not of a known network, or not of `model`;
        what differs is listed.
    """
    found = _read(config, source, model, channels)
    if config.order is not None:
        found = replace(found, state=reordered(found, config.order))
    if model is not None:
        found = begun(found, model, part=config.part, seed=seed)
    elif config.part != "network":
        raise CheckpointError(
            f"pretrained.part {config.part} needs the network that the weights are for: give "
            "--config with its section model"
        )
    log.info("%d parameters of %s", parameters(found.model), source)
    origin = provenance.record(
        "import",
        {"pretrained": replace(config, file=None), "model": found.model},
        {"file": provenance.source_digest(str(source)), "seed": str(seed)},
    )
    with told_plainly(out):
        write_checkpoint(out, found)
        if out.name == "best.pt":
            write_text(out.with_name("history.csv"), "step,learning_rate,train_loss\n")
            write_json(
                out.with_name("model.json"),
                described(found, origin, step=0, steps=0, scores={}),
            )


def _read(
    config: PretrainedConfig, source: Path, model: NetworkConfig | None, channels: int | None
) -> Checkpoint:
    """The network of a file, whichever system it comes from."""
    if channels is None and model is not None:
        channels = model.inputs  # neighbouring sections are what channels were
    if source.suffix.lower() in KERAS:
        state = read_hdf5_weights(source)
    else:
        content = read_foreign(source)
        if isinstance(content, Checkpoint):
            return content
        state = content
    normalise = config.normalise or AugmentConfig().normalise
    try:
        if model is not None and (own := own_state(state, model)) is not None:
            return Checkpoint(model, normalise, own)
        foreign = translated(state, preset=config.preset, channels=channels)
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from None
    log.info("a checkpoint of %s, preset %s", foreign.source, foreign.preset)
    return Checkpoint(foreign.config, normalise, foreign.network().state_dict())
