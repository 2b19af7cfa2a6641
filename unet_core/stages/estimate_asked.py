"""What `unet-core estimate` is asked: configuration files laid over each other, or a shape."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from unet_core.config.data import VolumeConfig
from unet_core.config.extent import Extent, described
from unet_core.config.load import load
from unet_core.config.needs import Files
from unet_core.config.presets import read_ensembles, read_models, section_of
from unet_core.config.sheet import Volume
from unet_core.config.workflow import SECTIONS, Workflow, load_workflow
from unet_core.errors import ConfigError
from unet_core.stages.estimate import Estimate, estimate_run
from unet_core.stages.estimate_hardware import Hardware

TOLD = "described"
"""Name of a volume of which a shape alone is given."""


def estimate_asked(
    configfiles: Sequence[Path],
    config: Mapping[str, Any],
    *,
    presets: Path,
    headers: Path,
    hardware: Hardware,
    shape: Sequence[int] | None = None,
    dtype: str = "uint8",
    channels: int = 1,
) -> Estimate:
    """How much the run of a configuration takes, or the prediction of one volume of `shape`.

    Parameters
    ----------
    configfiles, config
        Laid over each other in this order, as Snakemake does.
    headers
        What `unet-core check --headers` has written, if it was run.

    Raises
    ------
    ConfigError
        If a file is no configuration, or a setting is wrong.
    """
    whole: dict[str, Any] = {}
    for path in configfiles:
        _lay(whole, _read(path))
    _lay(whole, config)
    results = Path(section_of(whole, "pathvars").get("results") or "results")
    files = Files(results=results, headers=headers)
    if shape is None:
        flow = load_workflow(whole, presets=presets)
        return estimate_run(flow, files=files, hardware=hardware)
    flow = _of_one(whole, presets)
    told = described(flow.sections["convert"], shape, channels=channels, dtype=dtype)
    extents: dict[str, Extent] = {TOLD: told}
    return estimate_run(flow, files=files, hardware=hardware, extents=extents)


def _of_one(config: Mapping[str, Any], presets: Path) -> Workflow:
    """The settings and models, and one volume to be predicted."""
    volume = Volume(
        name=TOLD,
        raw="",
        truth=None,
        mask=None,
        fold="predict",
        settings=VolumeConfig(),
        batch=None,
        row="--shape",
    )
    models = read_models(config, presets)
    return Workflow(
        volumes={TOLD: volume},
        models=models,
        ensembles=read_ensembles(config, models),
        sections={
            name: load(schema, section_of(config, name), section=name)
            for name, schema in SECTIONS.items()
        },
        sheet="",
        data="",
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--configfile {path} cannot be read ({error})") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"--configfile {path} is not YAML: {error}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"--configfile {path} holds no settings")
    return found


def _lay(under: dict[str, Any], over: Mapping[str, Any]) -> None:
    """Put the settings of `over` on those of `under`, section by section."""
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(under.get(key), dict):
            _lay(under[key], value)
        else:
            under[key] = value
