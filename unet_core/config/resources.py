"""What a stage is computed with; never part of a result or of its fingerprint."""

from dataclasses import dataclass, replace
from typing import Literal

from unet_core.errors import ConfigError

Launcher = Literal["here", "srun", "jobqueue"]

DRIVER_MB = 1000
"""Of a node's memory, what is not the workers' where a launcher starts them."""

DEALER_MB = 400
"""Of the memory here, what the process takes that deals blocks to several workers."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Threads, GPUs and memory that the job was given, and where its workers run."""

    threads: int = 1
    """CPU threads on each node, for all workers there together."""

    gpus: int = 0
    """GPUs for this job, on all nodes together; 0 computes on the CPU."""

    memory_mb: int | None = None
    """Memory on each node for all workers there together, MB (10^6 bytes); None: what the machine
    has."""

    lease_s: float | None = None
    """Seconds after which a block counts as hung and its worker is killed; None: the larger of 600
    and 20 times the longest block so far, six times that while its process still computes."""

    nodes: int = 1
    """Machines that this job was given."""

    launcher: Launcher = "here"
    """How workers are started. here: on this machine; srun: each as a step of the Slurm job that
    this is part of; jobqueue: each node's as a Slurm job of its own."""

    interface: str | None = None
    """Network that workers on other nodes are spoken to over, such as ib0; None: that of this
    node's name."""

    @property
    def slots(self) -> int:
        """Workers that one node has room for: one for each of its GPUs, else for each thread."""
        return self.gpus // self.nodes or self.threads

    @property
    def of_a_node(self) -> "Resources":
        """What one node has."""
        return replace(self, gpus=self.gpus // self.nodes, nodes=1)

    def share_mb(self, workers: int) -> float | None:
        """Memory (MB) of each of so many workers on a node; a single one here is the driver."""
        if self.memory_mb is None:
            return None
        apart = DRIVER_MB if self.launcher != "here" else DEALER_MB if workers > 1 else 0
        return (self.memory_mb - apart) / workers

    def holds(self, workers: int, need_mb: float) -> bool:
        """Does the memory of a node hold so many workers that need so much each?"""
        share = self.share_mb(workers)
        return share is None or (share >= need_mb and share > 0)

    def __post_init__(self) -> None:
        if self.threads < 1 or self.gpus < 0 or (self.memory_mb is not None and self.memory_mb < 1):
            raise ConfigError(
                f"resources need threads >= 1, gpus >= 0 and memory_mb >= 1, got {self}"
            )
        if self.lease_s is not None and not self.lease_s > 0:
            raise ConfigError(f"resources need lease_s > 0 seconds, got {self.lease_s}")
        self._check_nodes()

    def _check_nodes(self) -> None:
        if self.nodes < 1 or self.gpus % self.nodes:
            raise ConfigError(
                f"resources need nodes >= 1 with as many GPUs each, got {self.gpus} GPUs on "
                f"{self.nodes} nodes; give a multiple of the nodes"
            )
        if self.nodes > 1 and self.launcher == "here":
            raise ConfigError(
                f"{self.nodes} nodes need a launcher that reaches them: --launcher srun within a "
                "Slurm job, or --launcher jobqueue"
            )
        if self.launcher != "here" and (self.memory_mb or 0) <= DRIVER_MB:
            raise ConfigError(
                f"--launcher {self.launcher} needs --memory-mb, the memory of each node, of which "
                f"{DRIVER_MB} MB are not the workers'; got {self.memory_mb}"
            )
