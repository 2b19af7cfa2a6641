"""What the jobs of a run were expected to take, from its configuration."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from unet_core.config.expected import Expected, expected
from unet_core.config.needs import Files, Needs
from unet_core.config.workflow import load_workflow
from unet_core.errors import ConfigError
from unet_core.stages.report_given import Given
from unet_core.stages.report_parts import Part

Predict = Callable[[str, str, Sequence[Part]], Expected | None]
"""Of stage, name and jobs; None where it is not known."""


def unpredicted(stage: str, name: str, parts: Sequence[Part]) -> Expected | None:
    """Where no configuration is given."""
    return None


def predictions(config: Mapping[str, Any], *, presets: Path, results: Path) -> Predict:
    """What was expected of each job with the threads and GPUs that it was given.

    `config`: the whole configuration of the run; nothing is known where it is empty.

    Raises
    ------
    ConfigError
        If it is none.
    """
    if not config:
        return unpredicted
    flow = load_workflow(config, presets=presets)
    files = Files(results=results, headers=Path(".snakemake/unet-headers.json"))
    needs = Needs(workflow=flow, extent_of=files.extent, method_of=files.method)

    def predict(stage: str, name: str, parts: Sequence[Part]) -> Expected | None:
        largest = max(parts, key=lambda part: part.memory or 0)
        given = largest.given or Given(1, 0, None, None)
        how = {"threads": given.threads, "gpus": given.gpus, "nodes": given.nodes}
        try:  # what is left of other volumes or models has a benchmark, too
            return expected(needs, stage, name, slabs=max(0, len(parts) - 2), **how)
        except (FileNotFoundError, KeyError, ConfigError):
            return None

    return predict
