"""Plans of the workflow for many configurations in one process: JSON in, JSON out.

Standard input: ``[{"folder": ..., "config": {...}}, ...]``. Standard output: for each the jobs
that `snakemake -n` would run, as ``"infer volume=a model=one"``.
"""

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from snakemake.api import (
    ConfigSettings,
    DAGSettings,
    OutputSettings,
    ResourceSettings,
    SnakemakeApi,
)
from snakemake.settings.enums import Quietness

SNAKEFILE = Path(__file__).parents[2] / "workflow/Snakefile"


def plan(folder: Path, config: dict[str, Any]) -> list[str]:
    with contextlib.chdir(folder), SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        workflow = api.workflow(
            resource_settings=ResourceSettings(cores=1),
            config_settings=ConfigSettings(config=config),
            snakefile=SNAKEFILE,
            workdir=folder,
        )
        dag = workflow.dag(DAGSettings())
        dag.execute_workflow(executor="dryrun")
        jobs = workflow._workflow.dag.needrun_jobs(exclude_finished=False)
        return sorted(told(job.rule.name, job.wildcards_dict) for job in jobs)


def told(rule: str, wildcards: dict[str, str]) -> str:
    return " ".join([rule, *(f"{name}={value}" for name, value in wildcards.items())])


if __name__ == "__main__":
    out = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        plans = [plan(Path(case["folder"]), case["config"]) for case in json.load(sys.stdin)]
    json.dump(plans, out)
