"""Imports point down, and heavy libraries stay where they belong."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "unet_core"
FILES = sorted(PACKAGE.rglob("*.py"))

LAYERS = [
    {"errors"},
    {"config", "geometry", "provenance", "traversal", "windows"},
    {"io", "ops", "metrics", "net", "figures"},
    {"run"},
    {"stages", "options", "arguments"},
    {"cli"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
VALUES = LAYERS[1]

ONLY_IN = {
    "torch": {"net"},
    "onnx": {"net"},
    "onnxscript": {"net"},
    "onnxruntime": {"net"},
    "zarr": {"io"},
    "numcodecs": {"io"},
    "tensorstore": {"io"},
    "dask": {"run"},
    "distributed": {"run"},
    "matplotlib": {"figures"},
    "jinja2": {"figures"},
    "snakemake": set(),
}
"""Library to the parts that may import it."""


def imported(path: Path) -> Iterator[str]:
    """Full names of the modules that a file imports, at its top or within a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield str(node.module)


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def named(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def stage_of(module: str) -> str:
    return module.split(".")[2] if module.count(".") > 1 else ""


@pytest.mark.parametrize("path", FILES, ids=named)
def test_imports_point_down(path: Path) -> None:
    home = part_of(path)
    for module in imported(path):
        if not module.startswith("unet_core.") or home == "__init__":
            continue
        part = module.split(".")[1]
        if home == "stages":
            # A stage may be cut over several files: stitch.py, stitch_join.py.
            same = path.stem.split("_")[0] == stage_of(module).split("_")[0]
            assert part != "stages" or same, f"{path} imports {module}, another stage"
        allowed = part == home or RANK[part] < RANK[home] or {part, home} <= VALUES
        assert allowed, f"{path} imports {module}, which is not below {home}"


@pytest.mark.parametrize("path", FILES, ids=named)
def test_heavy_libraries_stay_in_their_parts(path: Path) -> None:
    for module in imported(path):
        library = module.split(".")[0]
        assert part_of(path) in ONLY_IN.get(library, {part_of(path)}), f"{path} imports {library}"


@pytest.mark.parametrize("path", FILES, ids=named)
def test_a_file_has_one_responsibility(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 350


def loaded_by(statement: str) -> set[str]:
    """Top-level modules in memory after `statement`, in a process of its own."""
    code = f"{statement}; import sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    run = subprocess.run(
        [sys.executable, "-c", code], check=True, text=True, stdout=subprocess.PIPE
    )
    return set(run.stdout.split())


HEAVY = {"torch", "zarr", "dask", "distributed", "scipy", "numpy", "matplotlib", "skimage", "numba"}


def test_what_the_snakefile_imports_is_light() -> None:
    loaded = loaded_by("import unet_core.config.workflow, unet_core.provenance")
    assert not loaded & HEAVY


def test_the_command_line_alone_is_light() -> None:
    assert not loaded_by("from unet_core.cli import main") & HEAVY


@pytest.mark.parametrize("stage", ["convert", "weights", "augment", "stitch", "score", "check"])
def test_stages_without_a_network_do_without_torch(stage: str) -> None:
    assert "torch" not in loaded_by(f"import unet_core.stages.{stage}")
