"""What GPUs and cores compute per second, from the table `devices.yaml`."""

import difflib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from unet_core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Device:
    """A GPU, or a thread of a CPU."""

    name: str

    flops: dict[str, float]
    """Operations per second of passes, by stage: train and infer."""

    memory_mb: float
    """Of a GPU; 0: it is a core, whose memory is the job's."""

    source: str
    """Where the figures are from."""

    @property
    def is_gpu(self) -> bool:
        """It has memory of its own."""
        return self.memory_mb > 0


def device(name: str) -> Device:
    """A device of the table; ConfigError where there is none of this name."""
    table = _table()
    if name not in table:
        near = difflib.get_close_matches(name, table, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(table)}"
        raise ConfigError(f"--device {name} is not in the table; {hint} Or use --measure there")
    row = table[name]
    return Device(
        name=name,
        flops={stage: share * row["tflops"] * 1e12 for stage, share in row["reached"].items()},
        memory_mb=1000.0 * row["memory_gb"],
        source=row["source"],
    )


@lru_cache(maxsize=1)
def _table() -> dict[str, Any]:
    text = Path(__file__).with_name("devices.yaml").read_text(encoding="utf-8")
    table: dict[str, Any] = yaml.safe_load(text)
    return table
