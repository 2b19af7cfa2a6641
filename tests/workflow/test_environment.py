"""pyproject.toml, environment.yml and requirements.lock name the same libraries."""

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[2]
CONDA = {"torch": "pytorch", "snakemake": "snakemake-minimal", "matplotlib": "matplotlib-base"}
"""Libraries that are called otherwise on conda-forge and bioconda."""


def project() -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    return table


def pinned() -> dict[str, str]:
    lines = (REPOSITORY / "requirements.lock").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def test_the_conda_environment_is_that_of_the_package() -> None:
    listed = yaml.safe_load((REPOSITORY / "environment.yml").read_text())["dependencies"]
    (from_pip,) = (entry["pip"] for entry in listed if isinstance(entry, dict))
    assert from_pip[-1] == "-e ."
    plain = {entry for entry in listed if isinstance(entry, str)} | set(from_pip[:-1])
    wanted = {Requirement(text) for text in project()["dependencies"]}
    assert plain - {"pip"} == {
        f"{CONDA.get(need.name, need.name)}{need.specifier}" for need in wanted
    } | {f"python{project()['requires-python']}"}


def test_every_requirement_is_pinned_within_its_bounds() -> None:
    versions = pinned()
    needs = [*project()["dependencies"], *project()["optional-dependencies"]["dev"]]
    for need in map(Requirement, needs):
        assert need.specifier.contains(versions[canonicalize_name(need.name)]), need


def test_pins_are_exact_and_of_any_build() -> None:
    assert all(re.fullmatch(r"[0-9][0-9a-z.]*", version) for version in pinned().values())
    assert pinned()["torch"] == "2.13.0"


def test_lists_are_sorted() -> None:
    assert list(pinned()) == sorted(pinned())
