"""Volumes in windows: the same bytes for every cut, and what whole images give plainly."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.stages.test_infer import (
    MODEL,
    checkpoint_file,
    noise,
    probabilities_of,
    raw_store,
    torch_as_before,
)
from unet_core.config import InferConfig, NetworkConfig, Resources
from unet_core.errors import PlanError
from unet_core.io.arrays import open_level
from unet_core.io.ngff import attributes_of
from unet_core.net.checkpoint import read_checkpoint, write_checkpoint
from unet_core.net.network import Network
from unet_core.stages.infer import infer_probabilities
from unet_core.windows import Windows

__all__ = ["torch_as_before"]

SAME = replace(MODEL, padding="same")
CORNERS = replace(SAME, up="bilinear", align_corners=True)
DEEP = replace(SAME, dimensions=3, depth=1, width=3, norm="instance")
PLAIN = InferConfig(precision="float32", window=32, dtype="float16")

CASES: dict[str, tuple[NetworkConfig, tuple[int, ...], InferConfig]] = {
    "corners": (CORNERS, (1, 3, 70, 90), PLAIN),
    "2.5-D, logits": (
        replace(CORNERS, sections=3),
        (1, 3, 50, 70),
        replace(PLAIN, window_stride=(10, 21), averaged="logits"),
    ),
    "instance norm, gaussian": (
        DEEP,
        (1, 12, 40, 40),
        replace(PLAIN, window=(8, 16, 16), window_weight="gaussian", averaged="logits"),
    ),
    "mirrors, sigmoid": (
        replace(CORNERS, output="sigmoid"),
        (1, 1, 40, 60),
        replace(PLAIN, averaging="mirrors", downsample=(1, 2, 2)),
    ),
    "exact, but asked for windows": (SAME, (1, 1, 50, 70), replace(PLAIN, averaging="turns")),
    "smaller than a window": (CORNERS, (1, 2, 20, 61), replace(PLAIN, window=64)),
    "without padding": (
        replace(MODEL, depth=1, norm="instance"),
        (1, 1, 60, 70),
        replace(PLAIN, window=28),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_every_cut_gives_the_same_bytes(case: str, tmp_path: Path) -> None:
    model, shape, config = CASES[case]
    values = noise(shape)
    z, y, x = shape[1:]
    whole = probabilities_of(
        tmp_path, values, shard=(z, -(-y // 8) * 8, -(-x // 8) * 8), config=config, model=model
    )
    assert whole.std() > 0
    workers = 2 if case == "corners" else 1  # they take long to start
    for shard, tile_px, threads in [((1, 24, 16), 16, 1), ((2, 16, 40), 40, workers)]:
        found = probabilities_of(
            tmp_path,
            values,
            shard=shard,
            config=replace(config, tile_px=tile_px),
            model=model,
            threads=threads,
        )
        assert np.array_equal(found, whole)


def plainly(
    values: np.ndarray, path: Path, windows: Windows, *, logits: bool
) -> np.ndarray[Any, Any]:
    """Means over windows of a section, as one writes them for an image in memory."""
    checkpoint = read_checkpoint(path)
    network = Network.of(checkpoint.model).double()
    network.load_state_dict(checkpoint.state)
    network.eval()
    raw = (values[0, 0] - values.mean()) / values.std()
    total = np.zeros((checkpoint.model.classes, *raw.shape))
    count = np.zeros(raw.shape)
    for top in windows.starts[1]:
        for left in windows.starts[2]:
            at = slice(top, top + windows.size[1]), slice(left, left + windows.size[2])
            with torch.inference_mode():
                found = network(torch.from_numpy(raw[at])[None, None])[0]
            total[(slice(None), *at)] += (found if logits else found.softmax(dim=0)).numpy()
            count[at] += 1
    mean = torch.from_numpy(total / count)
    return (mean.softmax(dim=0) if logits else mean)[1:].numpy()


@pytest.mark.parametrize("logits", [False, True])
def test_windows_are_means_over_a_whole_image(tmp_path: Path, logits: bool) -> None:
    values = noise((1, 1, 70, 90))
    config = replace(PLAIN, tile_px=48, averaged="logits" if logits else "probabilities")
    found = probabilities_of(tmp_path, values, shard=(1, 24, 40), config=config, model=CORNERS)
    windows = Windows((1, 70, 90), (1, 32, 32), (1, 21, 21))
    expected = plainly(values, tmp_path / "best.pt", windows, logits=logits)
    assert abs(found[:, 0] - expected).max() < 6e-4, "a step of float16, and float32"


def test_a_network_without_exact_tiles_says_so_and_runs_in_windows_of_its_patches(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = checkpoint_file(tmp_path / "best.pt", CORNERS)
    write_checkpoint(path, replace(read_checkpoint(path), patch=(1, 32, 48)))
    raw = raw_store(tmp_path / "raw.ome.zarr", noise((1, 1, 70, 90)), (1, 24, 40))
    with caplog.at_level(logging.INFO):
        infer_probabilities(
            InferConfig(precision="float32"),
            raw=raw,
            checkpoint=path,
            out=tmp_path / "out",
            resources=Resources(),
        )
    told = attributes_of(tmp_path / "out")
    assert told["unet"]["windows"]["size"] == [1, 32, 48]
    assert told["unet"]["windows"]["stride"] == [1, 21, 32]
    assert told["unet"]["windows"]["weight"] == "count"
    assert "align" in told["unet"]["windows"]["because"]
    made = told["provenance"]["settings"]
    assert made["windows"] == {"size": [1, 32, 48], "stride": [1, 21, 32]}
    assert not {"tile_px", "window", "window_stride"} & made["infer"].keys()
    (line,) = [message for message in caplog.messages if "no exact tiling" in message]
    assert "9 windows of 1 x 32 x 48 voxels, at most 1 x 21 x 32 apart" in line


def test_windows_of_a_region_are_those_of_the_whole_volume(tmp_path: Path) -> None:
    values = noise((1, 2, 70, 90))
    whole = probabilities_of(tmp_path, values, shard=(1, 24, 40), config=PLAIN, model=CORNERS)
    config = replace(PLAIN, region=((1, 2), (13, 50), (31, 77)))
    part = probabilities_of(tmp_path, values, shard=(1, 24, 40), config=config, model=CORNERS)
    assert np.array_equal(part[:, 1:2, 13:50, 31:77], whole[:, 1:2, 13:50, 31:77])
    assert part.astype(bool).sum() == part[:, 1:2, 13:50, 31:77].astype(bool).sum()


def test_networks_of_one_volume_may_be_tiled_and_in_windows(tmp_path: Path) -> None:
    """Each as it would be alone; then the mean of their probabilities."""
    values = noise((1, 1, 50, 70))
    config = replace(PLAIN, window=None, tile_px=16)
    alone = [
        probabilities_of(tmp_path / name, values, shard=(1, 24, 40), config=config, model=model)
        for name, model in {"a": SAME, "b": CORNERS}.items()
    ]
    paths = [tmp_path / name / "best.pt" for name in "ab"]
    for out, tile_px in (("16", 16), ("auto", "auto")):
        infer_probabilities(
            replace(config, tile_px=tile_px),
            raw=tmp_path / "a/raw.ome.zarr",
            checkpoint=paths,
            out=tmp_path / out,
            resources=Resources(),
        )
        found = np.asarray(open_level(tmp_path / out)[:])
        assert abs(found - (alone[0].astype(float) + alone[1]) / 2).max() < 1e-3
        told = attributes_of(tmp_path / out)["unet"]["windows"]
        assert sum(each is None for each in told) == 1


def test_a_network_with_a_logit_per_class_predicts_no_class_0(tmp_path: Path) -> None:
    model = replace(MODEL, output="sigmoid")
    with pytest.raises(PlanError, match=r"infer\.classes 0.*sigmoid"):
        probabilities_of(
            tmp_path,
            noise((1, 1, 16, 16)),
            shard=(1, 16, 16),
            config=InferConfig(classes=(0, 1)),
            model=model,
        )


def test_another_tile_computes_nothing_anew_and_another_stride_all(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number, config in enumerate(
        [
            replace(PLAIN, tile_px=16),
            replace(PLAIN, tile_px=48),
            replace(PLAIN, window=(32, 32)),
            replace(PLAIN, window_stride=20),
        ]
    ):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            probabilities_of(
                tmp_path, noise((1, 1, 40, 40)), shard=(1, 40, 40), config=config, model=CORNERS
            )
        done = "infer: resumed 1, computed 0" in caplog.messages
        assert done == (number in (1, 2)), json.dumps(caplog.messages)
