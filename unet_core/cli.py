"""`unet-core STAGE --config JSON ...`: strings become arguments of one stage function.

A stage's module is imported only when that stage is asked for, so that `unet-core --help` needs
no torch. `--config` is one JSON mapping: the stage's sections of settings and its version.
"""

import argparse
import logging
import os
import sys
from collections.abc import Callable

from unet_core.arguments import about_of, given_of, mapping, resources, sections, telling
from unet_core.config import (
    AugmentConfig,
    CalibrateConfig,
    ConvertConfig,
    InferConfig,
    NetworkConfig,
    ObjectsConfig,
    PretrainedConfig,
    ReportConfig,
    ScoreConfig,
    StitchConfig,
    TrainConfig,
    TruthConfig,
    VolumeConfig,
    WeightsConfig,
    load,
)
from unet_core.errors import ConfigError, Hung, UNetCoreError
from unet_core.options import parser


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit status: 0 done, 1 refused, 143 asked to end."""
    given = sys.argv[1:] if arguments is None else arguments
    options = parser().parse_args(given, argparse.Namespace(given=given))
    logging.basicConfig(
        # Of several processes that train together, the first one tells.
        level=logging.INFO if os.environ.get("UNET_RANK", "0") == "0" else logging.WARNING,
        format="%(asctime)s %(levelname)s %(message)s",
        stream=sys.stderr,
        force=True,
    )
    try:
        with telling(options):
            _COMMANDS[options.command](options)
    except UNetCoreError as error:
        print(f"unet-core {options.command}: {error}", file=sys.stderr, flush=True)
        if isinstance(error, Hung):
            os._exit(error.exit_code)  # Python would wait for the thread that hangs
        return error.exit_code
    return 0


def _print(text: str) -> None:
    """Print a result; where its reader wants no more of it, as `head`, that is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # Python flushes once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _convert(options: argparse.Namespace) -> None:
    from unet_core.stages.convert import convert_volume
    from unet_core.stages.convert_mask import convert_mask

    section = sections(options)
    if options.mask_of is not None:
        convert_mask(
            section("convert", ConvertConfig),
            volume=section("volume", VolumeConfig),
            source=options.raw,
            raw=options.mask_of,
            out=options.out,
            resources=resources(options),
        )
        return
    convert_volume(
        section("convert", ConvertConfig),
        volume=section("volume", VolumeConfig),
        truth=section("truth", TruthConfig) if options.truth else None,
        raw=options.raw,
        out=options.out,
        resources=resources(options),
    )


def _check(options: argparse.Namespace) -> None:
    from unet_core.stages.check import check_volumes

    settings = mapping("--config", options.config)
    check_volumes(
        options.sheet,
        data=options.data,
        only=options.only,
        convert=load(ConvertConfig, settings.get("convert") or {}, section="convert"),
        infer=load(InferConfig, settings.get("infer") or {}, section="infer"),
        channels=settings.get("channels"),
        stores=options.stores,
        headers=options.headers,
    )


def _weights(options: argparse.Namespace) -> None:
    from unet_core.stages.weights import compute_weights

    section = sections(options)
    compute_weights(
        section("weights", WeightsConfig),
        truth=options.truth,
        out=options.out,
        resources=resources(options),
    )


def _augment(options: argparse.Namespace) -> None:
    from unet_core.stages.augment import build_patch_bank

    section = sections(options)
    build_patch_bank(
        section("augment", AugmentConfig),
        raw=options.raw,
        weights=options.weights,
        training=options.fold == "train",
        out=options.out,
        resources=resources(options),
    )


def _train(options: argparse.Namespace) -> None:
    from unet_core.stages.train_ranks import start_ranks

    section = sections(options)
    config = section("train", TrainConfig)
    if start_ranks(config, resources(options), options.given):
        return
    from unet_core.stages.train import train_unet

    train_unet(
        config,
        model=section("model", NetworkConfig),
        patches=options.patches,
        validation=options.validation,
        initial=options.initial,
        out=options.out,
        resources=resources(options),
    )


def _import(options: argparse.Namespace) -> None:
    from unet_core.stages.import_weights import import_weights

    given = mapping("--config", options.config)
    section = sections(options, pretrained=given_of(options, "preset", "normalise", "order"))
    import_weights(
        section("pretrained", PretrainedConfig),
        source=options.file,
        model=section("model", NetworkConfig) if "model" in given else None,
        channels=options.channels,
        seed=options.seed,
        out=options.out,
    )


