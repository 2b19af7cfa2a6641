"""From settings to a graph: the one builder of all networks."""

from functools import lru_cache

from unet_core.config.networks.deeplab import deeplabv3plus
from unet_core.config.networks.fcn import fcn8s
from unet_core.config.networks.graph import Graph
from unet_core.config.networks.nested import unetpp
from unet_core.config.networks.settings import NetworkConfig
from unet_core.config.networks.unet import unet
from unet_core.config.networks.vnet import vnet
from unet_core.errors import ConfigError


@lru_cache(maxsize=256)
def graph_of(config: NetworkConfig) -> Graph:
    """The network that the settings describe.

    Raises
    ------
    ConfigError
        If settings contradict each other.
    """
    if config.supervision in ("mean", "nodes") and config.architecture != "unetpp":
        raise ConfigError(
            f"model.supervision {config.supervision} is for model.architecture unetpp, got "
            f"{config.architecture}; set it to levels or none"
        )
    if config.architecture in ("fcn8s", "vnet") and config.encoder != "plain":
        raise ConfigError(
            f"model.encoder {config.encoder} is not for model.architecture {config.architecture}; "
            "leave it out"
        )
    match config.architecture:
        case "unet":
            return unet(config)
        case "deeplabv3plus":
            return deeplabv3plus(config)
        case "fcn8s":
            return fcn8s(config)
        case "vnet":
            return vnet(config)
        case "unetpp":
            return unetpp(config)
    raise ConfigError(f"model.architecture {config.architecture} cannot be built")
