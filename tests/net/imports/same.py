"""Whether an imported network gives what the original gives."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from unet_core.net.imports import load_foreign

WITHIN = 1e-5


def assert_same(
    original: nn.Module, state: Mapping[str, Any], x: Tensor, *, preset: str | None = None
) -> None:
    """Both give the same, and what they give varies enough to tell."""
    with torch.inference_mode():
        theirs = original(x)
        theirs = theirs[-1] if isinstance(theirs, list) else theirs
        ours = load_foreign(state, preset=preset)(x)
    assert theirs.std() > 0.01
    torch.testing.assert_close(ours, theirs, rtol=0, atol=WITHIN)
