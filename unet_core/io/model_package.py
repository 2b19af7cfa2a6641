"""Packages of bioimage.io: an ONNX network with all that other programs need to run it."""

import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from unet_core.config.networks.accepted import Accepted
from unet_core.errors import ConfigError

PAPER = "Ronneberger, Fischer, Brox 2015: U-Net: Convolutional Networks for Biomedical Image "
PAPER_DOI = "10.1007/978-3-319-24574-4_28"


@dataclass(frozen=True)
class About:
    """What a package says of where it comes from; ConfigError where the format does not take it."""

    name: str
    description: str
    authors: tuple[str, ...]
    license: str
    """Identifier of SPDX, such as CC-BY-4.0."""

    cite: tuple[str, ...] = ()
    """DOIs, besides that of the U-Net."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_+ ()-]{5,128}", self.name):
            raise ConfigError(
                f"bioimage.io does not take the name {self.name!r}: 5 to 128 letters, digits, "
                "spaces and _+-(); give --name"
            )
        for doi in self.cite:
            if not re.fullmatch(r"10\.[0-9]{4}.+", doi):
                raise ConfigError(f"--cite {doi!r} is no DOI; give it as 10.1038/s41592-018-0261-2")


@dataclass(frozen=True)
class Intensities:
    """How the package's users make intensities of raw values."""

    normalise: str
    """`AugmentConfig.normalise`."""

    dtype: str
    """Number type of raw."""

    offset: tuple[float, ...]
    scale: tuple[float, ...]
    """Per input of the network, ``(raw - offset) * scale``, where these are constants."""

    together: bool = False
    """Statistics are of all inputs together, not of each: they are sections of one channel."""


@dataclass(frozen=True)
class Channels:
    """What the channels of input and output are."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    """Names: letters, digits and _."""

    meaning: str
    """In sentences, for the documentation."""

    kind: str
    """Of the results: softmax, sigmoid or logits."""


def write_package(
    out: Path,
    *,
    about: About,
    onnx: Path,
    opset: int,
    sizes: Accepted,
    intensities: Intensities,
    channels: Channels,
    example: tuple[NDArray[Any], NDArray[np.float32]],
) -> None:
    """Write a zip file of format 0.5.

    Parameters
    ----------
    onnx
        Maps (n, inputs, [z,] y, x) to (n, outputs, [z,] y, x).
    sizes
        What it accepts; what its users are told.
    example
        Raw and result, (1, inputs or outputs, [z,] y, x), that users compare with.
    """
    files = {
        "input": _array(example[0]),
        "output": _array(example[1]),
        "text": _text(about, intensities, channels).encode(),
        "onnx": onnx.read_bytes(),
    }
    content = _content(about, files, opset, sizes, intensities, channels)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as package:
        package.writestr(
            "bioimageio.yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        )
        for key, data in files.items():
            package.writestr(_NAMES[key], data)


_NAMES = {
    "input": "test_input.npy",
    "output": "test_output.npy",
    "text": "README.md",
    "onnx": "weights.onnx",
}


def _source(files: Mapping[str, bytes], key: str) -> dict[str, str]:
    return {"source": _NAMES[key], "sha256": sha256(files[key]).hexdigest()}


def _array(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _text(about: About, intensities: Intensities, channels: Channels) -> str:
    return (
        f"# {about.name}\n\n{about.description}\n\nRaw values of type {intensities.dtype} are "
        f"normalised by the method `{intensities.normalise}`, over whole volumes. "
        f"{channels.meaning}\n\n"
        "## Validation\n\nCompare its results with sections that were segmented by hand.\n"
    )


def _content(
    about: About,
    files: Mapping[str, bytes],
    opset: int,
    sizes: Accepted,
    intensities: Intensities,
    channels: Channels,
) -> dict[str, Any]:
    axes = "zyx"[-len(sizes.least) :]
    cite = [{"text": PAPER + "Segmentation", "doi": PAPER_DOI}]
    return {
        "type": "model",
        "format_version": "0.5.12",
        "name": about.name,
        "description": about.description or about.name,
        "authors": [{"name": name} for name in about.authors],
        "cite": [*cite, *({"text": doi, "doi": doi} for doi in about.cite)],
        "license": about.license,
        "tags": ["unet", "segmentation", "pytorch", f"{len(axes)}d"],
        "documentation": _source(files, "text"),
        "inputs": [
            {
                "id": "raw",
                "axes": [*_axes(channels.inputs), *_seen(axes, sizes)],
                "data": {"type": intensities.dtype},
                "test_tensor": _source(files, "input"),
                "preprocessing": _preprocessing(axes, intensities),
            }
        ],
        "outputs": [
            {
                "id": "logits" if channels.kind == "logits" else "probabilities",
                "axes": [*_axes(channels.outputs), *_made(axes, sizes)],
                "data": {"type": "float32"},
                "test_tensor": _source(files, "output"),
            }
        ],
        "weights": {"onnx": {**_source(files, "onnx"), "opset_version": opset}},
    }


def _axes(names: Sequence[str]) -> list[dict[str, Any]]:
    return [{"type": "batch"}, {"type": "channel", "channel_names": list(names)}]


def _seen(axes: str, sizes: Accepted) -> list[dict[str, Any]]:
    each = zip(axes, sizes.least, sizes.step, strict=True)
    return [
        {"type": "space", "id": axis, "size": {"min": least, "step": step} if step else least}
        for axis, least, step in each
    ]


def _made(axes: str, sizes: Accepted) -> list[dict[str, Any]]:
    made = []
    for axis, lost, halo in zip(axes, sizes.lost, sizes.halo, strict=True):
        size = {"tensor_id": "raw", "axis_id": axis, "offset": -2 * lost}
        beside = {"halo": halo} if halo else {}
        made.append({"type": "space", "id": axis, "size": size, **beside})
    return made


def _preprocessing(axes: str, intensities: Intensities) -> list[dict[str, Any]]:
    """The format's nearest: statistics of the whole volume are those of the batch."""
    over = ["batch", *(["channel"] if intensities.together else []), *axes]
    if intensities.normalise == "mean_std":
        step = {"id": "zero_mean_unit_variance", "kwargs": {"axes": over}}
    elif intensities.normalise == "percentile":
        limits = {"min_percentile": 0.5, "max_percentile": 99.5}
        step = {"id": "scale_range", "kwargs": {"axes": over, **limits}}
    else:
        spread = [1 / scale for scale in intensities.scale]
        given = {"mean": list(intensities.offset), "std": spread, "axis": "channel"}
        step = {"id": "fixed_zero_mean_unit_variance", "kwargs": given}
    # At the end, too: else some programs turn intensities into raw's type again.
    single = {"id": "ensure_dtype", "kwargs": {"dtype": "float32"}}
    return [single, step, single]
