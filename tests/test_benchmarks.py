"""Benchmarks name what there is: a run of them takes too long to find it out."""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

FILES = sorted((Path(__file__).parents[1] / "benchmarks").glob("*.py"))


def imported(file: Path) -> Iterator[tuple[str, str]]:
    """Module and name of all that a file imports from the product."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("unet_core"):
            for each in node.names:
                yield str(node.module), each.name


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.name))
def test_what_a_benchmark_imports_is_there(file: Path) -> None:
    for module, name in imported(file):
        there = importlib.import_module(module)
        if not hasattr(there, name):
            importlib.import_module(f"{module}.{name}")
