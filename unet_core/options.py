"""`unet-core COMMAND ...`: what each command takes.

`--config` is one JSON mapping: the stage's sections of settings and its version.
"""

import argparse
from pathlib import Path
from typing import Any, get_args

from unet_core.config.data import Normalise
from unet_core.config.resources import Launcher
from unet_core.io.remote import location


def _store(text: str) -> Path:
    """A store, named by its folder or by the `zarr.json` in it."""
    path = Path(text)
    return path.parent if path.name == "zarr.json" else path


_SECTIONS = {
    "convert": "convert, volume, truth",
    "train": "model, train",
    "montage": "report, objects",
    **{stage: f"{stage}, objects" for stage in ("calibrate", "stitch", "score")},
}
"""Of the settings, where a stage reads others than its own."""


def parser() -> argparse.ArgumentParser:
    """Of all commands; what it parses has `command`, the name of one."""
    whole = argparse.ArgumentParser(prog="unet-core", description=__doc__.split("\n\n")[0])
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (
        *(_check, _convert, _weights, _augment, _train, _import, _export, _infer, _calibrate),
        *(_stitch, _score, _montage, _report, _describe, _estimate, _phantom),
    ):
        add(commands)
    return whole


def _stage(commands: Any, name: str, text: str, *, outs: str = "") -> Any:
    """A command with what every stage takes; `outs`: what each of several outputs is of."""
    command = commands.add_parser(name, help=text, description=text)
    sections = _SECTIONS.get(name, name)
    told = f"settings {sections} as in config.yaml, as JSON (default: their defaults)"
    command.add_argument("--config", default="{}", metavar="JSON", help=told)
    told = f"what is written{outs and ', '}{outs}"
    command.add_argument(
        "--out", type=_store, nargs="+" if outs else None, required=True, help=told
    )
    command.add_argument(
        "--threads", type=int, default=1, help="CPU threads of each node (default 1)"
    )
    command.add_argument("--gpus", type=int, default=0, help="GPUs of all nodes (default 0: CPU)")
    command.add_argument("--memory-mb", type=int, help="memory of each node, MB (default: all)")
    command.add_argument("--lease-s", type=float, help="a block hangs after (default: derived)")
    command.add_argument("--nodes", type=int, default=1, help="machines (default 1)")
    told = "how workers are started: on this machine, or by a scheduler (default here)"
    command.add_argument("--launcher", choices=get_args(Launcher), default="here", help=told)
    told = "network between nodes, such as ib0 (default: that of this node's name)"
    command.add_argument("--interface", help=told)
    return command


def _check(commands: Any) -> None:
    text = "Do the files of the volume sheet open, and do they fit each other? Headers only."
    check = commands.add_parser("check", help=text, description=text)
    check.add_argument("--sheet", type=Path, default=Path("config/volumes.tsv"))
    check.add_argument("--data", type=Path, default=Path(), help="folder of relative files")
    check.add_argument("--only", nargs="*", default=(), metavar="NAME", help="default: all volumes")
    told = "settings convert and infer, and channels by model: are they possible? As JSON"
    check.add_argument("--config", default="{}", metavar="JSON", help=told)
    check.add_argument("--stores", type=Path, help="folder results/volumes: what is converted")
    told = "JSON file that is written: shape and number type of what was opened"
    check.add_argument("--headers", type=Path, help=told)


def _convert(commands: Any) -> None:
    convert = _stage(commands, "convert", "Any raw format to a sharded, multiscale OME-Zarr store.")
    convert.add_argument(
        "--raw", required=True, help="file, folder or glob of a series; FILE.h5::DATASET"
    )
    what = convert.add_mutually_exclusive_group().add_argument
    what("--truth", action="store_true", help="the file holds labels, not intensities")
    what("--mask-of", type=_store, metavar="RAW", help="the file is a mask of this raw store")


def _weights(commands: Any) -> None:
    add = _stage(commands, "weights", "Truth to the target and the border weight map.").add_argument
    add("--truth", type=_store, required=True, help="store of `unet-core convert --truth`")


def _augment(commands: Any) -> None:
    add = _stage(commands, "augment", "Volumes to a bank of deformed patches.").add_argument
    add("--raw", type=_store, nargs="+", required=True, help="stores of `unet-core convert`")
    add("--weights", type=_store, nargs="+", required=True, help="stores of the same volumes")
    add("--fold", choices=("train", "validation"), required=True, help="validation: not deformed")


