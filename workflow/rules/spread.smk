from unet_core.config.spread import Ways

SLABS = "<results>/volumes/{volume}/{model}/probabilities.ome.zarr.slabs"

several = given_to("infer", "nodes", 1) > 1 or given_to("infer", "worker_jobs", 0) > 0
if (spread := asked.sections["infer"].spread) != "nodes" and several:
    raise WorkflowError(
        "the profile gives infer several nodes (nodes or worker_jobs), which it uses with "
        f"infer.spread: nodes alone, not with {spread}; set one or the other"
    )
if spread == "nodes" and not several:
    raise WorkflowError(
        "infer.spread is nodes, and the profile gives infer one; set its nodes (or worker_jobs) "
        "there, such as set-resources: infer: nodes: 2, or infer.spread: job"
    )

ways = Ways(
    workflow=asked,
    extent_of=files.extent,
    volumes=Path(workflow.pathvars.apply("<results>/volumes")),
    models=Path(workflow.pathvars.apply("<results>/models")),
    kept=Path(".snakemake/unet-slabs.json"),
)


@cache
def way(volume, model):
    """How a volume is inferred; once, as files are made meanwhile."""
    planning = workflow.is_main_process
    return ways.of(
        volume, model, planning=planning, keep=planning and not workflow.dryrun
    )


def slabs_done(wildcards):
    """Markers of all slabs of a volume; none where one job makes the whole."""
    slabs = way(wildcards.volume, wildcards.model).slabs
    return collect(
        f"{SLABS}/{{slab}}.done",
        volume=wildcards.volume,
        model=wildcards.model,
        slab=slabs,
    )


def share_of_slab(wildcards, input, threads, attempt):
    """Minutes of the slowest of equal parts, twice over."""
    whole = asks("minutes", "infer", warns=False)(wildcards, input, threads, attempt)
    parts = len(way(wildcards.volume, wildcards.model).slabs) or 1
    found = min(whole, 10 * attempt + 2 * whole // parts)
    warn_of("minutes", "infer_slab", f"{wildcards.volume}/{wildcards.model}", found)
    return found


def minutes_of_rest(wildcards, input, threads, attempt):
    """Of the whole, or of what is left where its slabs are made."""
    if way(wildcards.volume, wildcards.model).slabs:
        return 20 * attempt
    return minutes_of("infer")(wildcards, input, threads, attempt)


def running_of(wildcards, output):
    """Settings of infer that decide no voxel; `output` keeps them out of the comparison."""
    volume, model = wildcards.volume, wildcards.model
    return asked.running(way(volume, model).slab)


def publishing(wildcards, input):
    """A function of `input` is not compared."""
    return "--publish" if input.slabs else ""


def store_of(wildcards, output):
    """The store whose slabs are made."""
    return str(Path(output[0]).parent.with_suffix(""))
