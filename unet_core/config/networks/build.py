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
    graph = _drawn(config)
    _check_heads(config, graph)
    return graph


def _drawn(config: NetworkConfig) -> Graph:
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


def _check_heads(config: NetworkConfig, graph: Graph) -> None:
    """Refuse heads besides the main one that would not be there, or see another part."""
    if config.auxiliary and config.supervision != "none":
        raise ConfigError(
            f"model.auxiliary {config.auxiliary} and model.supervision {config.supervision} are "
            "two ways to learn from further heads; set the first to 0 or the second to none"
        )
    asked = "auxiliary" if config.auxiliary else "supervision"
    given = getattr(config, asked)
    if given not in (0, "none", "mean") and not graph.auxiliary:
        raise ConfigError(
            f"model.{asked} {given} is not for this network (model.architecture "
            f"{config.architecture}, model.encoder {config.encoder}, model.depth {config.depth}): "
            "it has no further map to learn from; leave it out"
        )
    if graph.auxiliary and config.padding == "valid":
        raise ConfigError(
            f"model.{asked} {given} does not go with model.padding valid: each head would see "
            "another part of the target; set model.padding to same"
        )
