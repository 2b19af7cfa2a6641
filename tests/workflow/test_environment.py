"""pyproject.toml, environment.yml, requirements.lock and the containers have the same libraries."""

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
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
    extras = project()["optional-dependencies"]
    needs = [*project()["dependencies"], *(need for extra in extras.values() for need in extra)]
    for need in map(Requirement, needs):
        assert need.specifier.contains(versions[canonicalize_name(need.name)]), need


def test_pins_are_exact_and_of_any_build() -> None:
    assert all(re.fullmatch(r"[0-9][0-9a-z.]*", version) for version in pinned().values())
    assert pinned()["torch"] == "2.13.0"


def test_lists_are_sorted() -> None:
    assert list(pinned()) == sorted(pinned())


def container(name: str) -> str:
    """The file without comments, lines that go on joined."""
    text = (REPOSITORY / "workflow/envs" / name).read_text().replace("\\\n", "")
    return "\n".join(re.sub(" +", " ", line) for line in text.splitlines() if line[:1] != "#")


def test_both_containers_install_the_locked_versions_on_one_pinned_base() -> None:
    docker, apptainer = container("Dockerfile"), container("unet-core.def")
    (base,) = re.findall(r"^FROM (.*)$", docker, re.MULTILINE)
    assert re.findall(r"^From: (.*)$", apptainer, re.MULTILINE) == [base]
    version = re.fullmatch(r"python:(\d+\.\d+\.\d+)-slim-\w+", base)
    assert version is not None, "pinned to a version"
    assert SpecifierSet(project()["requires-python"]).contains(version[1])
    locked = (REPOSITORY / "requirements.lock").read_text()
    assert f"Python {version[1].rpartition('.')[0]}," in locked
    (install,) = re.findall(r"pip install (.*)$", docker, re.MULTILINE)
    assert "--constraint /opt/unet-core/requirements.lock /opt/unet-core" in install
    assert re.findall(r"pip install (.*)$", apptainer, re.MULTILINE) == [
        install.replace("$TORCH", "{{ TORCH }}")
    ]
    torch = r"TORCH=(https://.*)$"
    assert re.findall(torch, docker, re.MULTILINE) == re.findall(torch, apptainer, re.MULTILINE)


def test_both_containers_hold_what_the_package_is_built_from() -> None:
    docker, apptainer = container("Dockerfile"), container("unet-core.def")
    (copied,) = re.findall(r"^COPY (.*) /opt/unet-core/$", docker, re.MULTILINE)
    files = {*copied.split(), "unet_core"}
    assert "COPY unet_core /opt/unet-core/unet_core" in docker
    assert set(re.findall(r"^ (\S+) /opt/unet-core/\1$", apptainer, re.MULTILINE)) == files
    assert {project()["readme"], "pyproject.toml", "requirements.lock"} < files
    sent = (REPOSITORY / ".dockerignore").read_text().split()
    assert {entry[1:] for entry in sent if entry.startswith("!")} == files


def test_the_docker_image_does_not_run_as_root() -> None:
    assert re.findall(r"^USER (.*)$", container("Dockerfile"), re.MULTILINE)[-1] == "1000:1000"


def test_conda_is_told_which_cuda_the_nodes_have() -> None:
    assert "CONDA_OVERRIDE_CUDA=" in (REPOSITORY / "environment.yml").read_text()
