"""`unet-core STAGE --config JSON ...`: strings become arguments of one stage function.

A stage's module is imported only when that stage is asked for, so that `unet-core --help` needs
no torch. `--config` is one JSON mapping: the stage's sections of settings and its version.
"""

import argparse
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unet_core.config import (
    AugmentConfig,
    CalibrateConfig,
    ConvertConfig,
    InferConfig,
    ObjectsConfig,
    ReportConfig,
    Resources,
    ScoreConfig,
    StitchConfig,
    TrainConfig,
    TruthConfig,
    UNetConfig,
    VolumeConfig,
    WeightsConfig,
    load,
)
from unet_core.config.versions import RESULT_VERSION
from unet_core.errors import ConfigError, UNetCoreError


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit status: 0 done, 1 refused, 143 asked to end."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
        stream=sys.stderr,
        force=True,
    )
    run: Callable[[argparse.Namespace], None] = options.run
    try:
        run(options)
    except UNetCoreError as error:
        print(f"unet-core {options.command}: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _convert(options: argparse.Namespace) -> None:
    from unet_core.stages.convert import convert_volume

    section = _sections(options)
    convert_volume(
        section("convert", ConvertConfig),
        volume=section("volume", VolumeConfig),
        truth=section("truth", TruthConfig) if options.truth else None,
        raw=options.raw,
        out=options.out,
        resources=_resources(options),
    )


def _check(options: argparse.Namespace) -> None:
    from unet_core.stages.check import check_volumes

    check_volumes(options.sheet, data=options.data, only=options.only)


def _weights(options: argparse.Namespace) -> None:
    from unet_core.stages.weights import compute_weights

    section = _sections(options)
    compute_weights(
        section("weights", WeightsConfig),
        truth=options.truth,
        out=options.out,
        resources=_resources(options),
    )


def _augment(options: argparse.Namespace) -> None:
    from unet_core.stages.augment import build_patch_bank

    section = _sections(options)
    build_patch_bank(
        section("augment", AugmentConfig),
        raw=options.raw,
        weights=options.weights,
        training=options.fold == "train",
        out=options.out,
        resources=_resources(options),
    )


def _train(options: argparse.Namespace) -> None:
    from unet_core.stages.train import train_unet

    section = _sections(options)
    train_unet(
        section("train", TrainConfig),
        model=section("model", UNetConfig),
        patches=options.patches,
        validation=options.validation,
        out=options.out,
        resources=_resources(options),
    )


def _infer(options: argparse.Namespace) -> None:
    from unet_core.stages.infer import infer_probabilities

    section = _sections(options)
    infer_probabilities(
        section("infer", InferConfig),
        raw=options.raw,
        checkpoint=options.checkpoint,
        out=options.out,
        resources=_resources(options),
    )


def _calibrate(options: argparse.Namespace) -> None:
    from unet_core.stages.calibrate import calibrate_objects

    section = _sections(options)
    calibrate_objects(
        section("calibrate", CalibrateConfig),
        objects=section("objects", ObjectsConfig),
        probabilities=options.probabilities,
        truth=options.truth,
        out=options.out,
        resources=_resources(options),
    )


def _stitch(options: argparse.Namespace) -> None:
    from unet_core.stages.stitch import stitch_labels

    section = _sections(options)
    stitch_labels(
        section("stitch", StitchConfig),
        objects=section("objects", ObjectsConfig),
        probabilities=options.probabilities,
        calibration=options.calibration,
        out=options.out,
        resources=_resources(options),
    )


def _score(options: argparse.Namespace) -> None:
    from unet_core.stages.score import score_volume

    section = _sections(options)
    score_volume(
        section("score", ScoreConfig),
        objects=section("objects", ObjectsConfig),
        labels=options.labels,
        probabilities=options.probabilities,
        truth=options.truth,
        calibration=options.calibration,
        out=options.out,
        resources=_resources(options),
    )


def _phantom(options: argparse.Namespace) -> None:
    from unet_core.stages.phantom import write_phantom

    write_phantom(shape=tuple(options.shape), seed=options.seed, out=options.out)


def _describe(options: argparse.Namespace) -> None:
    from unet_core.stages.describe import described

    print(described(options.preset, size=options.size, as_json=options.json))


def _montage(options: argparse.Namespace) -> None:
    from unet_core.stages.montage import draw_montage

    section = _sections(options)
    draw_montage(
        section("report", ReportConfig),
        objects=section("objects", ObjectsConfig),
        raw=options.raw,
        probabilities=options.probabilities,
        labels=options.labels,
        truth=options.truth,
        out=options.out,
    )


def _report(options: argparse.Namespace) -> None:
    from unet_core.stages.report import write_report

    write_report(
        _sections(options)("report", ReportConfig),
        manifest=_mapping("--manifest", options.manifest),
        results=options.results,
        out=options.out,
    )


def _sections(options: argparse.Namespace) -> Callable[[str, type], Any]:
    """Reader of the stage's sections of settings; a version that is not this code's is refused."""
    settings = _mapping("--config", options.config)
    here = RESULT_VERSION[options.command]
    if (given := settings.pop("version", here)) != here:
        raise ConfigError(
            f"--config asks for version {given} of {options.command}, this is version {here}: "
            "workflow and installed unet-core differ; reinstall with `pip install -e .`"
        )

    def section(name: str, schema: type) -> Any:
        return load(schema, settings.get(name) or {}, section=name)

    return section


def _mapping(option: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{option} is not JSON ({error}): {text!r}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{option} must be a JSON mapping, got {text!r}")
    return value


def _resources(options: argparse.Namespace) -> Resources:
    return Resources(threads=options.threads, gpus=options.gpus, memory_mb=options.memory_mb)


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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="unet-core", description=__doc__.split("\n\n")[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def stage(name: str, run: Callable[[argparse.Namespace], None], text: str) -> Any:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        sections = _SECTIONS.get(name, name)
        told = f"settings {sections} as in config.yaml, as JSON (default: their defaults)"
        command.add_argument("--config", default="{}", metavar="JSON", help=told)
        command.add_argument("--out", type=_store, required=True, help="what is written")
        command.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
        command.add_argument("--gpus", type=int, default=0, help="GPUs (default 0: CPU)")
        command.add_argument("--memory-mb", type=int, help="memory, MB (default: the machine's)")
        return command

    text = "Do the files of the volume sheet open, and do raw and truth fit? Headers only."
    check = commands.add_parser("check", help=text, description=text)
    check.set_defaults(run=_check)
    check.add_argument("--sheet", type=Path, default=Path("config/volumes.tsv"))
    check.add_argument("--data", type=Path, default=Path(), help="folder of relative files")
    check.add_argument("--only", nargs="*", default=(), metavar="NAME", help="default: all volumes")

    add = stage(
        "convert", _convert, "Any raw format to a sharded, multiscale OME-Zarr store."
    ).add_argument
    add("--raw", required=True, help="file, folder, or glob of a series; FILE.h5::DATASET")
    add("--truth", action="store_true", help="the file holds labels, not intensities")

    add = stage("weights", _weights, "Truth to the target and the border weight map.").add_argument
    add("--truth", type=_store, required=True, help="store of `unet-core convert --truth`")

    add = stage("augment", _augment, "Volumes to a bank of deformed patches.").add_argument
    add("--raw", type=_store, nargs="+", required=True, help="stores of `unet-core convert`")
    add("--weights", type=_store, nargs="+", required=True, help="stores of the same volumes")
    add("--fold", choices=("train", "validation"), required=True, help="validation: not deformed")

    add = stage("train", _train, "Patch bank to checkpoint and history.").add_argument
    add("--patches", type=_store, required=True, help="bank of `unet-core augment`")
    add("--validation", type=_store, help="bank that decides which weights are kept")

    add = stage("infer", _infer, "Class probabilities of a volume, block by block.").add_argument
    add("--raw", type=_store, required=True, help="store of `unet-core convert`")
    add("--checkpoint", type=Path, required=True, help="best.pt of `unet-core train`")

    add = stage(
        "calibrate", _calibrate, "Choose how objects are made, on validation volumes."
    ).add_argument
    add("--probabilities", type=_store, nargs="+", required=True, help="of `unet-core infer`")
    add("--truth", type=_store, nargs="+", required=True, help="stores of the same volumes")

    add = stage(
        "stitch", _stitch, "Probabilities to one id per object over all blocks."
    ).add_argument
    add("--probabilities", type=_store, required=True, help="store of `unet-core infer`")
    add("--calibration", type=Path, help="file of `unet-core calibrate`")

    add = stage("score", _score, "Labels and probabilities against truth.").add_argument
    add("--labels", type=_store, required=True, help="store of `unet-core stitch`")
    add("--probabilities", type=_store, required=True, help="store of `unet-core infer`")
    add("--truth", type=_store, required=True, help="store of `unet-core convert --truth`")
    add("--calibration", type=Path, help="file of `unet-core calibrate`")

    add = stage("montage", _montage, "Sections of a volume as one picture.").add_argument
    add("--raw", type=_store, required=True, help="store of `unet-core convert`")
    add("--probabilities", type=_store, required=True, help="store of `unet-core infer`")
    add("--labels", type=_store, required=True, help="store of `unet-core stitch`")
    add("--truth", type=_store, help="store of `unet-core convert --truth`")

    add = stage("report", _report, "The page of a run, from all its results.").add_argument
    add("--manifest", required=True, metavar="JSON", help="volumes with their folds, and models")
    add("--results", type=Path, required=True, help="folder of the run")

    text = "What the network of a preset is and costs: parameters, sizes, work."
    describe = commands.add_parser("describe", help=text, description=text)
    describe.set_defaults(run=_describe)
    add = describe.add_argument
    add("preset", type=Path, metavar="MODEL.yaml", help="such as config/models/paper.yaml")
    add("--size", type=int, help="voxels per axis of one pass (default: accepted, near 572)")
    add("--json", action="store_true", help="for programs")

    text = "A synthetic volume with exact truth: raw.tif and truth.tif."
    phantom = commands.add_parser("phantom", help=text, description=text)
    phantom.set_defaults(run=_phantom)
    add = phantom.add_argument
    add("--shape", type=int, nargs=3, required=True, metavar=("Z", "Y", "X"), help="voxels")
    add("--seed", type=int, default=0, help="another seed gives another volume (default 0)")
    add("--out", type=Path, required=True, help="folder that is written to")
    return parser


if __name__ == "__main__":
    sys.exit(main())
