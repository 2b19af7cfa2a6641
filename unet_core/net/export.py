"""A trained network for programs without this one: ONNX, or a program of `torch.export`."""

import io
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unet_core.config.networks.accepted import Accepted
from unet_core.config.networks.graph import Graph
from unet_core.config.networks.trace import sizes_of
from unet_core.errors import CheckpointError, ConfigError
from unet_core.net.checkpoint import Checkpoint, fill
from unet_core.net.folding import folded
from unet_core.net.network import Network, on_meta

OPSET = 20
"""Version of ONNX's operators: the newest that torch writes without converting."""

TOLERANCE = 1e-4
"""Of the largest value of a result, or of 1 where that is larger."""

LARGEST = 1_500_000_000
"""Bytes of weights in one ONNX file: torch puts more of them into a second one."""

_NEEDED = ("onnx", "onnxscript", "onnxruntime")


class Exported(nn.Module):
    """(n, inputs, [z,] y, x) normalised intensities -> probabilities of all classes, or logits."""

    def __init__(self, network: Network, *, output: str | None) -> None:
        super().__init__()
        self.network, self.output = network, output

    def forward(self, x: Tensor) -> Tensor:
        """One map per output of the network."""
        logits = cast(Tensor, self.network(x))
        if self.output is None:
            return logits
        return logits.softmax(dim=1) if self.output == "softmax" else logits.sigmoid()


@dataclass(frozen=True)
class Program:
    """A network, and the same as a graph of torch's operators."""

    module: Exported
    program: torch.export.ExportedProgram
    sizes: Accepted
    inputs: int


def program_of(checkpoint: Checkpoint, sizes: Accepted, *, logits: bool = False) -> Program:
    """The network as it was trained, padding and all, but for batch normalisations folded.

    Batches are of any size, maps of those that `sizes` says.
    """
    graph = checkpoint.network().graph.without_auxiliary()
    network = on_meta(graph)
    names = network.state_dict().keys()
    fill(network, {name: checkpoint.state[name] for name in names}, assign=True)
    network.config = checkpoint.model
    output = None if logits else checkpoint.model.output
    module = Exported(folded(network), output=output).eval().requires_grad_(False)
    inputs = checkpoint.model.inputs
    shown = torch.zeros(2, inputs, *sizes.sizes(1))
    axes: dict[int, object] = {0: torch.export.Dim("n", min=1)}
    names_of_axes = "zyx"[-len(sizes.least) :]
    for axis, name in enumerate(names_of_axes):
        if sizes.step[axis]:
            axes[2 + axis] = _sizes_along(name, graph, axis, sizes)
    with _quietly():
        program = torch.export.export(module, (shown,), dynamic_shapes=({**axes},))
    found = Program(module, program, sizes, inputs)
    runs = cast(Callable[[Tensor], Tensor], program.module())
    _check(found, lambda x: runs(torch.from_numpy(x)).numpy(), "torch.export")
    return found


def _sizes_along(name: str, graph: Graph, axis: int, sizes: Accepted) -> object:
    """Sizes along an axis, counted by those of the smallest map that grows by one at each.

    Of a number that is the size of no map, a program that is read from a file knows no example, and
    AOTInductor needs one. Of a larger map torch would leave out the size at which the smallest has
    one voxel.
    """
    least, step = sizes.least[axis], sizes.step[axis]
    small, large = (sizes_of(graph, axis, size) for size in (least, least + step))
    first = min((small[key] for key in small if large[key] - small[key] == 1), default=1)
    number = torch.export.Dim(name, min=first)
    scaled = number if step == 1 else step * number
    beyond = least - step * first
    return scaled + beyond if beyond else scaled


def write_program(path: Path, program: Program, *, about: Mapping[str, object]) -> None:
    """Write what `torch.export.load`, or AOTInductor for C++, reads.

    `about` is kept in the file ``unet_core.json`` beside the program (`extra_files` of torch).
    """
    told = {"unet_core.json": json.dumps(about, sort_keys=True)}
    # By way of memory: where a file takes no more, torch ends the whole process.
    file = io.BytesIO()
    with _quietly():
        torch.export.save(program.program, file, extra_files=told)
    path.write_bytes(file.getbuffer())


def write_onnx(path: Path, program: Program, *, about: Mapping[str, object]) -> None:
    """Write ONNX, run it with onnxruntime, and compare.

    Parameters
    ----------
    about
        Kept in the file's metadata under ``unet_core``, as JSON.

    Raises
    ------
    ConfigError
        If the libraries are not installed.
    CheckpointError
        If what onnxruntime computes differs, or there are too many weights for one file.
    """
    need_libraries(*_NEEDED)
    import onnxruntime

    held = sum(tensor.nbytes for tensor in program.module.state_dict().values())
    if held > LARGEST:
        raise CheckpointError(
            f"an ONNX file holds at most {LARGEST / 1e9:g} GB of weights, this network has "
            f"{held / 1e9:.1f} GB; use --format torch"
        )
    with _quietly():
        made = torch.onnx.export(
            program.program,
            verbose=False,
            dynamo=True,
            opset_version=OPSET,
            input_names=["input"],
            output_names=["output"],
        )
    if made is None:
        raise CheckpointError("torch made no ONNX of this network; use --format torch")
    made.model.metadata_props["unet_core"] = json.dumps(about, sort_keys=True)
    made.save(os.fspath(path))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    _check(program, lambda x: session.run(None, {"input": x})[0], "onnxruntime")


def need_libraries(*names: str) -> None:
    """Raise ConfigError where one is not installed."""
    if missing := [name for name in names if not _is_there(name)]:
        raise ConfigError(
            f"this format needs {', '.join(missing)}, not installed: `pip install "
            "unet-core[export]`, or use --format torch"
        )


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # a part of a package that is not there
        return False


def results_of(program: Program, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the network gives for intensities (n, inputs, [z,] y, x)."""
    with torch.inference_mode():
        return cast(NDArray[np.float32], program.module(torch.from_numpy(x)).numpy())


def _check(
    program: Program, run: Callable[[NDArray[np.float32]], NDArray[np.float32]], by: str
) -> None:
    """Compare on two batches of two sizes each.

    Raises
    ------
    CheckpointError
        If results differ.
    """
    random = np.random.default_rng(0)
    smaller, larger = program.sizes.sizes(1), program.sizes.sizes(2)
    for shape in ((2, program.inputs, *smaller), (1, program.inputs, *smaller[:-1], larger[-1])):
        x = random.standard_normal(shape, np.float32)
        wanted, got = results_of(program, x), run(x)
        worst = float(np.abs(got - wanted).max()) if got.shape == wanted.shape else np.inf
        if not worst <= TOLERANCE * max(1.0, float(np.abs(wanted).max())):
            raise CheckpointError(
                f"the exported network, run by {by}, differs by {worst:.3g} from this one for an "
                f"input of {list(shape)}: nothing is written; use another --format"
            )


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what torch says of its own parts and of libraries that are not needed."""
    logs = [logging.getLogger(name) for name in ("torch.onnx", "onnx_ir", "onnxscript")]
    before = [log.level for log in logs]
    try:
        for log in logs:
            log.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for log, level in zip(logs, before, strict=True):
            log.setLevel(level)
