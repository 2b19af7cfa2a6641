"""Settings: frozen dataclasses that are the schema, the default and the manual at once."""

from unet_core.config.data import (
    AugmentConfig,
    ConvertConfig,
    TruthConfig,
    VolumeConfig,
    WeightsConfig,
)
from unet_core.config.inference import InferConfig
from unet_core.config.load import canonical, load
from unet_core.config.networks.settings import NetworkConfig
from unet_core.config.pretrained import PretrainedConfig
from unet_core.config.resources import Resources
from unet_core.config.result import (
    CalibrateConfig,
    ObjectsConfig,
    ReportConfig,
    ScoreConfig,
    StitchConfig,
)
from unet_core.config.training import TrainConfig

__all__ = [
    "AugmentConfig",
    "CalibrateConfig",
    "ConvertConfig",
    "InferConfig",
    "NetworkConfig",
    "ObjectsConfig",
    "PretrainedConfig",
    "ReportConfig",
    "Resources",
    "ScoreConfig",
    "StitchConfig",
    "TrainConfig",
    "TruthConfig",
    "VolumeConfig",
    "WeightsConfig",
    "canonical",
    "load",
]
