"""The plan: which jobs there are, what they ask for, and that each stage has its five places."""

import argparse
import json
import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.workflow.conftest import REPOSITORY, Project, environment, plans, rows
from unet_core.config.versions import RESULT_VERSION
from unet_core.config.workflow import READS
from unet_core.options import parser

RULES = [
    path
    for path in sorted((REPOSITORY / "workflow/rules").glob("*.smk"))
    if path.stem not in ("common", "nodes", "resources", "spread")  # functions alone
]
STAGES = [
    *("convert", "weights", "augment", "train", "infer", "calibrate", "stitch", "score", "report"),
]


def count(jobs: set[str]) -> dict[str, int]:
    return dict(Counter(job.split()[0] for job in jobs))


def test_every_volume_and_model_has_its_jobs(fresh: Callable[[], Project]) -> None:
    assert count(fresh().plan()) == {
        "convert": 5 + 4,  # e, to be predicted, has no truth
        "weights": 3,  # of train and validation
        "augment": 2,
        "train": 2,
        "infer": 5 * 2,
        "calibrate": 2,
        "stitch": 5 * 2,
        "score": 4 * 2,
        "montage": 5 * 2,
        "report": 1,
        "all": 1,
    }


def test_volumes_to_predict_get_labels_but_no_scores(fresh: Callable[[], Project]) -> None:
    jobs = fresh().plan()
    assert "stitch volume=e model=one" in jobs
    assert not any(job.startswith(("score volume=e", "weights volume=e")) for job in jobs)


def test_without_validation_nothing_is_calibrated(fresh: Callable[[], Project]) -> None:
    project = fresh()
    project.sheet([row for row in rows() if row[3] != "validation"])
    jobs = project.plan()
    assert "calibrate" not in count(jobs)
    assert "augment fold=validation" not in jobs
    assert "stitch volume=d model=two" in jobs
    assert project.snakemake().returncode == 0


def test_what_nobody_reads_is_not_calibrated(fresh: Callable[[], Project]) -> None:
    project = fresh()
    plain, scored = plans(
        [
            (project, {"stitch": {"method": "threshold"}, "score": {"isbi": isbi}})
            for isbi in (False, True)
        ]
    )
    assert "calibrate" not in count(plain)
    assert "augment fold=validation" in plain
    assert count(scored)["calibrate"] == 2


def test_one_volume_alone_is_enough(fresh: Callable[[], Project]) -> None:
    project = fresh()
    project.sheet(rows()[:1])
    assert count(project.plan(models=["one.yaml"])) == {
        **dict.fromkeys(("weights", "augment", "train", "infer", "stitch", "score"), 1),
        **dict.fromkeys(("montage", "report", "all"), 1),
        "convert": 2,
    }


def test_results_go_where_pathvars_say(fresh: Callable[[], Project]) -> None:
    project = fresh()
    run = project.snakemake("--config", "pathvars={results: some where/else}")
    assert run.returncode == 0, run.stdout
    made = project.folder / "some where/else"
    assert (made / "report/index.html").is_file()
    assert (made / "logs/report/report.log").is_file()
    assert (made / "benchmarks/infer/a.one.tsv").is_file()
    assert not (project.folder / "results").exists()


def test_every_command_is_one_that_unet_core_takes(finished: Project) -> None:
    told = finished.snakemake("-n", "-F", "--printshellcmds").stdout
    commands = re.findall(r"unet-core .* 2> \S+$", told, flags=re.MULTILINE)
    assert {command.split()[1] for command in commands} == {*STAGES, "montage"}
    for command in commands:
        given = shlex.split(command)
        assert given[-2:-1] == ["2>"]
        options = parser().parse_args(given[1:-2])
        assert json.loads(options.config)["version"] == RESULT_VERSION[options.command]
        for path in given_paths(options):
            assert (finished.folder / path).exists(), command


def given_paths(options: argparse.Namespace) -> list[Path]:
    """Stores and files that a command reads."""
    names = ("raw", "truth", "weights", "patches", "validation", "probabilities", "checkpoint")
    given = [getattr(options, name, None) for name in names]
    flat = [path for one in given for path in (one if isinstance(one, list) else [one])]
    return [path for path in flat if isinstance(path, Path)]


