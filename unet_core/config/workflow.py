"""What config.yaml, its presets and the volume sheet ask of the workflow, stage by stage.

Standard library, pydantic and yaml only: the Snakefile imports this at every parse.
"""

import dataclasses
import difflib
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from unet_core.config.base import Zyx
from unet_core.config.data import AugmentConfig, ConvertConfig, TruthConfig, WeightsConfig
from unet_core.config.inference import InferConfig
from unet_core.config.load import canonical, load
from unet_core.config.presets import (
    MODEL_SECTIONS,
    Model,
    check_model,
    read_ensembles,
    read_models,
    section_of,
)
from unet_core.config.result import (
    CalibrateConfig,
    ObjectsConfig,
    ReportConfig,
    ScoreConfig,
    StitchConfig,
)
from unet_core.config.sheet import IMAGES, Volume, locate, read_sheet
from unet_core.config.unread import PAGE_ONLY, RUNNING, TRAINING_ONLY
from unet_core.config.versions import RESULT_VERSION
from unet_core.errors import ConfigError

SECTIONS: dict[str, Any] = {
    "convert": ConvertConfig,
    "truth": TruthConfig,
    "weights": WeightsConfig,
    "augment": AugmentConfig,
    "infer": InferConfig,
    "objects": ObjectsConfig,
    "calibrate": CalibrateConfig,
    "stitch": StitchConfig,
    "score": ScoreConfig,
    "report": ReportConfig,
}
"""Sections that hold for the whole workflow."""

