"""Weights are read from all layouts that Keras and Caffe write, and nothing but weights."""

import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from unet_core.errors import CheckpointError
from unet_core.io.hdf5_weights import read_hdf5_weights

Arrays = dict[str, NDArray[np.float32]]

KERNEL = np.arange(18, dtype=np.float32).reshape(3, 3, 1, 2)
LAYERS: dict[str, Arrays] = {
    "conv2d_9": {"kernel": KERNEL, "bias": np.float32([1, 2])},
    "conv2d_10": {"kernel": -KERNEL, "bias": np.float32([3, 4])},
    "bn": {
        "gamma": np.float32([1, 1]),
        "beta": np.float32([2, 2]),
        "moving_mean": np.float32([3, 3]),
        "moving_variance": np.float32([4, 4]),
    },
}
WANTED = {f"{layer}/{name}": array for layer in LAYERS for name, array in LAYERS[layer].items()}


def write_named(root: h5py.Group, *, within: str = "") -> None:
    """As Keras 2 does; `within`: the name of a model that holds the layers."""
    root.attrs["layer_names"] = [within.encode()] if within else [n.encode() for n in LAYERS]
    for layer, arrays in LAYERS.items():
        group = root.require_group(within or layer)
        for name, array in arrays.items():
            group[f"{layer}/{name}:0"] = array
        owners = LAYERS if within else [layer]
        paths = [f"{owner}/{name}:0".encode() for owner in owners for name in LAYERS[owner]]
        group.attrs["weight_names"] = paths


def write_numbered(root: h5py.Group, *, named: bool = True) -> None:
    """As Keras 3 does: layers by their class, weights by number."""
    counted: dict[str, int] = {}
    for layer, arrays in LAYERS.items():
        kind = "batch_normalization" if layer == "bn" else "conv2d"
        number = counted[kind] = counted.get(kind, -1) + 1
        group = root.create_group(f"layers/{kind}_{number}" if number else f"layers/{kind}")
        variables = group.create_group("vars")
        if named:
            variables.attrs["name"] = layer
        for i, array in enumerate(arrays.values()):
            variables[str(i)] = array


def same(found: Arrays, wanted: Arrays) -> None:
    assert found.keys() == wanted.keys()
    for key, array in wanted.items():
        assert found[key].dtype == np.float32
        np.testing.assert_array_equal(found[key], array)


@pytest.mark.parametrize("root", ["/", "model_weights"])
@pytest.mark.parametrize("within", ["", "model_1"])
def test_keras_2_has_weights_by_name_and_layers_in_the_order_of_the_model(
    tmp_path: Path, root: str, within: str
) -> None:
    with h5py.File(tmp_path / "w.h5", "w") as file:
        write_named(file.require_group(root), within=within)
    found = read_hdf5_weights(tmp_path / "w.h5")
    same(found, WANTED)
    assert list(found) == list(WANTED)


def test_long_lists_of_names_are_put_together(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "w.h5", "w") as file:
        write_named(file)
        names = file.attrs.pop("layer_names")
        file.attrs["layer_names0"], file.attrs["layer_names1"] = names[:2], names[2:]
    same(read_hdf5_weights(tmp_path / "w.h5"), WANTED)


def test_keras_3_has_weights_by_number(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "w.weights.h5", "w") as file:
        write_numbered(file)
        file["optimizer/vars/0"] = KERNEL
    same(read_hdf5_weights(tmp_path / "w.weights.h5"), WANTED)
    with zipfile.ZipFile(tmp_path / "w.keras", "w") as archive:
        archive.write(tmp_path / "w.weights.h5", "model.weights.h5")
    same(read_hdf5_weights(tmp_path / "w.keras"), WANTED)


def test_where_keras_3_left_out_names_layers_have_those_of_their_class(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "w.weights.h5", "w") as file:
        write_numbered(file, named=False)
    classes = {"conv2d_9": "conv2d", "conv2d_10": "conv2d_1", "bn": "batch_normalization"}
    wanted = {
        f"{classes[layer]}/{name}": array
        for layer, arrays in LAYERS.items()
        for name, array in arrays.items()
    }
    same(read_hdf5_weights(tmp_path / "w.weights.h5"), wanted)


def test_what_is_no_file_of_keras_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(CheckpointError, match=r"cannot be read as weights of Keras.*give a \.h5"):
        read_hdf5_weights(tmp_path / "text.h5")
    with pytest.raises(CheckpointError, match="cannot be read as weights of Keras"):
        read_hdf5_weights(tmp_path / "missing.h5")
    with zipfile.ZipFile(tmp_path / "other.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(CheckpointError, match=r"no item named 'model.weights.h5'"):
        read_hdf5_weights(tmp_path / "other.keras")
    with h5py.File(tmp_path / "volume.h5", "w") as file:
        file["raw"] = KERNEL
    with pytest.raises(CheckpointError, match="holds no weights as Keras stores them"):
        read_hdf5_weights(tmp_path / "volume.h5")


def test_values_of_other_files_and_of_other_kinds_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "w.h5", "w") as file:
        write_numbered(file)
        file["layers/conv2d/vars/2"] = h5py.ExternalLink("/etc/other.h5", "/x")
    with pytest.raises(CheckpointError, match="vars/2 is a link to another file"):
        read_hdf5_weights(tmp_path / "w.h5")
    with h5py.File(tmp_path / "w.h5", "a") as file:
        del file["layers/conv2d/vars/2"]
        file["layers/conv2d/vars/2"] = "text"
    with pytest.raises(CheckpointError, match="vars/2 is no array of numbers"):
        read_hdf5_weights(tmp_path / "w.h5")
    with h5py.File(tmp_path / "w.h5", "a") as file:
        del file["layers/conv2d/vars/2"]
        file.create_dataset(
            "layers/conv2d/vars/2", shape=(2**20, 2**20), chunks=(64, 64), dtype="f4"
        )
    with pytest.raises(CheckpointError, match=f"has {2**42} bytes"):
        read_hdf5_weights(tmp_path / "w.h5")


def test_caffe_has_arrays_by_layer_and_number(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "w.caffemodel.h5", "w") as file:
        file["data/conv_d0a-b/0"], file["data/conv_d0a-b/1"] = KERNEL, KERNEL[0, 0, 0]
        file.create_group("data/relu_d0b")
    wanted = {"conv_d0a-b/0": KERNEL, "conv_d0a-b/1": KERNEL[0, 0, 0]}
    same(read_hdf5_weights(tmp_path / "w.caffemodel.h5"), wanted)
