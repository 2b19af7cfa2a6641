"""Presets of config/models: a network and its recipe, overridden by config.yaml, checked."""

import dataclasses
import difflib
from collections.abc import Mapping
from math import lcm
from pathlib import Path
from typing import Any

import yaml

from unet_core.config.affinities import check_affinities
from unet_core.config.base import Zyx
from unet_core.config.data import AugmentConfig, TruthConfig, WeightsConfig
from unet_core.config.inference import InferConfig
from unet_core.config.load import load
from unet_core.config.networks.geometry import geometry_of, nearest_patch
from unet_core.config.networks.settings import ENCODERS, NetworkConfig
from unet_core.config.pretrained import PretrainedConfig
from unet_core.config.result import ObjectsConfig
from unet_core.config.training import TrainConfig
from unet_core.config.windowed import in_windows, windows_for
from unet_core.errors import ConfigError, PlanError

PRESETS = Path(__file__).parents[2] / "config" / "models"
"""Folder of the presets of this repository."""

FAMILY = "ENCODER"
"""In the name of a preset and in its ``model.encoder`` stands for every backbone."""

MODEL_SECTIONS: dict[str, Any] = {
    "model": NetworkConfig,
    "train": TrainConfig,
    "pretrained": PretrainedConfig,
}
"""Sections of a preset; in config.yaml they override every preset."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """A preset of config/models, with what config.yaml overrides."""

    model: NetworkConfig
    train: TrainConfig
    pretrained: PretrainedConfig


def read_models(config: Mapping[str, Any], presets: Path) -> dict[str, Model]:
    """The presets that `config` lists, by name; ConfigError where one is none."""
    names = config.get("models")
    if isinstance(names, str):
        names = [names]
    if not (isinstance(names, list) and names and all(isinstance(n, str) for n in names)):
        raise ConfigError(
            f"models must list at least one preset of {presets}, such as [small], got {names!r}"
        )
    models: dict[str, Model] = {}
    for name in names:
        path = _preset(name, presets)
        if path.stem in models:
            raise ConfigError(f"models: {path.stem} stands there twice")
        models[path.stem] = read_model(path, config)
    return models


def read_ensembles(
    config: Mapping[str, Any], models: Mapping[str, Model]
) -> dict[str, tuple[str, ...]]:
    """Name of each ensemble to the names of its models, sorted: their order counts for nothing.

    Raises
    ------
    ConfigError
        If a name is taken, a member is none of `models`, or members do not agree in channels and
        classes.
    """
    found: dict[str, tuple[str, ...]] = {}
    for name, members in section_of(config, "ensembles").items():
        key = f"ensembles.{name}"
        _check_name("ensembles", str(name))
        if name in models:
            raise ConfigError(f"{key}: a model has this name; rename the ensemble")
        if not (isinstance(members, list) and len({str(m) for m in members}) == len(members) > 1):
            raise ConfigError(
                f"{key} must list at least two models, each once, such as [small, paper]; got "
                f"{members!r}"
            )
        for member in members:
            if member not in models:
                near = difflib.get_close_matches(str(member), models, n=1)
                hint = f"did you mean {near[0]}?" if near else f"models: {', '.join(models)}"
                raise ConfigError(f"{key}: {member} is not among models; {hint}")
        kinds = {member: models[member].model for member in members}
        if len({(net.channels, net.classes) for net in kinds.values()}) > 1:
            told = (f"{m} has {net.channels} and {net.classes}" for m, net in kinds.items())
            raise ConfigError(
                f"{key}: members must have the same model.channels and model.classes, for their "
                f"probabilities are averaged; {', '.join(told)}"
            )
        found[str(name)] = tuple(sorted(members))
    return found


def _preset(name: str, presets: Path) -> Path:
    """A name is one of `presets`; anything that ends with .yaml is a path."""
    path = Path(name) if name.endswith(".yaml") else presets / f"{name}.yaml"
    if not file_of(path)[0].is_file():
        known = sorted(p.stem for p in presets.glob("*.yaml"))
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)}"
        raise ConfigError(f"models: no preset {name} ({path} is missing); {hint}")
    _check_name("models", path.stem)
    return path


def _check_name(key: str, name: str) -> None:
    if not name.replace("-", "").replace("_", "").isalnum():
        raise ConfigError(
            f"{key}: {name!r} cannot name a folder; use letters, digits, - and _ only"
        )


def read_model(path: Path, config: Mapping[str, Any]) -> Model:
    """A preset, overridden by the sections model, train and pretrained of `config`.

    Raises
    ------
    ConfigError
        If it cannot be read, or holds what is no setting.
    """
    preset = _sections(path)
    try:
        built = {
            name: load(
                schema, {**section_of(preset, name), **section_of(config, name)}, section=name
            )
            for name, schema in MODEL_SECTIONS.items()
        }
    except ConfigError as error:
        raise ConfigError(f"{error} (model {path.stem}: {path} and config.yaml)") from None
    if not built["train"].steps and built["pretrained"].file is None:
        raise ConfigError(
            f"train.steps is 0 and pretrained.file is not set (model {path.stem}): there are no "
            "weights; set either"
        )
    if built["train"].frozen != "none" and built["pretrained"].file is None:
        raise ConfigError(
            f"train.frozen is {built['train'].frozen} and pretrained.file is not set (model "
            f"{path.stem}): the encoder would stay as it is drawn; set pretrained.file to weights "
            "for it, or train.frozen to none"
        )
    return Model(**built)


def read_network(path: Path) -> NetworkConfig:
    """The network of a preset.

    Raises
    ------
    ConfigError
        If it cannot be read, or holds what is no setting.
    """
    return load(NetworkConfig, section_of(_sections(path), "model"), section="model")


def file_of(path: Path) -> tuple[Path, str | None]:
    """The file of a preset, and the backbone that stands for ENCODER in it.

    ``NAME_ENCODER.yaml`` serves all ``NAME_<backbone>.yaml`` that are no files themselves.
    """
    if not path.is_file():
        for family in sorted(path.parent.glob(f"*_{FAMILY}.yaml")):
            encoder = path.stem.removeprefix(family.stem.removesuffix(FAMILY))
            if encoder in ENCODERS and encoder != path.stem:
                return family, encoder
    return path, None


def _sections(path: Path) -> Mapping[str, Any]:
    """What stands in a preset."""
    file, encoder = file_of(path)
    try:
        preset = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}); give a preset") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from None
    if not isinstance(preset, Mapping) or set(preset) - set(MODEL_SECTIONS):
        raise ConfigError(
            f"{path}: a preset has the sections model, train and pretrained only, got {preset!r}"
        )
    network = section_of(preset, "model")
    if network.get("encoder") == FAMILY and encoder is not None:
        preset = {**preset, "model": {**network, "encoder": encoder}}
    return preset


def check_model(
    name: str,
    chosen: Model,
    *,
    truth: TruthConfig,
    weights: WeightsConfig,
    augment: AugmentConfig,
    infer: InferConfig,
    objects: ObjectsConfig,
) -> None:
    """Refuse settings that are right each by itself, but do not fit the network."""
    net, patch = chosen.model, augment.patch
    fits = nearest_patch(net, patch)
    if patch != fits:
        raise ConfigError(
            f"augment.patch {list(patch)} is no input size of model {name} (dimensions "
            f"{net.dimensions}, sections {net.sections}, depth {net.depth}, padding "
            f"{net.padding}); the nearest that is: {list(fits)}"
        )
    if augment.jitter == "colours" and net.channels != 3:
        raise ConfigError(
            "augment.jitter colours needs red, green and blue, but model.channels of model "
            f"{name} is {net.channels}; set augment.jitter to normalised"
        )
    _check_tile(name, net, infer)
    _check_windows(name, net, infer, patch)
    _check_classes(name, net, infer, objects)
    if chosen.train.steps:
        _check_class_weights(name, chosen, weights)
        _check_affinities(name, net, weights, truth, infer, patch)


def _check_tile(name: str, net: NetworkConfig, infer: InferConfig) -> None:
    tile, windowed = infer.tile_px, in_windows(infer, net)
    stride = 1 if windowed else lcm(*geometry_of(net).stride)
    step = lcm(stride, *infer.downsample[3 - net.dimensions :])
    if tile != "auto" and tile % step:
        nearest = max(step, round(tile / step) * step)
        of = [f"{stride} (the stride of model {name})"] * (not windowed)
        of += [f"infer.downsample {list(infer.downsample)}"] * (step != stride)
        raise ConfigError(
            f"infer.tile_px {tile} is not a multiple of {' and of '.join(of)}; the nearest that "
            f"is: {nearest}"
        )


def _check_windows(name: str, net: NetworkConfig, infer: InferConfig, patch: Zyx) -> None:
    try:
        windows_for(infer, net, shape=(2**20,) * 3, patch=patch)
    except PlanError as error:
        raise ConfigError(f"{error} (model {name})") from None


def _check_classes(
    name: str, net: NetworkConfig, infer: InferConfig, objects: ObjectsConfig
) -> None:
    stored = infer.stored(net.classes)
    if len(objects.classes) > 1 and net.output == "softmax":
        raise ConfigError(
            f"objects.foreground {list(objects.classes)} is for model.output sigmoid, model {name} "
            "has softmax, whose probabilities add up to 1: their mean is none; give one class"
        )
    if stored[-1] >= net.classes:
        raise ConfigError(
            f"infer.classes {list(stored)}: class {stored[-1]} is none of model {name}, which has "
            f"model.classes {net.classes} (0 to {net.classes - 1})"
        )
    if stored[0] == 0 and net.output == "sigmoid":
        raise ConfigError(
            f"infer.classes {list(stored)}: model {name} has model.output sigmoid, which predicts "
            "every class but 0; leave 0 out"
        )
    for foreground in objects.classes:
        if foreground >= net.classes:
            raise ConfigError(
                f"objects.foreground {foreground} is no class of model {name}, which has "
                f"model.classes {net.classes} (0 to {net.classes - 1})"
            )
        if foreground not in stored:
            raise ConfigError(
                f"objects.foreground {foreground} is not among infer.classes {list(stored)}, so "
                "its probabilities would not be stored and no objects could be made of them; add "
                "it to infer.classes"
            )


def _check_class_weights(name: str, chosen: Model, weights: WeightsConfig) -> None:
    given, classes = chosen.train.class_weights, chosen.model.classes
    needed = 2 if weights.affinities else classes
    if not isinstance(given, str) and len(given) != needed:
        of = "pairs apart and together" if weights.affinities else f"model.classes {classes}"
        raise ConfigError(
            f"train.class_weights {list(given)} has {len(given)} values, model {name} needs "
            f"{needed} ({of}); give so many, or uniform or inverse_frequency"
        )


def _check_affinities(
    name: str,
    net: NetworkConfig,
    weights: WeightsConfig,
    truth: TruthConfig,
    infer: InferConfig,
    patch: Zyx,
) -> None:
    if weights.affinities and truth.holds_classes:
        raise ConfigError(
            f"weights.affinities needs objects, truth.kind is {truth.kind}; set it to instances or "
            "binary, or leave weights.affinities empty"
        )
    check_affinities(weights.affinities, net, patch, of=f"model {name}")
    if weights.affinities and infer.averaging != "none":
        raise ConfigError(
            f"infer.averaging {infer.averaging} is not for weights.affinities: in a view that is "
            "flipped or turned, an offset leads to another voxel; set infer.averaging to none"
        )


def section_of(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The settings of one section; none where it is left out or empty.

    Raises
    ------
    ConfigError
        If it is no mapping.
    """
    value = config.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name} must be a mapping of settings, got {value!r}")
    return value
