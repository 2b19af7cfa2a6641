"""Weights in HDF5: of Keras 1 to 3, its zip archives too, and of Caffe."""

import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from unet_core.errors import CheckpointError

Weights = dict[str, NDArray[np.float32]]

ARCHIVED = "model.weights.h5"
"""The file of weights in a .keras archive."""

CAFFE = "data"
"""The group of weights in a file of Caffe."""

LARGEST = 2**31
"""Bytes of one array; a file may declare many that it does not hold."""

NORM = ("gamma", "beta", "moving_mean", "moving_variance")
"""Weights of a normalisation, in the order of their numbers in files of Keras 3."""


def read_hdf5_weights(path: Path) -> Weights:
    """Arrays by ``layer/weight``, in the order of the model where the file has it.

    Of Keras with the channels last, of Caffe by ``layer/0`` and ``layer/1``.

    Nothing but arrays of numbers is read: no code, no configuration, no other files.

    Raises
    ------
    CheckpointError
        If the file is of neither, or an array of it is not to be trusted.
    """
    try:
        with ExitStack() as stack:
            if zipfile.is_zipfile(path):
                archive = stack.enter_context(zipfile.ZipFile(path))
                inner = stack.enter_context(archive.open(ARCHIVED))
                file = stack.enter_context(h5py.File(inner, "r"))
            else:
                file = stack.enter_context(h5py.File(path, "r", locking=False))
            found = dict(_weights(file))
    except (OSError, KeyError, RuntimeError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"{path} cannot be read as weights of Keras or Caffe ({error}); give a .h5, .hdf5, "
            ".weights.h5, .keras or .caffemodel.h5 file"
        ) from None
    if not found:
        raise CheckpointError(
            f"{path} is HDF5, but holds no weights as Keras stores them (layer_names, or groups "
            "named vars) or Caffe (a group data); save them with model.save_weights"
        )
    return found


def _weights(file: h5py.File) -> Iterator[tuple[str, NDArray[np.float32]]]:
    root = _child(file, "model_weights") if "model_weights" in file else file
    if any(key.startswith("layer_names") for key in root.attrs):
        for layer in _listed(root, "layer_names"):
            yield from _of_layer(layer, _child(root, layer))
    elif CAFFE in root:
        yield from _of_caffe(_child(root, CAFFE))
    else:
        yield from _numbered(root, ())


def _of_layer(layer: str, group: h5py.Group) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Keras 1 and 2, and what Keras 3 writes for them: datasets by the names of weights."""
    names = _listed(group, "weight_names")
    parts = [name.removesuffix(":0").split("/") for name in names]
    # A model within the model: one group for all of its layers.
    nested = len({part[-1] for part in parts}) < len(parts)
    for name, part in zip(names, parts, strict=True):
        item = group
        for step in name.split("/"):
            item = _child(item, step)
        owner = part[-2] if nested and len(part) > 1 else layer
        yield f"{owner}/{part[-1]}", _array(item)


def _of_caffe(layers: h5py.Group) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Groups by the names of layers, empty where a layer learns nothing; arrays by number."""
    for name in layers:
        layer = _child(layers, name)
        for number in layer if isinstance(layer, h5py.Group) else ():
            yield f"{name}/{number}", _array(_child(layer, number))


def _numbered(
    group: h5py.Group, path: tuple[str, ...]
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Keras 3: groups named vars, with numbers for names."""
    for name in group:
        item = _child(group, name)
        if name == "optimizer" or not isinstance(item, h5py.Group):
            continue
        if name != "vars":
            yield from _numbered(item, (*path, name))
            continue
        layer = str(item.attrs.get("name", path[-1] if path else ""))
        arrays = [_array(_child(item, number)) for number in sorted(item, key=_number)]
        names = NORM if len(arrays) == len(NORM) else ("kernel", "bias")
        for number, array in enumerate(arrays):
            yield f"{layer}/{names[number] if number < len(names) else number}", array


def _number(name: str) -> int:
    return int(name) if name.isdecimal() else -1


def _listed(group: h5py.Group, key: str) -> list[str]:
    """An attribute that lists names; long ones are cut into key0, key1, ..."""
    pieces = [group.attrs[key]] if key in group.attrs else []
    while f"{key}{len(pieces)}" in group.attrs:
        pieces.append(group.attrs[f"{key}{len(pieces)}"])
    names = [name for piece in pieces for name in np.atleast_1d(piece)]
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def _child(group: h5py.Group, name: str) -> h5py.Group:
    """What a group holds itself; links to other files are not followed."""
    if not isinstance(group, h5py.Group) or name not in group:
        raise KeyError(f"{name} is missing")
    if isinstance(group.get(name, getlink=True), h5py.ExternalLink):
        raise CheckpointError(f"{group.name}/{name} is a link to another file; give that file")
    return group[name]


def _array(item: h5py.Group | h5py.Dataset) -> NDArray[np.float32]:
    if not isinstance(item, h5py.Dataset) or item.dtype.kind not in "fiu":
        raise CheckpointError(f"{item.name} is no array of numbers; weights are")
    if item.external or item.is_virtual:
        raise CheckpointError(f"{item.name} keeps its values in another file; save them in one")
    if item.nbytes > LARGEST:
        raise CheckpointError(f"{item.name} has {item.nbytes} bytes; no layer here has {LARGEST}")
    return np.asarray(item[()], dtype=np.float32)
