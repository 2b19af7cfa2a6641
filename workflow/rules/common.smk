import os
import subprocess
import sys
from pathlib import Path
from shlex import quote

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from unet_core.config.workflow import load_workflow
from unet_core.errors import ConfigError
from unet_core.provenance import source_digest

PRESETS = Path(workflow.basedir).parent / "config/models"

HEADERS = Path(".snakemake/unet-headers.json")
"""What the files of volumes say that are not converted yet; written by `check_files`."""

try:
    asked = load_workflow(config, presets=PRESETS)
except ConfigError as error:
    raise WorkflowError(str(error)) from None

# Where the environment was not activated: `.venv/bin/snakemake` finds `.venv/bin/unet-core` too.
search = [os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent)]
os.environ.update(PATH=os.pathsep.join(search))


# Models that are trained, from drawn weights or from those of a file.
trained = [name for name in asked.models if name not in asked.ready]

# Volumes that are inferred by a job of their own.
alone = [name for name, volume in asked.volumes.items() if volume.batch is None]


def any_of(names):
    """Expression that matches these names and nothing else."""
    return "|".join(names) or "(?!)"


wildcard_constraints:
    volume=any_of(asked.volumes),
    model=any_of(asked.predictors),
    image="raw|truth|mask",
    fold="train|validation",


def settings(stage, *names):
    """All that `stage` reads, as one JSON string; `names`: the wildcards it depends on."""
    if not names:
        return asked.settings(stage)
    return lambda wildcards: asked.settings(
        stage, **{name: wildcards[name] for name in names}
    )


def of_fold(pattern):
    """`pattern` for all volumes of the wildcard fold."""
    return lambda wildcards: collect(pattern, volume=sorted(asked.fold(wildcards.fold)))


def if_validated(path):
    """`path` where there is a volume of fold validation, else nothing."""
    return path if asked.fold("validation") else []


def if_calibrated(path):
    """`path` where something reads how objects are made best, and there are volumes to tell."""
    return path if asked.calibrating else []


def if_annotated(path):
    """`path` where the wildcard volume has truth, else nothing."""
    return lambda wildcards: [path] if asked.volumes[wildcards.volume].truth else []


def if_masked(path):
    """`path` where the wildcard volume has a mask, else nothing."""
    return lambda wildcards: [path] if asked.volumes[wildcards.volume].mask else []


def masked(names):
    """Those of the volumes that have a mask."""
    return [name for name in names if asked.volumes[name].mask]


def masks_of(names):
    """`--mask FILE - FILE`, one for each of the volumes, if any has a mask."""

    def given(wildcards, input):
        files = dict(zip(masked(names), input.masks))
        told = [quote(files[name]) if name in files else "-" for name in names]
        return " ".join(["--mask", *told]) if files else ""

    return given


def of_members(pattern):
    """`pattern` for every model of the wildcard model, which may be an ensemble."""
    return lambda wildcards: collect(pattern, model=asked.members(wildcards.model))


def running(wildcards, output):
    """Settings of infer that decide no voxel; `output` keeps them out of the comparison."""
    return asked.running()


def option(flag, name):
    """`flag FILE` where the rule has an input of this name, else nothing."""

    # A function of `input` is not among what Snakemake compares; the input itself is.
    def given(wildcards, input):
        files = [input[name]] if isinstance(input[name], str) else input[name]
        return " ".join(part for file in files for part in (flag, quote(file)))

    return given


def run_of(wildcards, output):
    """The configuration of the run; `output` keeps it out of the comparison."""
    return f"--run {quote(json.dumps(config))} --presets {quote(str(PRESETS))}"


def parent(name, levels=1):
    """The folder `levels` above the output of this name."""
    return lambda wildcards, output: Path(output[name]).parents[levels - 1]


def content(wildcards):
    """Digest of the files: what makes them new, wherever they lie."""
    source = asked.volumes[wildcards.volume].source(wildcards.image)
    return source_digest(source, known=Path(".snakemake/unet-sources.json"))


def pretrained(wildcards):
    """The file of weights that the wildcard model begins with, None where they are drawn."""
    return asked.models[wildcards.model].pretrained.file


def weights_file(wildcards, output):
    """Where that file is; taking `output` keeps this out of the comparison."""
    return pretrained(wildcards)


def weights_content(wildcards):
    """Digest of that file: what makes it new, wherever it lies."""
    file = pretrained(wildcards)
    if not Path(file).is_file():
        raise WorkflowError(
            f"pretrained.file of model {wildcards.model}: nothing at {file}"
        )
    return source_digest(file, known=Path(".snakemake/unet-sources.json"))


def seed_of(wildcards):
    """Of the weights of the wildcard model that are drawn."""
    return asked.models[wildcards.model].train.seed


def if_pretrained(path):
    """`path` where the wildcard model begins with weights of a file, else nothing."""
    return lambda wildcards: [path] if pretrained(wildcards) else []


def location(wildcards, output):
    """Where the files are; taking `output` keeps this out of the comparison."""
    return asked.volumes[wildcards.volume].source(wildcards.image)


def cut_like(wildcards):
    """The raw store that a mask covers voxel for voxel; nothing for other images."""
    store = "<results>/volumes/{volume}/raw.ome.zarr/zarr.json"
    return [store] if wildcards.image == "mask" else []


def archived(wildcards):
    """Files that are gone: Snakemake then takes the store made of them as it is."""
    return asked.volumes[wildcards.volume].absent(wildcards.image)


def check_files():
    """Refuse files that are missing, unreadable or unequal, or do not hold what is asked for."""
    stores = workflow.pathvars.apply("<results>/volumes")
    try:
        names = asked.to_check(stores=Path(stores))
    except ConfigError as error:
        raise WorkflowError(str(error)) from None
    for gone in asked.archived(stores=Path(stores)):
        logger.warning(f"{gone} is gone: the store made of it is used as it is.")
    if names:
        command = ["unet-core", "check", "--sheet", asked.sheet, "--data", asked.data]
        command += ["--headers", str(HEADERS)]
        command += ["--stores", stores, "--config", asked.checked(), "--only", *names]
        run = subprocess.run(command, text=True, stderr=subprocess.PIPE)
        if run.returncode:
            raise WorkflowError(run.stderr.strip())


# Not in the jobs, and not in `--lint`, which alone does not check environment variables either.
if workflow.is_main_process and workflow.check_envvars:
    check_files()
