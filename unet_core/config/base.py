"""What all configuration dataclasses have in common."""

from pydantic import ConfigDict

STRICT = ConfigDict(extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)
"""Unknown keys, inf and nan are refused; the docstring under a field is its description in the
schema."""

Zyx = tuple[int, int, int]
"""Voxels along (z, y, x)."""
