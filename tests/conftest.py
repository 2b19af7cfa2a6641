"""What all tests share: where real data lie, and small processes."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("shared-machine", deadline=None, max_examples=25)
settings.load_profile("shared-machine")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real data sets; tests that need one skip where there is none."""
    folder = os.environ.get("UNET_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("UNET_TEST_DATA names no folder")
    return Path(folder)
