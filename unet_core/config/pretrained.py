"""Settings of weights that were trained before, here or elsewhere."""

from typing import Literal

from pydantic.dataclasses import dataclass

from unet_core.config.base import STRICT
from unet_core.config.data import Normalise
from unet_core.errors import ConfigError


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PretrainedConfig:
    """Weights that a model begins with; without a file they are drawn."""

    file: str | None = None
    """Checkpoint of this program (best.pt) or of another system (.pt, .pth, .safetensors, .h5,
    .keras); a relative one counts from where Snakemake runs. The model is then that of the file,
    and train.steps 0 takes it as it is."""

    preset: str | None = None
    """File of config/models without its ending; needed only where the file's keys leave a
    choice."""

    part: Literal["network", "encoder"] = "network"
    """encoder: of the contracting path alone, or of a backbone, such as a classifier's (torchvision
    ResNet); the rest is drawn."""

    normalise: Normalise | None = None
    """How the intensities were normalised that the weights were trained on; null: as
    augment.normalise says. What this program's own checkpoints say holds before it."""

    order: tuple[int, ...] | None = None
    """Channel of the volume that is shown as channel 0, 1, ... of the network, such as [2, 1, 0]
    for weights trained on BGR images; null: the same."""

    def __post_init__(self) -> None:
        if self.order is not None and sorted(self.order) != list(range(len(self.order))):
            raise ConfigError(
                "pretrained.order must name every channel from 0 once, such as [2, 1, 0], got "
                f"{list(self.order)}"
            )
