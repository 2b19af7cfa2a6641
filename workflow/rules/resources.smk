import sys
from functools import cache

from unet_core.config.demand import MOST_JOB_MB, MOST_JOB_MINUTES
from unet_core.config.needs import Files, Needs
from unet_core.config.resources import DRIVER_MB

files = Files(results=Path(workflow.pathvars.apply("<results>")), headers=HEADERS)
needs = Needs(workflow=asked, extent_of=files.extent, method_of=files.method)


def threads_of(rule):
    """Those of a rule, as a profile sets them or else it says: no profile names those of a loop."""
    return workflow.get_rule(rule).resources["_cores"]


def set_resources(name, like):
    """What a profile sets for the rule `like` holds for the rule `name`, made in a loop, too."""
    for source in (like, name):
        given = workflow.resource_settings.overwrite_resources.get(source, {})
        workflow.get_rule(name).resources.update(given)


def given_to(rule, resource, default):
    """The number that a profile sets for a rule."""
    given = workflow.resource_settings._parsed_overwrite_resources.get(rule, {})
    return given[resource].value if resource in given else default


def jobs_at_a_time():
    """Of `--jobs`; one where that says nothing."""
    jobs = workflow.resource_settings.nodes
    return 1 if jobs in (None, sys.maxsize) else jobs


def gpus_of(rule):
    """GPUs that a profile, or else the rule, asks for."""
    return given_to(rule, "gpu", 0)


def asks(kind, stage, volumes=None, warns=True):
    """Memory (`memory_mb`, `driver_mb`) or time (`minutes`): by the work, times the attempt.

    `volumes`: names, or None for the wildcard. Where nothing tells yet how large they are, only
    when the job is due. `warns`: of what no usual cluster has.
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
        if warns:
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
