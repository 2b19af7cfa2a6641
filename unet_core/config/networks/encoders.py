"""Backbones that stand in for the contracting path."""

from unet_core.config.networks.encoders_keras import keras_taps
from unet_core.config.networks.graph import Sketch
from unet_core.config.networks.settings import NetworkConfig


def taps_of(sketch: Sketch, config: NetworkConfig, x: str) -> tuple[str, list[str]]:
    """The deepest map of a backbone, and its skips, the finest first."""
    if config.encoder.startswith("keras_"):
        return keras_taps(sketch, config, x)
    raise NotImplementedError(config.encoder)
