"""What a stage is computed with; never part of a result or of its fingerprint."""

from dataclasses import dataclass

from unet_core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Threads, GPUs and memory that the job was given."""

    threads: int = 1
    """CPU threads for all workers together."""

    gpus: int = 0
    """GPUs for this job; 0 computes on the CPU."""

    memory_mb: int | None = None
    """Memory for all workers together, MB (10^6 bytes); None: what the machine has."""

    lease_s: float | None = None
    """Seconds after which a block counts as hung and its worker is killed; None: the larger of 600
    and 20 times the longest block so far, six times that while its process still computes."""

    def __post_init__(self) -> None:
        if self.threads < 1 or self.gpus < 0 or (self.memory_mb is not None and self.memory_mb < 1):
            raise ConfigError(
                f"resources need threads >= 1, gpus >= 0 and memory_mb >= 1, got {self}"
            )
        if self.lease_s is not None and not self.lease_s > 0:
            raise ConfigError(f"resources need lease_s > 0 seconds, got {self.lease_s}")
