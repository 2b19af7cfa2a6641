"""What tests of a stage as a process of its own share."""

from pathlib import Path

import pytest

from tests.stages.scenes import Scene, undisturbed


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Made once: files that every test compares with."""
    return undisturbed(tmp_path_factory.mktemp("faults"))


@pytest.fixture
def scene(made: Scene, tmp_path: Path) -> Scene:
    """The same volume and network, and a folder of the test's own."""
    return Scene(tmp_path, made.raw, made.checkpoint, made.expected)
