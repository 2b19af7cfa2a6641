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
    gpus = gpus_of(like)
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
