"""A Slurm cluster for the tests of this folder."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.slurm.project import Project, new_project
from tests.slurm.sandbox import Sandbox, sandbox

HERE = Path(__file__).parent
LIMIT_S = 1800
"""Of a test, with the cluster's start: they wait more than they compute."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.timeout(LIMIT_S))


@pytest.fixture(scope="session")
def slurm_session() -> Iterator[Sandbox]:
    with sandbox() as cluster:
        yield cluster


@pytest.fixture
def slurm(slurm_session: Sandbox) -> Iterator[Sandbox]:
    """A cluster with all its nodes and no jobs; it is brought up once per process of pytest.

    What a test leaves behind is ended after it: jobs, and nodes that are down.
    """
    yield slurm_session
    slurm_session.repair()
    slurm_session.scancel()


@pytest.fixture
def lab(slurm: Sandbox, tmp_path: Path) -> Callable[..., Project]:
    """Makes projects of small volumes with the slurm profile filled in; see `new_project`."""

    def make(name: str = "project", **changes: Any) -> Project:
        return new_project(tmp_path / name, slurm, **changes)

    return make
