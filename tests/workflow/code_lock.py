"""Digest of all code behind each stage, against which its RESULT_VERSION is held.

    python tests/workflow/code_lock.py        accept the code as it is: its results are the same,
                                              or RESULT_VERSION was raised

A digest covers the modules of unet_core that the stage imports, directly or not, as syntax trees
without docstrings: comments, layout and docstrings do not count.
"""

import ast
import hashlib
import json
from functools import cache
from pathlib import Path

from unet_core.config.versions import RESULT_VERSION

REPOSITORY = Path(__file__).parents[2]
LOCK = Path(__file__).with_name("code.lock.json")

# Settings enter a result by their values, which Snakemake compares; and what names or carries work
# out does not decide what is computed.
LEFT_OUT = {"unet_core.config.versions", "unet_core.config.load", "unet_core.errors"}


@cache
def modules(root: Path) -> dict[str, Path]:
    """Every module of unet_core below `root`, by its dotted name."""
    found = {}
    for path in sorted((root / "unet_core").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(tree: ast.AST, known: dict[str, Path]) -> set[str]:
    """Modules of unet_core that a module imports, at its top or within a function."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                names.add(made_in(node.module, alias.name, known))
    return {name for name in names if name in known}


def made_in(module: str, name: str, known: dict[str, Path]) -> str:
    """The module that makes `name`: a package's own module, or what its __init__ has it from."""
    if f"{module}.{name}" in known or module not in known:
        return f"{module}.{name}"
    if known[module].name == "__init__.py":
        for node in ast.parse(known[module].read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names}:
                return str(node.module)
    return module


def without_docstrings(tree: ast.AST) -> ast.AST:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            kept = [line for line in body if not _is_docstring(line)]
            node.body = kept or [ast.Pass()]  # type: ignore[attr-defined]
    return tree


def _is_docstring(line: object) -> bool:
    return (
        isinstance(line, ast.Expr)
        and isinstance(line.value, ast.Constant)
        and isinstance(line.value.value, str)
    )


def closure(stage: str, root: Path = REPOSITORY) -> dict[str, str]:
    """Module name to syntax tree of all that `stage` runs."""
    known = modules(root)
    trees: dict[str, str] = {}
    new = {f"unet_core.stages.{stage}"}
    while new:
        name = new.pop()
        if name in trees or name in LEFT_OUT or name not in known:
            continue
        tree = ast.parse(known[name].read_text(encoding="utf-8"))
        found = imports(tree, known)
        trees[name] = ast.dump(without_docstrings(tree))
        new |= found
    return trees


def digest(stage: str, root: Path = REPOSITORY) -> str:
    told = json.dumps(sorted(closure(stage, root).items()))
    return hashlib.blake2b(told.encode(), digest_size=16).hexdigest()


def current() -> dict[str, dict[str, int | str]]:
    return {
        stage: {"version": version, "digest": digest(stage)}
        for stage, version in RESULT_VERSION.items()
    }


if __name__ == "__main__":
    LOCK.write_text(json.dumps(current(), indent=2) + "\n", encoding="utf-8")
    print(f"wrote {LOCK}")
