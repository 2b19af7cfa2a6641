"""Configurations of real volumes, on these volumes: nothing is computed, all is looked at."""

from pathlib import Path

import pytest

from tests.workflow.conftest import REPOSITORY, snakemake

FOLDERS = {"ovule": "ovule-cells3d", "fib-medulla": "fib-medulla", "fib-medulla-3d": "fib-medulla"}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_dry_run_finds_the_files_and_fits_the_network(
    name: str, real_data: Path, tmp_path: Path
) -> None:
    data = real_data / FOLDERS[name]
    if not data.exists():
        pytest.skip(f"no {FOLDERS[name]} in UNET_TEST_DATA")
    run = snakemake(
        REPOSITORY,
        *("-n", "--directory", str(tmp_path)),
        *("--configfile", str(REPOSITORY / f"config/{name}.yaml")),
        *("--config", f"data={data}", f"volumes={REPOSITORY}/config/{volumes_of(name)}"),
    )
    assert run.returncode == 0, run.stdout
    for rule in ("convert", "augment", "train", "infer", "stitch", "score", "report"):
        assert f"rule {rule}" in run.stdout, rule


def volumes_of(name: str) -> str:
    """File of the volume sheet."""
    return f"{name.removesuffix('-3d')}.tsv"