def test_a_failed_command_shows_its_message(fresh: Callable[[], Project]) -> None:
    project = fresh()
    project.write(
        "bin/unet-core", '#!/bin/sh\n[ "$1" = check ] || { echo "the reason" >&2; false; }\n'
    )
    (project.folder / "bin/unet-core").chmod(0o755)
    tools = environment()
    run = subprocess.run(
        [
            *(sys.executable, "-m", "snakemake", "--cores", "1"),
            *("--snakefile", str(REPOSITORY / "workflow/Snakefile")),
            *("--workflow-profile", str(REPOSITORY / "profiles/default")),
            *("--config", "models=[one.yaml]", "augment={patch: [1, 188, 188]}"),
        ],
        cwd=project.folder,
        env=tools | {"PATH": f"{project.folder / 'bin'}:{tools['PATH']}"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert run.returncode == 1
    assert "the reason" in run.stdout


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_has_its_five_places(stage: str) -> None:
    rule = (REPOSITORY / f"workflow/rules/{stage}.smk").read_text()
    assert f"unet-core {stage} --config {{params.config:q}}" in rule
    assert (REPOSITORY / f"unet_core/stages/{stage}.py").is_file()
    assert (REPOSITORY / f"tests/stages/test_{stage}.py").is_file()
    assert stage in RESULT_VERSION
    assert stage in READS


def test_every_rule_has_a_log_a_benchmark_and_one_command() -> None:
    text = "\n".join(path.read_text() for path in RULES)
    rules = re.split(r"^rule |^ *checkpoint(?=:)", text, flags=re.MULTILINE)[1:]
    batches = ""  # of infer: made in a loop, without a name of their own
    assert {rule.split(":")[0] for rule in rules} == {
        *(*STAGES, "montage", "import_initial", "infer_prepare", "infer_slab", batches),
    }
    for rule in rules:
        assert all(
            f"    {part}:\n" in rule for part in ("log", "benchmark", "threads", "shell")
        ) or ("threads: " in rule and "    log:\n" in rule and "    benchmark:\n" in rule)
        assert "2> {log:q}" in rule
        assert "retries" not in rule
        # Snakemake removes what is temporary, the declared file alone: markers of slabs.
        assert not re.search(r"config\[|directory\(|protected\(|temp\((?!f\"\{SLABS\}/)", rule)


def test_the_link_for_slurm_leads_to_the_profile() -> None:
    link = REPOSITORY / "slurm"
    assert link.is_symlink()
    assert link.resolve() == REPOSITORY / "profiles/slurm"


@pytest.mark.parametrize("path", sorted(REPOSITORY.glob("profiles/*/config.yaml")), ids=str)
def test_a_profile_names_rules_that_exist(path: Path) -> None:
    profile = yaml.safe_load(path.read_text())
    assert set(profile.get("set-resources", {})) <= {*STAGES, "montage"}
    if path.parent.name != "default":
        assert "retries" in profile or path.parent.name == "local"
        return
    # It is read by every run, so that it may hold nothing a user would want to set elsewhere.
    assert not set(profile) & {"cores", "jobs", "executor", "default-resources", "retries"}


def test_gpus_are_asked_for_by_the_slurm_profile_alone() -> None:
    profile = yaml.safe_load((REPOSITORY / "profiles/slurm/config.yaml").read_text())
    assert {name for name, r in profile["set-resources"].items() if r.get("gpu")} == {
        "train",
        "infer",
    }
    for stage in ("train", "infer"):
        rule = (REPOSITORY / f"workflow/rules/{stage}.smk").read_text()
        assert "gpu=0" in rule
        assert "--gpus {resources.gpu}" in rule


def test_parsing_the_workflow_imports_nothing_heavy(finished: Project) -> None:
    code = (
        "import json, sys\n"
        "from snakemake.cli import main\n"
        "try:\n"
        "    main(sys.argv[1:])\n"
        "except SystemExit:\n"
        "    pass\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))\n"
    )
    run = subprocess.run(
        [
            *(sys.executable, "-c", code, "-n", "--cores", "1"),
            *("--snakefile", str(REPOSITORY / "workflow/Snakefile")),
            *("--configfile", "overlay.yaml"),
        ],
        cwd=finished.folder,
        env=environment(),
        text=True,
        stdout=subprocess.PIPE,
    )
    loaded = set(json.loads(run.stdout.splitlines()[-1]))
    assert "unet_core" in loaded
    assert not loaded & {"torch", "zarr", "dask", "distributed", "scipy", "matplotlib", "numba"}
