import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from shlex import quote

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from unet_core.config.demand import MOST_JOB_MB, MOST_JOB_MINUTES
from unet_core.config.needs import Files, Needs
from unet_core.config.resources import DRIVER_MB
from unet_core.config.workflow import load_workflow
from unet_core.errors import ConfigError
from unet_core.provenance import source_digest

PRESETS = Path(workflow.basedir).parent / "config/models"

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


def threads_of(rule, default):
    """Threads where a rule is made in a loop; those that are set for `rule` hold for it."""
    return workflow.resource_settings.overwrite_threads.get(rule, default)


def set_resources(name, like):
    """What a profile sets for the rule `like` holds for the rule `name`, made in a loop, too."""
    for source in (like, name):
        given = workflow.resource_settings.overwrite_resources.get(source, {})
        workflow.get_rule(name).resources.update(given)


def given_to(rule, resource, default):
    """The number that a profile sets for a rule."""
    given = workflow.resource_settings._parsed_overwrite_resources.get(rule, {})
    return given[resource].value if resource in given else default


spread_out = set()
"""Rules that a profile gives several nodes."""


def over_nodes(rule, like=None, survives=True, volumes=None):
    """Where a profile gives `rule`, or `like`, several nodes: what Slurm is asked for besides.

    They are one job. Its command runs once, on the first node (`mpi`: else within a step of its
    own), and starts the steps itself. `survives`: it goes on without a node that is lost.
    `volumes`: as of `memory_of`.
    """
    like = like or rule
    nodes, jobs = given_to(like, "nodes", 1), given_to(like, "worker_jobs", 0)
    if jobs and (nodes > 1 or not survives):
        raise WorkflowError(
            f"the profile gives {like} worker_jobs, which "
            + ("exclude nodes" if survives else "it cannot use")
            + "; set nodes alone, or worker_jobs alone where the work is done block by block"
        )
    if nodes == 1 and not jobs:
        return
    spread_out.add(like)
    workflow.get_rule(rule).group = None  # such a job shares with no other
    if jobs:
        # The driver's; the workers ask for theirs.
        resources = workflow.get_rule(rule).resources
        resources["worker_mem_mb"] = resources["mem_mb"].with_name("worker_mem_mb")
        resources.update({"gpu": 0, "mem_mb": asks("driver_mb", like, volumes)})
        return
    gpus = given_to(like, "gpu", 0)
    extra = [f"--gpus-per-node={gpus // nodes}"] if gpus else []
    extra += ["--no-kill"] if survives else []
    # One task a node: what it may use (threads) is then that of a node, and is shared out anew.
    resources = {"mpi": "srun", "tasks": nodes, "tasks_per_gpu": -1}
    given = workflow.resource_settings.overwrite_resources.get(like, {})
    workflow.get_rule(rule).resources.update(
        {name: value for name, value in resources.items() if name not in given}
        | {"slurm_extra": besides(like, extra)}
    )


def besides(rule, options):
    """`options` of sbatch, and those that a profile sets for a rule, or else for all."""
    profile = workflow.resource_settings
    given = profile._parsed_overwrite_resources.get(rule, {})
    given = given if "slurm_extra" in given else profile._parsed_default_resources
    if "slurm_extra" not in given:
        return " ".join(options)

    def told(wildcards, input, attempt, threads, rulename, async_run):
        found = given["slurm_extra"].evaluate(
            wildcards,
            input=input,
            attempt=attempt,
            threads=threads,
            rulename=rulename,
            async_run=async_run,
        )
        return " ".join([*([found.value] if found.value else []), *options])

    return told


def shares_of(rule):
    """Nodes, or jobs of workers, that the work of a rule is shared by."""
    return given_to(rule, "worker_jobs", 0) or given_to(rule, "nodes", 1)


def nodes_of(rule):
    """Options of a job on several nodes; taking `output` keeps them out of the comparison.

    `nodes` are those of the job; `worker_jobs` are jobs of their own, which it submits, and which
    share the GPUs.
    """
    jobs = given_to(rule, "worker_jobs", 0)

    def told(wildcards, output, resources):
        if shares_of(rule) == 1 and not jobs:
            return ""
        launcher = "jobqueue" if jobs else "srun"
        network = resources.get("interface")
        spoken = f" --interface {quote(network)}" if network else ""
        if jobs and gpus_of(rule):
            spoken += f" --gpus {gpus_of(rule)}"
        if jobs:  # said after that of the driver, and in its place
            spoken += f" --memory-mb {resources.worker_mem_mb}"
        return f"--nodes {shares_of(rule)} --launcher {launcher}{spoken}"

    return told