def _export(options: argparse.Namespace) -> None:
    from unet_core.stages.export_model import export_model

    export_model(
        options.checkpoint,
        form=options.format,
        out=options.out,
        logits=options.logits,
        size=options.size,
        dtype=options.dtype,
        about=about_of(options),
    )


def _infer(options: argparse.Namespace) -> None:
    from unet_core.stages.infer_volumes import Files, infer_volumes

    masks = options.mask or ["-"] * len(options.raw)
    for option, given in (("--out", options.out), ("--mask", masks)):
        if len(given) != len(options.raw):
            raise ConfigError(
                f"--raw names {len(options.raw)} volume(s), {option} {len(given)}; give one "
                "for each, in the same order"
            )
    if len(set(options.out)) < len(options.out):
        raise ConfigError("--out names a store twice; every volume is written to its own")
    section = sections(options, infer=mapping("--running", options.running))
    infer_volumes(
        section("infer", InferConfig),
        volumes=[
            Files(raw=raw, out=out, mask=None if str(mask) == "-" else mask)
            for raw, out, mask in zip(options.raw, options.out, masks, strict=True)
        ],
        checkpoint=options.checkpoint,
        resources=resources(options),
        part=options.part,
    )


def _calibrate(options: argparse.Namespace) -> None:
    from unet_core.stages.calibrate import calibrate_objects

    section = sections(options)
    calibrate_objects(
        section("calibrate", CalibrateConfig),
        objects=section("objects", ObjectsConfig),
        probabilities=options.probabilities,
        truth=options.truth,
        masks=options.mask,
        out=options.out,
        resources=resources(options),
    )


def _stitch(options: argparse.Namespace) -> None:
    from unet_core.stages.stitch import stitch_labels

    section = sections(options)
    stitch_labels(
        section("stitch", StitchConfig),
        objects=section("objects", ObjectsConfig),
        probabilities=options.probabilities,
        mask=options.mask,
        calibration=options.calibration,
        out=options.out,
        resources=resources(options),
    )


def _score(options: argparse.Namespace) -> None:
    from unet_core.stages.score import score_volume

    section = sections(options)
    score_volume(
        section("score", ScoreConfig),
        objects=section("objects", ObjectsConfig),
        labels=options.labels,
        probabilities=options.probabilities,
        truth=options.truth,
        mask=options.mask,
        calibration=options.calibration,
        out=options.out,
        resources=resources(options),
    )


def _phantom(options: argparse.Namespace) -> None:
    from unet_core.stages.phantom import write_phantom

    write_phantom(shape=tuple(options.shape), seed=options.seed, out=options.out)


def _describe(options: argparse.Namespace) -> None:
    from unet_core.stages.describe import described

    _print(described(options.preset, size=options.size, as_json=options.json))


def _estimate(options: argparse.Namespace) -> None:
    from unet_core.stages.estimate_asked import estimate_asked
    from unet_core.stages.estimate_hardware import Hardware
    from unet_core.stages.estimate_told import told

    given = {
        name: getattr(options, name) for name in ("threads", "gpus", "jobs", "device", "price")
    }
    found = estimate_asked(
        options.configfile,
        mapping("--config", options.config),
        presets=options.presets,
        headers=options.headers,
        hardware=Hardware(**given, nodes=dict(options.nodes), measured=options.measure),
        shape=options.shape,
        dtype=options.dtype,
        channels=options.channels,
    )
    _print(found.as_json() if options.json else told(found))


def _montage(options: argparse.Namespace) -> None:
    from unet_core.stages.montage import draw_montage

    section = sections(options)
    draw_montage(
        section("report", ReportConfig),
        objects=section("objects", ObjectsConfig),
        raw=options.raw,
        probabilities=options.probabilities,
        labels=options.labels,
        truth=options.truth,
        mask=options.mask,
        out=options.out,
    )


def _report(options: argparse.Namespace) -> None:
    from unet_core.stages.report import write_report
    from unet_core.stages.report_expected import predictions

    config, results = mapping("--run", options.run), options.results
    write_report(
        sections(options)("report", ReportConfig),
        manifest=mapping("--manifest", options.manifest),
        results=results,
        out=options.out,
        predict=predictions(config, presets=options.presets, results=results),
    )


_COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "convert": _convert,
    "check": _check,
    "weights": _weights,
    "augment": _augment,
    "import": _import,
    "export": _export,
    "train": _train,
    "infer": _infer,
    "calibrate": _calibrate,
    "stitch": _stitch,
    "score": _score,
    "phantom": _phantom,
    "describe": _describe,
    "estimate": _estimate,
    "montage": _montage,
    "report": _report,
}


if __name__ == "__main__":
    sys.exit(main())
