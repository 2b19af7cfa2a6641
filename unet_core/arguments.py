"""What was given on the command line, as values: settings, resources."""

import argparse
import json
import logging
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_core.config import Resources, load
from unet_core.config.versions import RESULT_VERSION
from unet_core.errors import ConfigError

if TYPE_CHECKING:
    from unet_core.io.model_package import About


@contextmanager
def telling(options: argparse.Namespace) -> Iterator[None]:
    """Log what the job was given, and in the end what it took, which the report compares."""
    if not hasattr(options, "memory_mb"):
        yield
        return
    told = f"threads={options.threads} gpus={options.gpus} nodes={options.nodes}"
    told += f" memory_mb={options.memory_mb} slurm_job={os.environ.get('SLURM_JOB_ID')}"
    logging.info("given: %s", told)
    try:
        yield
    finally:  # Snakemake looks now and then, and never at a job's end
        used = [resource.getrusage(of) for of in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        cpu_s = sum(each.ru_utime + each.ru_stime for each in used)
        logging.info("took: cpu_s=%.2f memory_mb=%.0f", cpu_s, _peak_mb())


def _peak_mb() -> float:
    """Most resident memory of this process; 0 where the system does not tell.

    Not by getrusage, which tells that of the program this process was before `exec`, too.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) * 1.024e-3 for line in lines if line[:6] == "VmHWM:"), 0.0)


def given_of(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """What was given of settings that have an option of their own."""
    given = {name: getattr(options, name) for name in names}
    return {name: value for name, value in given.items() if value is not None}


def sections(options: argparse.Namespace, **besides: dict[str, Any]) -> Callable[[str, type], Any]:
    """Reader of the stage's sections of settings; a version that is not this code's is refused.

    `besides`: settings of a section that `--config` does not hold.
    """
    settings = mapping("--config", options.config)
    here = RESULT_VERSION[options.command]
    if (given := settings.pop("version", here)) != here:
        raise ConfigError(
            f"--config asks for version {given} of {options.command}, this is version {here}: "
            "workflow and installed unet-core differ; reinstall with `pip install -e .`"
        )

    def section(name: str, schema: type) -> Any:
        given = settings.get(name) or {}
        if name in besides and isinstance(given, dict):
            given = given | besides[name]
        return load(schema, given, section=name)

    return section


def mapping(option: str, text: str) -> dict[str, Any]:
    """A JSON mapping; ConfigError where it is none."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{option} is not JSON ({error}): {text!r}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{option} must be a JSON mapping, got {text!r}")
    return value


def resources(options: argparse.Namespace) -> Resources:
    """What a stage may use."""
    return Resources(
        threads=options.threads,
        gpus=options.gpus,
        memory_mb=options.memory_mb,
        lease_s=options.lease_s,
        nodes=options.nodes,
        launcher=options.launcher,
        interface=options.interface,
    )


def about_of(options: argparse.Namespace) -> "About | None":
    """What a package says of where it comes from; None where author or license is not given."""
    from unet_core.io.model_package import About

    if not (options.author and options.license):
        return None
    name = options.name or options.out.stem
    return About(
        name,
        options.description or name,
        tuple(options.author),
        options.license,
        tuple(options.cite),
    )
