"""A trained network for other programs: ONNX, a bioimage.io package, a program of torch."""

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unet_core.config.networks.accepted import Accepted, accepted, is_of_one_size
from unet_core.config.networks.geometry import geometry_of
from unet_core.errors import ConfigError
from unet_core.io.atomic import replacing
from unet_core.io.model_package import About, Channels, Intensities, write_package
from unet_core.io.plainly import told_plainly
from unet_core.net.checkpoint import Checkpoint, read_checkpoint
from unet_core.net.export import (
    OPSET,
    Program,
    program_of,
    results_of,
    write_onnx,
    write_program,
)
from unet_core.ops.intensity import normalise, normaliser

Format = Literal["onnx", "bioimageio", "torch"]

log = logging.getLogger(__name__)


def export_model(
    checkpoint: Path,
    *,
    form: Format,
    out: Path,
    logits: bool = False,
    size: Sequence[int] | None = None,
    dtype: str = "uint8",
    about: About | None = None,
) -> None:
    """Write the network of a checkpoint for programs without this one; it is run and compared.

    Parameters
    ----------
    checkpoint
        best.pt of `unet-core train` or `unet-core import`.
    logits
        Results are logits, not the probabilities of all classes.
    size
        Voxels per axis, of networks that can be exported for one size alone; None: those of the
        patches that it was trained on.
    dtype
        bioimageio: number type of raw.
    about
        bioimageio: what the package says of itself.

    Raises
    ------
    CheckpointError
        If the checkpoint cannot be read, or what is exported computes something else.
    ConfigError
        If a library is not installed, or `about` or `size` is missing or not accepted.
    """
    if form == "bioimageio" and about is None:
        raise ConfigError(
            "--format bioimageio needs --author and --license: packages say who made them and "
            "what others may do with them; such as --author 'A. Name' --license CC-BY-4.0"
        )
    found = read_checkpoint(checkpoint)
    if size is not None and not is_of_one_size(found.model):
        raise ConfigError(
            f"--size {' '.join(map(str, size))} is for networks that can be exported for one size "
            "alone; this one is exported for all that it accepts: leave --size out"
        )
    if size is None and found.patch is not None:
        size = found.patch[3 - found.model.dimensions :]
    sizes = accepted(found.model, size)
    program = program_of(found, sizes, logits=logits)
    with told_plainly(out), replacing(out) as partial:
        if form == "torch":
            write_program(partial, program, about=_facts(found, sizes, logits))
        elif form == "onnx":
            write_onnx(partial, program, about=_facts(found, sizes, logits))
        elif about is not None:
            _write_package(partial, found, program, about, dtype)
    log.info("%s of %s: %d MB", form, checkpoint, out.stat().st_size // 10**6)


def _facts(found: Checkpoint, sizes: Accepted, logits: bool) -> dict[str, object]:
    """What who runs the network has to know of it."""
    model = found.model
    return {
        "input": "normalised intensities (n, channels * sections, [z,] y, x) float32",
        "channels": model.channels,
        "sections": model.sections,
        "output": "logits" if logits else model.output,
        "classes": list(_outputs(found)),
        **({"affinities": [list(offset) for offset in found.offsets]} if found.offsets else {}),
        "normalise": found.normalise,
        "exact_tiles": geometry_of(model).is_exact,
        "content": found.content,
        **asdict(sizes),
    }


def _outputs(found: Checkpoint) -> range:
    """The class of every output."""
    return range(found.model.classes - found.model.outputs, found.model.classes)


def _channels(found: Checkpoint, kind: str) -> Channels:
    model = found.model
    numbers = range(model.sections)
    inputs = [
        f"raw{c}" if model.sections == 1 else f"raw{c}_section{s}"
        for c in range(model.channels)
        for s in numbers
    ]
    told = [
        f"class{n}: whether a voxel and that {list(offset)} (z, y, x) from it are of one object."
        for n, offset in enumerate(found.offsets, start=1)
    ] or ["Class 0 is border or background."]
    if model.sections > 1:
        told.insert(0, f"Results are of the middle one of {model.sections} neighbouring sections.")
    outputs = tuple(f"class{n}" for n in _outputs(found))
    return Channels(tuple(inputs), outputs, " ".join(told), kind)


def _write_package(
    out: Path, found: Checkpoint, program: Program, about: About, dtype: str
) -> None:
    sizes = program.sizes.roomy
    random = np.random.default_rng(0)
    kind = np.dtype(dtype)
    top = np.iinfo(kind).max if kind.kind in "iu" else 1
    raw = (random.random((1, found.model.inputs, *sizes.least)) * top).astype(kind)
    seen, intensities = _shown(found, raw)
    example = raw, results_of(program, seen)
    output = program.module.output or "logits"
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        onnx = Path(folder) / "weights.onnx"
        write_onnx(onnx, program, about=_facts(found, program.sizes, output == "logits"))
        write_package(
            out,
            about=about,
            onnx=onnx,
            opset=OPSET,
            sizes=sizes,
            intensities=intensities,
            channels=_channels(found, output),
            example=example,
        )


def _shown(found: Checkpoint, raw: NDArray[Any]) -> tuple[NDArray[np.float32], Intensities]:
    """Raw (1, inputs, [z,] y, x) as the network sees it, by what a package can say."""
    model, kind = found.model, raw.dtype
    measured = found.normalise in ("mean_std", "percentile")
    # The format takes statistics of each input or of all: of the sections of one channel among
    # several it takes those of each.
    parts = raw.reshape(model.inputs if measured and model.channels > 1 else model.channels, -1)
    statistics = [
        {
            "mean": one.mean(dtype=np.float64),
            "sd": one.std(dtype=np.float64),
            "min": one.min(),
            "max": one.max(),
            "percentiles": np.percentile(one, np.linspace(0, 100, 1001)),
        }
        for one in parts
    ]
    by = normaliser(statistics, found.normalise, kind)  # type: ignore[arg-type]
    each = model.inputs // len(parts)
    offset, scale = (tuple(np.repeat(of, each).tolist()) for of in (by.offset, by.scale))
    return normalise(parts, by).reshape(raw.shape), Intensities(
        found.normalise, str(kind), offset, scale, together=measured and each > 1
    )
