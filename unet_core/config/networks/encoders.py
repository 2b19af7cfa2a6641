"""Backbones that stand in for the contracting path."""

from unet_core.config.networks.efficientnet import MEMBERS, efficientnet_taps
from unet_core.config.networks.encoders_keras import keras_taps
from unet_core.config.networks.graph import Sketch
from unet_core.config.networks.mobilenet import mobilenet_taps
from unet_core.config.networks.resnet import STAGES, resnet_taps
from unet_core.config.networks.settings import NetworkConfig
from unet_core.config.networks.vgg import centre, vgg_taps
from unet_core.errors import ConfigError

POOLINGS = 5
"""Halvings of the voxels in every backbone but those of Keras."""


def taps_of(sketch: Sketch, config: NetworkConfig, x: str) -> tuple[str, list[str]]:
    """The deepest map of a backbone, and its skips, the finest first; none has all the voxels.

    Raises
    ------
    ConfigError
        If the network is 3-D, or does not halve as often as the backbone.
    """
    if config.encoder.startswith("keras_"):
        x, skips = keras_taps(sketch, config, x)
        sketch.encoder_ends()
        return x, skips
    if config.depths != (POOLINGS, POOLINGS):
        raise ConfigError(
            f"model.encoder {config.encoder} is 2-D and halves {POOLINGS} times: set "
            f"model.dimensions to 2 and model.depth to {POOLINGS}; got {config.dimensions} and "
            f"{config.depth}"
        )
    *taps, x = backbone(sketch, config, x)
    sketch.encoder_ends()
    if config.encoder.startswith("vgg"):
        read = centre(sketch, x)
        # segmentation_models.pytorch has it in UNet++ too, where nothing reads it.
        x = x if config.architecture == "unetpp" else read
    return x, taps


def backbone(
    sketch: Sketch, config: NetworkConfig, x: str, *, dilated: bool = False, widened: bool = True
) -> list[str]:
    """Maps of a backbone at 1/2, 1/4, ..., 1/32 of the voxels.

    `dilated`: the last has the voxels of the one before. `widened`: as for `mobilenet_taps`.

    Raises
    ------
    ConfigError
        If it cannot be dilated.
    """
    encoder = config.encoder
    if encoder in STAGES:
        return resnet_taps(sketch, encoder, x, dilated=dilated)
    if encoder in MEMBERS:
        return efficientnet_taps(sketch, encoder, x, dilated=dilated)
    if encoder == "mobilenet_v2":
        return mobilenet_taps(sketch, x, dilated=dilated, widened=widened)
    if dilated or not encoder.startswith("vgg"):
        raise ConfigError(
            f"model.architecture {config.architecture} needs a backbone whose last stage can keep "
            f"its voxels, got model.encoder {encoder}: there are {', '.join((*STAGES, *MEMBERS))}, "
            "mobilenet_v2"
        )
    return vgg_taps(sketch, x, normed=encoder == "vgg16_bn")
