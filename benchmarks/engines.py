"""Other engines for the network on a CPU: onnxruntime, OpenVINO, and ours.

    python benchmarks/engines.py

One that is at least 1.3 times as fast would be worth building in. OpenVINO is measured where it is
installed; no part of this program uses it.
"""

# isort: off
from measure import Rounds, Row, row
# isort: on

import importlib.util
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unet_core.config import NetworkConfig
from unet_core.config.networks.accepted import accepted
from unet_core.net.checkpoint import Checkpoint
from unet_core.net.device import choose_device, choose_dtype, memory_format, prepare
from unet_core.net.direct import made_direct
from unet_core.net.export import program_of, write_onnx
from unet_core.net.folding import folded
from unet_core.net.initial import initialise
from unet_core.net.network import Network

MODEL = NetworkConfig(width=32, padding="same", norm="batch", dropout=0.0)
SIDE = 512
WORTH = 1.3
"""Times as fast as ours, from which on an engine would be built in."""


def engines() -> Iterator[Row]:
    """Seconds of ours over those of each engine."""
    prepare(torch.device("cpu"), threads=1)
    network = initialise(Network.of(MODEL), seed=1).eval()
    x = np.random.default_rng(0).standard_normal((1, 1, SIDE, SIDE), np.float32)
    dtype = choose_dtype("auto", choose_device(0))
    ways = {"ours": ours(network, x, dtype), "ours float32": ours(network, x, torch.float32)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        checkpoint = Checkpoint(MODEL, "none", network.state_dict())
        write_onnx(path, program_of(checkpoint, accepted(MODEL), logits=True), about={})
        ways["onnxruntime"] = onnxruntime(path, x)
        if importlib.util.find_spec("openvino"):
            for precision in ("f32", "bf16"):
                ways[f"OpenVINO {precision}"] = openvino(path, x, precision)
    rounds = Rounds(ways)
    how = f"one pass of {SIDE} x {SIDE}, U-Net of width {MODEL.width}; ours in {dtype}"
    for name in ways:
        if name != "ours":
            yield rounds.ratio(
                f"times as fast as ours: {name}",
                lambda s, of=name: s["ours"] / s[of],  # type: ignore[misc]
                None if name.startswith("ours") else WORTH,
                at_least=False,
                against="this program's network: folded, channels last, convolutions by oneDNN",
                how=how,
            )
    if not any(name.startswith("OpenVINO") for name in ways):
        how = "not run: openvino is not installed"
        yield row("times as fast as ours: OpenVINO", None, WORTH, against="", how=how)


def ours(network: Network, x: Any, dtype: torch.dtype) -> Callable[[], Any]:
    made: Any = folded(network).to(dtype)
    made = made_direct(made.to(memory_format=memory_format(2)))
    seen = torch.from_numpy(x)

    def once() -> Any:
        with torch.inference_mode():
            return made(seen.to(dtype, memory_format=memory_format(2))).float()

    return once


def onnxruntime(path: Path, x: Any) -> Callable[[], Any]:
    import onnxruntime as engine

    options = engine.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = engine.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"input": x})


def openvino(path: Path, x: Any, precision: str) -> Callable[[], Any]:
    import openvino as engine

    core = engine.Core()
    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": precision}
    network = core.read_model(path)
    network.reshape(list(x.shape))
    compiled = core.compile_model(network, "CPU", settings)
    return lambda: compiled([x])


def main() -> int:
    rows = list(engines())
    print(json.dumps(rows))
    return 1 if any(each["met"] is False for each in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
