"""A change of a stage's code is noticed, and somebody decides whether its results change."""

import ast
import json
import sys
from pathlib import Path

import pytest

from tests.workflow.code_lock import LOCK, closure, current, digest, without_docstrings
from unet_core.config.versions import RESULT_VERSION

ACCEPT = (
    "The code of stage {stage} changed. Can it change results? Then raise "
    "RESULT_VERSION[{stage!r}] in unet_core/config/versions.py. Either way accept the code: "
    "`python tests/workflow/code_lock.py`, and commit the lock."
)

# `ast.dump` differs between versions of Python.
on_one_python = pytest.mark.skipif(
    sys.version_info[:2] != (3, 11), reason="the lock is of Python 3.11"
)


@on_one_python
@pytest.mark.parametrize("stage", RESULT_VERSION)
def test_the_code_is_that_of_the_version(stage: str) -> None:
    locked = json.loads(LOCK.read_text())
    assert locked.get(stage) == current()[stage], ACCEPT.format(stage=stage)


def small_package(root: Path, *, text: str) -> Path:
    package = root / "unet_core"
    (package / "stages").mkdir(parents=True)
    (package / "ops").mkdir()
    (package / "__init__.py").write_text("")
    (package / "stages/__init__.py").write_text("")
    (package / "ops/__init__.py").write_text("")
    (package / "stages/infer.py").write_text("from unet_core.ops import flat\n")
    (package / "ops/flat.py").write_text(text)
    (package / "ops/other.py").write_text("A = 1\n")
    return root


def test_comments_layout_and_docstrings_do_not_count(tmp_path: Path) -> None:
    plain = small_package(tmp_path / "1", text="def f():\n    return 1\n")
    told = small_package(
        tmp_path / "2", text='"""Doc."""\n\ndef f():  # why\n    """One."""\n    return 1\n'
    )
    assert digest("infer", plain) == digest("infer", told)


def test_a_constant_counts(tmp_path: Path) -> None:
    one = small_package(tmp_path / "1", text="def f():\n    return 1\n")
    two = small_package(tmp_path / "2", text="def f():\n    return 2\n")
    assert digest("infer", one) != digest("infer", two)


def test_a_module_that_the_stage_does_not_import_does_not_count(tmp_path: Path) -> None:
    root = small_package(tmp_path / "1", text="def f():\n    return 1\n")
    before = digest("infer", root)
    (root / "unet_core/ops/other.py").write_text("A = 2\n")
    assert digest("infer", root) == before
    assert set(closure("infer", root)) == {
        *("unet_core.stages.infer", "unet_core.ops.flat"),
    }


def test_a_name_is_followed_through_the_package_that_hands_it_on(tmp_path: Path) -> None:
    root = small_package(tmp_path, text="A = 1\n")
    (root / "unet_core/ops/__init__.py").write_text("from unet_core.ops.flat import A\n")
    (root / "unet_core/stages/infer.py").write_text("from unet_core.ops import A\n")
    assert set(closure("infer", root)) == {"unet_core.stages.infer", "unet_core.ops.flat"}


def test_a_body_of_a_docstring_alone_stays_valid() -> None:
    tree = without_docstrings(ast.parse('def f():\n    """One."""\n'))
    assert compile(ast.unparse(tree), "f", "exec")