def _train(commands: Any) -> None:
    add = _stage(commands, "train", "Patch bank to checkpoint and history.").add_argument
    add("--patches", type=_store, required=True, help="bank of `unet-core augment`")
    add("--validation", type=_store, help="bank that decides which weights are kept")
    add("--initial", type=Path, help="checkpoint that training begins with (default: drawn)")


def _import(commands: Any) -> None:
    text = "A checkpoint of another system (milesial, mmsegmentation, Keras, ...) to one of ours."
    add = commands.add_parser("import", help=text, description=text).add_argument
    told = ".pt, .pth, .safetensors, .h5, .keras: told apart by its keys; no code in it is run"
    add("file", type=Path, metavar="FILE", help=told)
    add("--out", type=Path, required=True, help="checkpoint that is written, such as best.pt")
    told = "settings pretrained as in config.yaml, and model: what the weights are for, as JSON"
    add("--config", default="{}", metavar="JSON", help=told)
    add("--preset", help="which of config/models it is; where its keys leave a choice")
    told = "how its intensities were normalised, as augment.normalise (default mean_std)"
    add("--normalise", choices=get_args(Normalise), help=told)
    told = "channel of the volume that is shown as its channel 0, 1, ..., such as 2 1 0"
    add("--order", type=int, nargs="+", metavar="CHANNEL", help=told)
    add("--channels", type=int, help="of the volume; its first layer is adapted to them")
    add("--seed", type=int, default=0, help="of weights that are drawn (default 0)")


def _export(commands: Any) -> None:
    text = "A trained network for other programs: ONNX, a bioimage.io package, torch.export."
    add = commands.add_parser("export", help=text, description=text).add_argument
    add("checkpoint", type=Path, metavar="BEST.pt", help="of `unet-core train` or `import`")
    told = "onnx; bioimageio: a package with it; torch: a program for C++ and AOTInductor"
    add("--format", choices=("onnx", "bioimageio", "torch"), default="onnx", help=told)
    add("--out", type=Path, required=True, help="such as best.onnx, best.zip, best.pt2")
    add("--logits", action="store_true", help="results are logits, not probabilities")
    told = "voxels per axis, where a network is for one size alone (default: its patches')"
    add("--size", type=int, nargs="+", metavar="N", help=told)
    add = commands.choices["export"].add_argument_group("bioimageio").add_argument
    add("--author", nargs="+", metavar="NAME", help="who made it")
    add("--license", metavar="ID", help="of the weights, such as CC-BY-4.0")
    add("--name", help="of the package (default: that of the file)")
    add("--description", help="what it segments (default: the name)")
    add("--cite", nargs="+", default=(), metavar="DOI", help="besides that of the U-Net")
    told = "number type of raw (default uint8)"
    add("--dtype", choices=("uint8", "uint16", "float32"), default="uint8", help=told)


def _infer(commands: Any) -> None:
    text = "Class probabilities of volumes, one after another, block by block."
    command = _stage(commands, "infer", text, outs="one for each --raw")
    add = command.add_argument
    told = "stores of `unet-core convert`, folders or addresses (s3://, gs://, http(s)://)"
    add("--raw", type=location, nargs="+", required=True, help=told)
    told = "stores of `unet-core convert --mask-of`, one for each --raw, - where there is none"
    add("--mask", type=_store, nargs="+", help=f"{told}; computed inside only")
    told = "best.pt of `unet-core train`; of several the mean of the probabilities is taken"
    add("--checkpoint", type=Path, nargs="+", required=True, help=told)
    told = "settings infer that decide no voxel, besides --config: tile_px, on_error, spread, slab"
    add("--running", default="{}", metavar="JSON", help=told)
    part = command.add_mutually_exclusive_group().add_argument
    keys: Any = {"dest": "part", "action": "store_const"}
    part("--prepare", **keys, const="prepare", help="begin a volume that jobs make slab by slab")
    part("--slab", dest="part", metavar="Z-Y-X", help="make the slab of this first voxel alone")
    part("--publish", **keys, const="publish", help="finish the volume when its slabs are made")


def _calibrate(commands: Any) -> None:
    text = "Choose how objects are made, on validation volumes."
    add = _stage(commands, "calibrate", text).add_argument
    add("--probabilities", type=_store, nargs="+", required=True, help="of `unet-core infer`")
    add("--truth", type=_store, nargs="+", required=True, help="stores of the same volumes")
    told = "a mask that probabilities were computed within; once for each"
    add("--mask", type=_store, action="append", default=[], help=told)


