"""What all tests share: where real data lie, and small processes."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

HERE = Path(__file__).parent

settings.register_profile("shared-machine", deadline=None, max_examples=25)
settings.load_profile("shared-machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of processes side by side, each takes whole files, which share what they have made.

    One has all that need the Slurm cluster. What waits and what is slow begins first.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (not on_slurm(item), item.path not in slow))
    for item in items:
        group = "slurm" if on_slurm(item) else str(item.path.relative_to(HERE).with_suffix(""))
        item.add_marker(pytest.mark.xdist_group(group))


def on_slurm(item: pytest.Item) -> bool:
    return item.path.is_relative_to(HERE / "slurm")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real data sets; tests that need one skip where there is none."""
    folder = os.environ.get("UNET_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("UNET_TEST_DATA names no folder")
    return Path(folder)