def nodes_told():
    """Nodes, or jobs of workers, of all rules that a profile gives several: for the estimate."""
    told = [f"{rule}={shares_of(rule)}" for rule in sorted(spread_out)]
    return " ".join(["--nodes", *told]) if told else ""


HEADERS = Path(".snakemake/unet-headers.json")
"""What the files of volumes say that are not converted yet; written by `check_files`."""

files = Files(results=Path(workflow.pathvars.apply("<results>")), headers=HEADERS)
needs = Needs(workflow=asked, extent_of=files.extent, method_of=files.method)


def number_of_threads(rule, default):
    """The number that a profile sets for a rule."""
    given = workflow.resource_settings._parsed_overwrite_threads
    return given[rule].value if rule in given else default


def jobs_at_a_time():
    """Of `--jobs`; one where that says nothing."""
    jobs = workflow.resource_settings.nodes
    return 1 if jobs in (None, sys.maxsize) else jobs


def gpus_of(rule):
    """GPUs that a profile, or else the rule, asks for."""
    return given_to(rule, "gpu", 0)


def asks(kind, stage, volumes=None):
    """Memory (`memory_mb`, `driver_mb`) or time (`minutes`): by the work, times the attempt.

    `volumes`: names, or None for the wildcard. Where nothing tells yet how large they are, only
    when the job is due.
    """

    def amount(wildcards, input, threads, attempt):
        names = [wildcards.volume] if volumes is None else volumes
        known = {
            name: wildcards[name]
            for name in ("image", "fold", "model")
            if name in wildcards.keys()
        }
        nodes, gpus = shares_of(stage), gpus_of(stage)
        how_many = {"threads": threads, "gpus": gpus}
        if kind == "minutes":
            how_many["nodes"] = nodes
        else:  # of each node
            how_many["gpus"] = -(-gpus // nodes)
        try:
            found = getattr(needs, kind)(stage, volumes=names, **known, **how_many)
        except FileNotFoundError as error:
            if missing := [name for name in input if not Path(name).exists()]:
                raise FileNotFoundError(2, error.strerror, str(missing[0])) from None
            found = UNKNOWN[kind]
        warn_of(kind, stage, "/".join([*names, *known.values()]), found)
        if kind == "memory_mb" and (nodes > 1 or given_to(stage, "worker_jobs", 0)):
            found += DRIVER_MB
        return found * attempt

    return amount


@cache
def warn_of(kind, stage, of, found):
    """Say while planning that no usual cluster has so much, once for each job."""
    most, unit, per = BEYOND[kind]
    if found > most and workflow.is_main_process:
        logger.warning(
            f"{stage} of {of}: asks for {found / per:,.0f} {unit}, more than the "
            f"{most / per:,.0f} of a usual cluster; `snakemake estimate` says what to change."
        )


BEYOND = {
    "memory_mb": (MOST_JOB_MB, "GB of memory", 1000),
    "driver_mb": (MOST_JOB_MB, "GB of memory", 1000),
    "minutes": (MOST_JOB_MINUTES, "days", 24 * 60),
}


@cache
def blocks_of(name):
    """Blocks of a volume, or None where nothing tells; once, as groups must not change in a run."""
    try:
        return files.extent(asked, asked.volumes[name]).blocks
    except FileNotFoundError:
        return None


def threads_up_to(most):
    """One for each block of the volume, at most so many."""
    return lambda wildcards: min(most, blocks_of(wildcards.volume) or most)


def if_small(group):
    """`group` for volumes of one block: `group-components` of a profile says how many of these
    share a job of the cluster, which would take longer to start than to run."""
    return lambda wildcards: group if blocks_of(wildcards.volume) == 1 else None


UNKNOWN = {"memory_mb": 8000, "driver_mb": 8000, "minutes": 120}
"""Where nobody has looked into the file."""


def memory_of(stage, volumes=None):
    """Memory (MB), which grows with each attempt (`retries` of the profile)."""
    return asks("memory_mb", stage, volumes)


def minutes_of(stage, volumes=None):
    """Run time (minutes), which grows with each attempt."""
    return asks("minutes", stage, volumes)


def of_fold(pattern):
    """`pattern` for all volumes of the wildcard fold."""
    return lambda wildcards: collect(pattern, volume=sorted(asked.fold(wildcards.fold)))


def if_validated(path):
    """`path` where there is a volume of fold validation, else nothing."""
    return path if asked.fold("validation") else []


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
