"""What a run is given, whose time is estimated."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf

from unet_core.config.devices import device
from unet_core.errors import ConfigError

STAGES = (
    *("convert", "weights", "augment", "train", "infer"),
    *("calibrate", "stitch", "score", "montage", "report"),
)

ON_ONE_NODE = ("montage", "report")


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """What a run is given."""

    threads: int = 8
    """Of each job, on each of its nodes."""

    gpus: int = 0
    """For training and inference, on all nodes together."""

    nodes: Mapping[str, int] = field(default_factory=dict)
    """Machines of each job of a stage; one where nothing is said."""

    jobs: int = 1
    """At a time."""

    device: str | None = None
    """A row of `config/devices.yaml`; None: the CPU, or any GPU."""

    measured: bool = False
    """Time this machine instead."""

    price: float | None = None
    """Of a GPU for an hour."""

    def __post_init__(self) -> None:
        least = {"threads": 1, "jobs": 1, "gpus": 0, "price": 0}
        for name, value in least.items():
            given = getattr(self, name)
            if given is not None and not value <= given < inf:
                raise ConfigError(f"--{name} needs a number >= {value}, got {given}")
        for stage, nodes in self.nodes.items():
            self._check_nodes(stage, nodes)
        if self.device is not None and device(self.device).is_gpu != (self.gpus > 0):
            which = ("is a GPU: say with --gpus how many there are", "is a core: leave out --gpus")
            raise ConfigError(f"--device {self.device} {which[self.gpus > 0]}; got {self.gpus}")

    def _check_nodes(self, stage: str, nodes: int) -> None:
        able = [name for name in STAGES if name not in ON_ONE_NODE]
        if stage not in able or nodes < 1:
            raise ConfigError(
                f"--nodes {stage}={nodes} is no stage and number of nodes >= 1; stages that take "
                f"several are {', '.join(able)}"
            )
        if self.gpus_of(stage) % nodes:
            raise ConfigError(
                f"--gpus {self.gpus} are those of all nodes, of --nodes {stage}={nodes}; give a "
                "multiple of the nodes"
            )

    def check(self, spread: str) -> None:
        """Refuse nodes that infer.spread does not use, as the workflow does.

        Raises
        ------
        ConfigError
            If it is not "nodes".
        """
        if self.nodes_of("infer") > 1 and spread != "nodes":
            raise ConfigError(
                f"--nodes infer={self.nodes_of('infer')} are used with infer.spread: nodes alone, "
                f"not with {spread}; set one or the other"
            )

    def nodes_of(self, stage: str) -> int:
        """Machines of each of its jobs."""
        return self.nodes.get(stage, 1)

    def gpus_of(self, stage: str) -> int:
        """GPUs of each of its jobs, on all its nodes."""
        return self.gpus if stage in ("train", "infer") else 0
