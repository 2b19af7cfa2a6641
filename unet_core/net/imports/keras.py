"""U-Nets of Keras: zhixuhao/unet, image-segmentation-keras and IntelAI/unet.

Keys are ``layer/weight``, arrays have their channels last. Layers without a name of their own have
numbers, which tell their order alone: other models of the same session were counted, too.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cache

from torch import Tensor

from unet_core.config.networks.build import graph_of
from unet_core.config.networks.graph import Graph
from unet_core.config.networks.layers import Convolution, Layer, Normalisation, Transposed
from unet_core.config.networks.settings import NetworkConfig
from unet_core.config.presets import PRESETS, read_network
from unet_core.net.imports.source import (
    Entry,
    Source,
    State,
    Translation,
    matched,
    share,
    with_outputs,
)

KERAS = (
    "zhixuhao",
    "keras_unet",
    "keras_unet_mini",
    "keras_vgg_unet",
    "keras_resnet50_unet",
    "keras_mobilenet_unet",
    "intel_2d",
    "intel_2d_nearest",
    "intel_3d",
)
"""Presets of the networks that were published for Keras."""

NORM = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
"""Our names of what a normalisation of batches keeps, to theirs."""

_WEIGHTS = r"(kernel|depthwise_kernel|img_kernel|bias|gamma|beta|moving_mean|moving_variance)(:0)?"


@dataclass(frozen=True)
class Kind:
    """Layers of one kind may be taken for one another; their numbers are counted together."""

    operation: str
    """convolution, transposed, depthwise or norm."""

    dimensions: int
    """Of kernels; norm: 0."""


def kind_of(layer: Layer) -> Kind:
    """The kind of a layer of ours."""
    if isinstance(layer, Transposed):
        return Kind("transposed", len(layer.kernel))
    if isinstance(layer, Convolution):
        return Kind("depthwise" if layer.groups > 1 else "convolution", len(layer.kernel))
    return Kind("norm", 0)


def weighted(graph: Graph) -> dict[str, Kind]:
    """Our layers with weights, in their order, and their kinds."""
    return {node.name: kind_of(node.layer) for node in graph.nodes if node.layer.parameters}


def kinds_in(state: State) -> dict[str, Kind]:
    """The layers of a checkpoint, in its order, and their kinds."""
    spaces = Counter(tensor.ndim - 2 for tensor in state.values() if tensor.ndim > 2)
    usual = spaces.most_common(1)[0][0] if spaces else 2
    kinds: dict[str, Kind] = {}
    for key, tensor in state.items():
        *_, layer, weight = key.removesuffix(":0").split("/")
        if weight in NORM.values():
            kinds[layer] = Kind("norm", 0)
        elif weight.endswith("kernel") and tensor.ndim > 2:
            kinds[layer] = Kind(_operation(layer, weight, tensor), tensor.ndim - 2)
        else:
            # Without a kernel, or one of no use, it still is a layer.
            kinds.setdefault(layer, Kind(_operation(layer, weight), usual))
    return kinds


def _operation(layer: str, weight: str, kernel: Tensor | None = None) -> str:
    if "depthwise" in layer + weight or layer.startswith("conv_dw"):
        return "depthwise"
    if kernel is None or kernel.shape[0] % 2:
        return "transposed" if "trans" in layer else "convolution"
    # Convolutions with even kernels narrow, and have their outputs last.
    return "transposed" if kernel.shape[-2] < kernel.shape[-1] else "convolution"


def _presets(state: State) -> tuple[str, ...]:
    """The preset with as many layers of each kind; where none has, those that come nearest."""
    found = Counter(kinds_in(state).values())
    off = {name: _differences(found, _counts(name)) for name in KERAS}
    return tuple(name for name in KERAS if off[name] == min(off.values()))


def _differences(one: Mapping[Kind, int], other: Mapping[Kind, int]) -> int:
    return sum(abs(one.get(kind, 0) - other.get(kind, 0)) for kind in {*one, *other})


@cache
def _counts(preset: str) -> Mapping[Kind, int]:
    return Counter(weighted(graph_of(read_network(PRESETS / f"{preset}.yaml"))).values())


def _translate(state: State, config: NetworkConfig) -> Translation:
    partial = any("img_kernel" in key for key in state)
    config = replace(config, partial_padding=partial)
    graph = graph_of(config)
    pairs = paired(kinds_in(state), graph)
    state = _renamed(state)
    config = _sized(state, config, graph, pairs)
    return Translation(config, matched(state, config, pairs, dialect=_keras_entry), config.output)


def _renamed(state: State) -> dict[str, Tensor]:
    """With one name for all kinds of kernels."""
    renamed = {}
    for key, tensor in state.items():
        *_, layer, weight = key.removesuffix(":0").split("/")
        renamed[f"{layer}/{re.sub('.*kernel', 'kernel', weight)}"] = tensor
    return renamed


def paired(theirs: Mapping[str, Kind], graph: Graph) -> dict[str, str]:
    """Our name of every layer to theirs: by name where they gave one, else by kind and order."""
    names = known_names(graph)
    ours = weighted(graph)
    pairs = {name: known for name in ours for known in names.get(name, ()) if known in theirs}
    left: dict[Kind, list[str]] = defaultdict(list)
    for layer, kind in theirs.items():
        if layer not in pairs.values():
            left[kind].append(layer)
    ordered = {kind: iter(in_order(layers)) for kind, layers in left.items()}
    for name, kind in ours.items():
        if name not in pairs:
            pairs[name] = next(ordered.get(kind, iter(())), f"({kind.operation} for our {name})")
    return pairs


def in_order(layers: list[str]) -> list[str]:
    """By their numbers where names differ in these alone, otherwise as they come."""
    numbers = {}
    for layer in layers:
        base, _, number = layer.rpartition("_")
        # The first of its kind has none.
        numbers[layer] = (base, int(number)) if number.isdecimal() else (layer, 0)
    one = len({base for base, _ in numbers.values()}) == 1
    return sorted(layers, key=lambda layer: numbers[layer][1]) if one else layers


def known_names(graph: Graph) -> dict[str, tuple[str, ...]]:
    """Our name of a layer to the names that Keras networks give it, where they do."""
    blocks = {f"encoder.{i}": f"encode{letter}" for i, letter in enumerate("ABCD")}
    blocks |= {f"decoder.{j}": f"decode{letter}" for j, letter in enumerate("CBA")}
    blocks |= {"bottom": "encodeE", "decoder.3": "convOut"}
    names: dict[str, tuple[str, ...]] = {"head": ("PredictionMask",)}
    names |= {f"ups.{j}": (f"transconv{letter}",) for j, letter in enumerate("ECBA")}
    counted: Counter[tuple[str, bool]] = Counter()
    last = ""
    for name, kind in weighted(graph).items():
        block = name.rpartition(".")[0]
        if block == "encoder":
            names[name] = (name.removeprefix("encoder."),)
        elif block in blocks:
            i = counted[block, kind.operation == "norm"]
            counted[block, kind.operation == "norm"] += 1
            theirs = blocks[block]
            if kind.operation == "norm":
                names[name] = (f"{theirs}_bn{i}",)
            else:
                names[name] = (f"{theirs}{'ab'[i]}", f"{theirs}_conv{i}")
                last = name
    names[last] = (*names[last], "seg_feats")
    return names


def _sized(
    state: State, config: NetworkConfig, graph: Graph, pairs: Mapping[str, str]
) -> NetworkConfig:
    """Channels, classes and widths as the kernels have them."""
    ours = {name: kind for name, kind in weighted(graph).items() if kind.operation != "norm"}
    made = dict(graph.channels)
    for i, (name, kind) in enumerate(ours.items()):
        kernel, bias = (state.get(f"{pairs[name]}/{part}") for part in ("kernel", "bias"))
        if kernel is not None and kernel.ndim == kind.dimensions + 2:
            if i == 0:
                config = replace(config, channels=kernel.shape[-2])
            if kind.operation != "depthwise":
                made[name] = kernel.shape[-2 if kind.operation == "transposed" else -1]
        elif bias is not None and bias.ndim == 1:
            made[name] = bias.shape[0]
    down, up, raised = (_levels(made, ours, path) for path in ("encoder", "decoder", "ups"))
    bottom = _levels(made, ours, "bottom")
    rising = tuple(reversed(up))
    after = config.skip == "after_pooling"
    return replace(
        with_outputs(config, made[[*ours][-1]]),
        widths=(*down, *(() if after else bottom)) if config.encoder == "plain" else None,
        decoder_widths=(*rising, *bottom) if after else rising,
        up_widths=tuple(reversed(raised)) or None,
    )


def _levels(made: Mapping[str, int], ours: Collection[str], path: str) -> tuple[int, ...]:
    """Channels that the blocks of a path make, one after the other."""
    pattern = re.compile(r"bottom\..*" if path == "bottom" else rf"{path}\.\d+(\..*)?")
    found = {}
    for name in filter(pattern.fullmatch, ours):
        # The last layer of a block decides.
        found[".".join(name.split(".")[: 1 if path == "bottom" else 2])] = made[name]
    return tuple(found.values())


def _keras_entry(layer: Layer, name: str) -> Entry:
    """As Keras names and turns the tensors of a layer."""
    if isinstance(layer, Normalisation):
        return Entry(f"/{NORM[name]}")
    if name == "bias":
        return Entry("/bias")
    kind = kind_of(layer)
    inputs, outputs = kind.dimensions, kind.dimensions + 1
    axes = (inputs, outputs) if kind.operation == "depthwise" else (outputs, inputs)
    # Of a transposed one theirs are outputs, inputs and ours inputs, outputs: the same axes.
    return Entry("/kernel", (*axes, *range(kind.dimensions)))


SOURCE = Source(
    "Keras (zhixuhao/unet, image-segmentation-keras, IntelAI/unet)",
    share(rf"[^/]+(/[^/]+)*/{_WEIGHTS}"),
    _presets,
    _translate,
)
