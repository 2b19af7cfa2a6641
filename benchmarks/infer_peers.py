"""MONAI's sliding window with the same weights on the same section, and what both make of it."""

# isort: off
from measure import Elsewhere, Rounds, Row, fresh, row
# isort: on

import importlib.util
import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from infer_data import real, sections

from unet_core.config import InferConfig, NetworkConfig
from unet_core.config.networks.geometry import geometry_of
from unet_core.geometry import Box
from unet_core.net.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from unet_core.net.device import choose_device, choose_dtype, memory_format, prepare
from unet_core.net.engine import Engine
from unet_core.net.folding import folded
from unet_core.net.initial import initialise
from unet_core.net.memory import keep_freed_memory
from unet_core.net.network import Network
from unet_core.net.parts import parts_of
from unet_core.net.predict import Predictor

MODEL = NetworkConfig(width=16, padding="same", norm="batch", dropout=0.0)
SIDE = 2048
WINDOW = 512
EDGE = 96
"""Voxels at the image's edge that are not compared: what lies beyond is mirrored for us, 0 for a
padded network."""

STEPS, PATCH = 400, 192


def peers() -> Iterator[Row]:
    if importlib.util.find_spec("monai") is None:
        yield row("times MONAI", None, 1.2, against="MONAI", how="not run: monai is not installed")
        return
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "best.pt"
        agrees = fresh(train, path)
        ways = {
            "ours": Elsewhere(ours, path),
            "MONAI 0.25": Elsewhere(monai, path, 0.25, "constant"),
            "MONAI 0.5 gaussian": Elsewhere(monai, path, 0.5, "gaussian"),
        }
        deviations = fresh(deviation, path)
        kind = "real" if real() else "made-up"
        how = (
            f"{SIDE} px of {kind} sections, the same weights (width 16, trained {STEPS} steps, "
            f"{agrees:.1%} of held-out pixels right), number type and layout; windows of {WINDOW}"
        )
        with Rounds(ways) as rounds:
            for name, target in (("0.25", 1.2), ("0.5 gaussian", 2.0)):
                yield rounds.ratio(
                    f"times faster than MONAI's sliding window, overlap {name}",
                    lambda s, of=f"MONAI {name}": s[of] / s["ours"],
                    target,
                    against="monai.inferers.SlidingWindowInferer, sw_batch_size 1",
                    how=how,
                )
    for name, (largest, flips) in deviations.items():
        yield row(
            f"largest deviation from one pass over the whole, {name}",
            largest,
            0.0 if name == "ours" else None,
            at_least=False,
            against="the padded network on the whole section at once",
            how=f"probability of membrane, {EDGE} px at the edge left out",
            pixels_of_another_class=flips,
        )


def train(path: Path) -> float:
    """A small network for membranes, and the share of pixels of a section unseen it gets right."""
    torch.manual_seed(0)
    raw, truth = sections()
    network = initialise(Network.of(MODEL), seed=0).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-3)
    rng, dtype = np.random.default_rng(0), dtype_here()
    for _ in range(STEPS):
        z = rng.integers(0, len(raw) - 1)
        y, x = rng.integers(0, np.array(raw.shape[1:]) - PATCH + 1)
        cut = (z, slice(y, y + PATCH), slice(x, x + PATCH))
        target = torch.from_numpy(truth[cut].astype(np.int64))[None]
        seen = torch.from_numpy(normalised(raw[cut]))[None, None]
        with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
            logits = network(seen)
        loss = torch.nn.functional.cross_entropy(logits.float(), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    write_checkpoint(path, Checkpoint(MODEL, "none", network.eval().state_dict()))
    with torch.inference_mode():
        found = network(torch.from_numpy(normalised(raw[-1]))[None, None]).argmax(1)[0].numpy()
    return float((found == truth[-1]).mean())


def dtype_here() -> torch.dtype:
    return choose_dtype("auto", choose_device(0))


def normalised(raw: Any) -> Any:
    return (raw.astype(np.float32) - 128) / 64


def section() -> Any:
    """(SIDE, SIDE) float32: different sections side by side."""
    raw, _ = sections()
    size = raw.shape[1]
    found = np.empty((SIDE, SIDE), np.float32)
    for number, (y, x) in enumerate(itertools.product(range(0, SIDE, size), repeat=2)):
        part = found[y : y + size, x : x + size]
        part[:] = normalised(raw[number % len(raw)])[: part.shape[0], : part.shape[1]]
    return found


def ours(path: Path) -> Callable[[], Any]:
    """Our tiles over the section: stored probabilities, here as precise as others' are."""
    keep_freed_memory(True)  # as workers do whose memory suffices
    config = InferConfig(tile_px=WINDOW, dtype="float16")
    engine = Engine([Predictor(read_checkpoint(path), config)], config)
    box = Box((0, 0, 0), (1, SIDE, SIDE))
    parts = parts_of([MODEL], box, tile_px=WINDOW, downsample=(1, 1, 1))
    halo = geometry_of(MODEL).halo[2]
    image = section()

    def once() -> Any:
        seen = np.pad(image, halo, "reflect")[None, None]
        out = np.empty((1, 1, SIDE, SIDE), np.float16)
        at = (0, -halo, -halo)
        engine.fill(out, parts, seen, first=(0, 0, 0), at=at, passes=1)
        return out[0, 0]

    return once


def padded(path: Path) -> Callable[[torch.Tensor], torch.Tensor]:
    """The padded network as others call it, in our number type and layout."""
    prepare(choose_device(0), threads=1)
    network = folded(read_checkpoint(path).network()).to(dtype_here())
    network = network.to(memory_format=memory_format(2)).eval()  # type: ignore[call-overload]

    def logits(x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = network(x.to(dtype_here(), memory_format=memory_format(2)))
        return found.float()

    return logits


def monai(path: Path, overlap: float, mode: str) -> Callable[[], Any]:
    from monai.inferers import SlidingWindowInferer

    inferer = SlidingWindowInferer((WINDOW, WINDOW), 1, overlap, mode)
    logits, image = padded(path), torch.from_numpy(section())[None, None]

    @torch.inference_mode()
    def once() -> Any:
        return inferer(image, logits).softmax(1)[0, 1].numpy()

    return once


def deviation(path: Path) -> dict[str, tuple[float, float]]:
    """Largest difference of a probability, and share of pixels of another class."""
    logits = padded(path)
    with torch.inference_mode():
        whole = logits(torch.from_numpy(section())[None, None]).softmax(1)[0, 1]
    inside = (slice(EDGE, -EDGE), slice(EDGE, -EDGE))
    expected = whole.numpy()[inside]
    found = {"ours": ours(path)()[inside].astype(np.float32)}
    for overlap, mode in ((0.25, "constant"), (0.25, "gaussian"), (0.5, "gaussian")):
        found[f"MONAI {overlap} {mode}"] = monai(path, overlap, mode)()[inside]
    as_stored = whole.half().float().numpy()[inside]
    told = {}
    for name, values in found.items():
        of = as_stored if name == "ours" else expected
        flips = float(((values > 0.5) != (of > 0.5)).mean())
        told[name] = float(np.abs(values - of).max()), flips
    return told