READS: dict[str, tuple[str, ...]] = {
    "convert": ("convert",),
    "weights": ("weights",),
    "augment": ("augment",),
    "import": ("pretrained", "model"),
    "train": ("train", "model"),
    "infer": ("infer",),
    "calibrate": ("calibrate", "objects"),
    "stitch": ("stitch", "objects"),
    "score": ("score", "objects"),
    "montage": ("report", "objects"),
    "report": ("report",),
}
"""Stage to the sections it reads; `settings` adds what depends on the volume."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workflow:
    """All that the rules ask: volumes, models, and the settings of each stage."""

    volumes: dict[str, Volume]
    models: dict[str, Model]
    ensembles: dict[str, tuple[str, ...]]
    """Name to the models whose probabilities are averaged."""

    sections: dict[str, Any]
    sheet: str
    """File of the volume sheet."""

    data: str
    """Folder of relative raw and truth files."""

    def fold(self, *folds: str) -> list[str]:
        """Names of the volumes in `folds`."""
        return [name for name, volume in self.volumes.items() if volume.fold in folds]

    @property
    def calibrating(self) -> list[str]:
        """Names of the volumes that calibrate looks at; none where nothing reads what it finds."""
        read = self.sections["stitch"].method == "calibrated" or self.sections["score"].isbi
        return self.fold("validation") if read else []

    @cached_property
    def batches(self) -> dict[str, list[str]]:
        """Names of the batches, and of the volumes that are inferred together in each."""
        batches: dict[str, list[str]] = {}
        for name, volume in self.volumes.items():
            if volume.batch is not None:
                batches.setdefault(volume.batch, []).append(name)
        return batches

    @cached_property
    def predictors(self) -> list[str]:
        """Names of the models and ensembles: what probabilities are made with."""
        return [*self.models, *self.ensembles]

    @property
    def ready(self) -> list[str]:
        """Names of the models that are used as they were trained before."""
        return [name for name, model in self.models.items() if not model.train.steps]

    def members(self, predictor: str) -> tuple[str, ...]:
        """The models of an ensemble; of a model itself."""
        return self.ensembles.get(predictor, (predictor,))

    @cached_property
    def scored(self) -> list[str]:
        """Names of the volumes that are compared with their truth."""
        return self.fold("train", "validation", "test")

    def settings(
        self,
        stage: str,
        *,
        volume: str | None = None,
        image: str | None = None,
        fold: str | None = None,
        model: str | None = None,
    ) -> str:
        """Canonical JSON of all that `stage` reads, and of its version; nothing else.

        Parameters
        ----------
        stage
            Key of READS.
        volume, image
            For convert: the row of the sheet, and one of IMAGES.
        fold
            For augment: train or validation.
        model
            For import and train: the preset. For infer: a preset or an ensemble.
        """
        own = stage in ("import", "train")
        chosen = self.models[model] if own and model is not None else None
        read: dict[str, Any] = {
            name: dataclasses.asdict(
                getattr(chosen, name) if name in MODEL_SECTIONS else self.sections[name]
            )
            for name in READS[stage]
        }
        if volume is not None:
            read["volume"] = dataclasses.asdict(self.volumes[volume].settings)
        if image == "truth":
            read["truth"] = dataclasses.asdict(self.sections["truth"])
        if stage == "augment":
            unread = ("validation_patches",) if fold == "train" else TRAINING_ONLY
            read["augment"] = _without(read["augment"], unread)
        if stage == "infer" and model is not None:
            read["infer"] = _without(read["infer"], RUNNING)
        if stage == "import":
            read["pretrained"] = _without(read["pretrained"], ("file",))
            given = read["pretrained"]["normalise"]
            read["pretrained"]["normalise"] = given or self.sections["augment"].normalise
        if stage == "montage":
            read["report"] = _without(read["report"], PAGE_ONLY)
        return canonical({"version": RESULT_VERSION[stage], **read})

    def running(self, slab: Zyx | None = None) -> str:
        """Canonical JSON of the settings of infer that decide no voxel.

        `slab`: what infer.slab stands for.
        """
        settings = dataclasses.asdict(self.sections["infer"])
        settings["slab"] = slab or settings["slab"]
        return canonical({key: settings[key] for key in RUNNING})

    def manifest(self) -> str:
        """Canonical JSON of what the report speaks of: volumes, models and ensembles."""
        volumes = [
            {"name": name, "fold": volume.fold, "truth": volume.truth is not None}
            | ({"batch": volume.batch} if volume.batch else {})
            for name, volume in self.volumes.items()
        ]
        named = {"models": list(self.models), "ensembles": self.ensembles}
        return canonical({"volumes": volumes, **named})

    def to_check(self, *, stores: Path) -> list[str]:
        """Names of the volumes to look at: those with files that are not converted yet.

        These files must be there. Every volume where infer asks for a region or a coarser level.

        Parameters
        ----------
        stores
            The folder results/volumes.

        Raises
        ------
        ConfigError
            Naming every row whose files are missing.
        """
        new = [
            (volume, image) for volume, image, store in self._images(stores) if not store.exists()
        ]
        problems = [
            f"{volume.row}: {image}: nothing at {volume.source(image)}"
            for volume, image in new
            if volume.absent(image)
        ]
        if problems:
            raise ConfigError(
                "\n".join(problems)
                + "\ncorrect the column, or say where the files are with the setting data "
                "(--config data=FOLDER)"
            )
        infer = self.sections["infer"]
        if infer.region is not None or infer.downsample != (1, 1, 1):
            return list(self.volumes)
        return list(dict.fromkeys(volume.name for volume, _ in new))

    def checked(self) -> str:
        """Canonical JSON of the settings that `unet-core check` holds the volumes against."""
        read = {name: dataclasses.asdict(self.sections[name]) for name in ("convert", "infer")}
        channels = {name: model.model.channels for name, model in self.models.items()}
        return canonical({**read, "channels": channels})

    def archived(self, *, stores: Path) -> list[str]:
        """Files that are gone, but were converted before."""
        return [
            source
            for volume, image, store in self._images(stores)
            for source in volume.absent(image)
            if store.exists()
        ]

    def _images(self, stores: Path) -> Iterator[tuple[Volume, str, Path]]:
        """Every raw, truth and mask, and the file that says it is converted."""
        for volume in self.volumes.values():
            for image in IMAGES:
                if volume.has(image):
                    yield volume, image, stores / volume.name / f"{image}.ome.zarr/zarr.json"


def load_workflow(config: Mapping[str, Any], *, presets: Path) -> Workflow:
    """Everything config.yaml (overlays merged) asks for, checked.

    Parameters
    ----------
    config
        As Snakemake read it.
    presets
        Folder of the workflow's own presets, NAME.yaml.

    Raises
    ------
    ConfigError
        Naming the key or the row, what was given, what is needed and what to do.
    """
    _check_keys(config)
    data = locate(_text(config, "data", "."), Path(), row="data")
    sheet = _text(config, "volumes", "config/volumes.tsv")
    models = read_models(config, presets)
    workflow = Workflow(
        volumes={volume.name: volume for volume in read_sheet(Path(sheet), data=Path(data))},
        models=models,
        ensembles=read_ensembles(config, models),
        sections={
            name: load(schema, section_of(config, name), section=name)
            for name, schema in SECTIONS.items()
        },
        sheet=sheet,
        data=data,
    )
    if len(workflow.ready) < len(models) and not workflow.fold("train"):
        raise ConfigError(
            f"{sheet}: no volume of fold train, so there is nothing to train on; set fold to "
            "train for at least one volume with truth"
        )
    _check_ids(workflow.sections["truth"], workflow.sections["weights"])
    for name, model in workflow.models.items():
        read = ("truth", "weights", "augment", "infer", "objects")
        check_model(name, model, **{key: workflow.sections[key] for key in read})
        _check_validated(name, model, workflow)
    return workflow


def _check_ids(truth: TruthConfig, weights: WeightsConfig) -> None:
    """What is learnt across sections needs objects that run through them."""
    along_z = [list(offset) for offset in weights.affinities if offset[0]]
    if (truth.kind, truth.objects) == ("binary", "section") and (
        along_z or weights.distances == "volume"
    ):
        told = f"weights.affinities {along_z[0]}" if along_z else "weights.distances volume"
        raise ConfigError(
            f"{told} compares objects of several sections, but truth.objects section makes others "
            "in each; set truth.objects to volume, or learn and measure within sections alone"
        )


def _check_validated(name: str, model: Model, workflow: Workflow) -> None:
    """Training that goes by volumes of fold validation needs one."""
    by_scores = model.train.steps > 0 and model.train.schedule == "plateau"
    if by_scores and not workflow.fold("validation"):
        raise ConfigError(
            f"train.schedule plateau of model {name} goes by volumes of fold validation, and "
            f"{workflow.sheet} has none; add one, or set train.schedule to constant, cosine, poly "
            "or stairs"
        )


def _check_keys(config: Mapping[str, Any]) -> None:
    known = {
        "": ("pathvars", "data", "volumes", "models", "ensembles", *MODEL_SECTIONS, *SECTIONS),
        "pathvars.": ("results", "logs", "benchmarks"),
    }
    for prefix, names in known.items():
        for key in section_of(config, "pathvars") if prefix else config:
            if key not in names:
                near = difflib.get_close_matches(str(key), names, n=1)
                hint = f"did you mean {prefix}{near[0]}?" if near else f"known: {', '.join(names)}"
                raise ConfigError(f"unknown setting {prefix}{key}; {hint}")


def _text(config: Mapping[str, Any], key: str, default: str) -> str:
    value = config.get(key)
    if value is None or value == "":
        return default
    if not isinstance(value, str):
        raise ConfigError(f"{key} must be a path, got {value!r}")
    return value


def _without(settings: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in keys}