def _stitch(commands: Any) -> None:
    text = "Probabilities to one id per object over all blocks."
    add = _stage(commands, "stitch", text).add_argument
    add("--probabilities", type=_store, required=True, help="store of `unet-core infer`")
    add("--mask", type=_store, help="that the probabilities were computed within")
    add("--calibration", type=Path, help="file of `unet-core calibrate`")


def _score(commands: Any) -> None:
    add = _stage(commands, "score", "Labels and probabilities against truth.").add_argument
    add("--labels", type=_store, required=True, help="store of `unet-core stitch`")
    add("--probabilities", type=_store, required=True, help="store of `unet-core infer`")
    add("--truth", type=_store, required=True, help="store of `unet-core convert --truth`")
    add("--mask", type=_store, help="that the probabilities were computed within")
    add("--calibration", type=Path, help="file of `unet-core calibrate`")


def _montage(commands: Any) -> None:
    add = _stage(commands, "montage", "Sections of a volume as one picture.").add_argument
    add("--raw", type=_store, required=True, help="store of `unet-core convert`")
    add("--probabilities", type=_store, required=True, help="store of `unet-core infer`")
    add("--labels", type=_store, required=True, help="store of `unet-core stitch`")
    add("--truth", type=_store, help="store of `unet-core convert --truth`")
    add("--mask", type=_store, help="that the probabilities were computed within")


def _report(commands: Any) -> None:
    add = _stage(commands, "report", "The page of a run, from all its results.").add_argument
    told = "volumes with their folds, models, ensembles"
    add("--manifest", required=True, metavar="JSON", help=told)
    add("--results", type=Path, required=True, help="folder of the run")
    told = "the whole configuration, for what jobs were expected to take (default: not shown)"
    add("--run", default="{}", metavar="JSON", help=told)
    add("--presets", type=Path, default=Path("config/models"), help="folder of the models' presets")


def _describe(commands: Any) -> None:
    text = "What the network of a preset is and costs: parameters, sizes, work."
    add = commands.add_parser("describe", help=text, description=text).add_argument
    add("preset", type=Path, metavar="MODEL.yaml", help="such as config/models/paper.yaml")
    add("--size", type=int, help="voxels per axis of one pass (default: accepted, near 572)")
    add("--json", action="store_true", help="for programs")


def _nodes(text: str) -> tuple[str, int]:
    stage, _, number = text.partition("=")
    return stage, int(number)


def _estimate(commands: Any) -> None:
    text = "How much a run will take: files, disk, memory, operations, time, money."
    add = commands.add_parser("estimate", help=text, description=text).add_argument
    told = "laid over each other, as Snakemake does (default config/config.yaml)"
    add("--configfile", type=Path, nargs="*", default=[Path("config/config.yaml")], help=told)
    add("--config", default="{}", metavar="JSON", help="settings laid over the files")
    add("--presets", type=Path, default=Path("config/models"), help="folder of the models' presets")
    told = "what `unet-core check --headers` has written (default: the workflow's)"
    add("--headers", type=Path, default=Path(".snakemake/unet-headers.json"), help=told)
    told = "voxels of a volume that is only described: its prediction, without the sheet"
    add("--shape", type=int, nargs=3, metavar=("Z", "Y", "X"), help=told)
    add("--dtype", default="uint8", help="number type of that volume (default uint8)")
    add("--channels", type=int, default=1, help="channels of that volume (default 1)")
    add("--threads", type=int, default=8, help="CPU threads of each job's node (default 8)")
    add("--gpus", type=int, default=0, help="GPUs of training, and of inference (default 0: CPU)")
    told = "machines of each job of a stage, such as infer=4 stitch=2 (default 1)"
    add("--nodes", type=_nodes, nargs="+", default=[], metavar="STAGE=N", help=told)
    add("--jobs", type=int, default=1, help="jobs at a time (default 1)")
    rates = commands.choices["estimate"].add_mutually_exclusive_group().add_argument
    rates("--device", metavar="NAME", help="what computes: a100, h100, cpu-core, ...")
    rates("--measure", action="store_true", help="time this machine with the first model")
    add("--price", type=float, metavar="MONEY", help="of a GPU for an hour")
    add("--json", action="store_true", help="for programs")


def _phantom(commands: Any) -> None:
    text = "A synthetic volume with exact truth: raw.tif and truth.tif."
    add = commands.add_parser("phantom", help=text, description=text).add_argument
    add("--shape", type=int, nargs=3, required=True, metavar=("Z", "Y", "X"), help="voxels")
    add("--seed", type=int, default=0, help="another seed gives another volume (default 0)")
    add("--out", type=Path, required=True, help="folder that is written to")
