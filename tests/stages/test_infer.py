"""The probabilities of a volume: one result, whatever the blocks, tiles, workers and ends."""

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from unet_core.config import InferConfig, NetworkConfig, Resources
from unet_core.config.networks.geometry import geometry_of
from unet_core.errors import BlockError, CheckpointError, PlanError, StoreError
from unet_core.geometry import Box, Zyx
from unet_core.io.arrays import array_digest, create_array, open_level, shard_of
from unet_core.io.ledger import building
from unet_core.io.ngff import attributes_of, content_of, multiscale, voxel_size_of
from unet_core.net.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from unet_core.net.initial import initialise
from unet_core.net.network import Network
from unet_core.run import inference
from unet_core.stages.infer import infer_probabilities

CONFIG = InferConfig(tile_px=16, precision="float32")
MODEL = NetworkConfig(width=4, depth=2, classes=3, activation="leaky_relu")
SIZE = (50.0, 4.0, 4.0)


@pytest.fixture(autouse=True, scope="module")
def torch_as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def statistics_of(values: np.ndarray) -> list[dict[str, Any]]:
    return [
        {
            "count": channel.size,
            "mean": float(channel.mean()),
            "sd": float(channel.std()),
            "min": float(channel.min()),
            "max": float(channel.max()),
            "percentiles": np.percentile(channel, np.linspace(0, 100, 1001)).tolist(),
        }
        for channel in values
    ]


def raw_store(
    store: Path,
    values: np.ndarray,
    shard: Zyx,
    statistics: list[dict[str, Any]] | None = None,
    *,
    chunk: Zyx = (1, 8, 8),
) -> Path:
    """A finished raw store of (c, z, y, x) values."""
    inputs = {"file": array_digest(values), "shard": list(shard)}
    with building(store, stage="convert", settings={}, inputs=inputs) as build:
        create_array(store, "0", shape=values.shape, dtype=values.dtype, chunk=chunk, shard=shard)[
            :
        ] = values
        build.tick("copy", "all", digest=array_digest(values), note=None)
        build.publish(
            ome=multiscale("raw", axes="czyx", voxel_size_nm=SIZE),
            unet={"statistics": statistics or statistics_of(values)},
        )
    return store


def checkpoint_file(path: Path, model: NetworkConfig = MODEL, normalise: str = "mean_std") -> Path:
    network = initialise(Network.of(model), seed=2)
    write_checkpoint(path, Checkpoint(model, normalise, network.state_dict()))
    return path


def noise(shape: tuple[int, ...], dtype: str = "uint8") -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


def probabilities_of(
    folder: Path,
    values: np.ndarray,
    *,
    shard: Zyx,
    config: InferConfig = CONFIG,
    model: NetworkConfig = MODEL,
    statistics: list[dict[str, Any]] | None = None,
    **resources: int,
) -> np.ndarray:
    folder.mkdir(exist_ok=True)
    out = folder / "probabilities.ome.zarr"
    infer_probabilities(
        config,
        raw=raw_store(folder / "raw.ome.zarr", values, shard, statistics),
        checkpoint=checkpoint_file(folder / "best.pt", model),
        out=out,
        resources=Resources(**resources),
    )
    return np.asarray(open_level(out)[:])


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal but for float32's rounding: one step of 255, hardly anywhere."""
    difference = found.astype(int) - expected
    assert abs(difference).max(initial=0) <= 1
    assert (difference != 0).mean() < 0.01


CASES = {
    "odd sections": (MODEL, (1, 3, 37, 61), (1, 16, 24), 12),
    "shards off the grid": (replace(MODEL, depth=3), (1, 2, 30, 50), (1, 10, 18), 16),
    "smaller than a tile": (MODEL, (1, 1, 5, 3), (1, 8, 8), 64),
    "one row": (MODEL, (1, 2, 1, 40), (1, 8, 16), 8),
    "padded, two channels": (
        replace(MODEL, padding="same", norm="batch", channels=2),
        (2, 2, 33, 20),
        (2, 16, 8),
        8,
    ),
    "bilinear": (replace(MODEL, up="bilinear", classes=2), (1, 2, 40, 20), (2, 16, 8), 16),
    "three axes": (replace(MODEL, dimensions=3, depth=1), (1, 7, 21, 13), (4, 8, 8), 6),
    "three axes, padded": (
        replace(MODEL, dimensions=3, depth=1, padding="same", width=3),
        (1, 1, 12, 19),
        (2, 8, 16),
        8,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_blocks_and_tiles_equal_one_pass_over_the_whole(case: str, tmp_path: Path) -> None:
    model, shape, shard, tile_px = CASES[case]
    values, whole = noise(shape), tuple(shape[1:])
    config = replace(CONFIG, tile_px=tile_px)
    once = replace(CONFIG, tile_px=64)
    expected = probabilities_of(tmp_path / "a", values, shard=whole, config=once, model=model)
    found = probabilities_of(tmp_path / "b", values, shard=shard, config=config, model=model)
    assert found.shape == (model.classes - 1, *whole)
    assert np.ptp(found) > 20 or found.size < 100
    assert_same(found, expected)


def test_part_of_a_volume_gives_what_it_gives_in_the_whole(tmp_path: Path) -> None:
    values = noise((1, 2, 120, 100))
    known = statistics_of(values)
    whole = probabilities_of(tmp_path / "a", values, shard=(2, 64, 104), statistics=known)
    part = values[..., 8:, 12:90]
    config = replace(CONFIG, tile_px=20)
    found = probabilities_of(
        tmp_path / "b", part, shard=(1, 40, 48), config=config, statistics=known
    )
    halo = geometry_of(MODEL).halo[2]
    inside = (..., slice(halo, -halo), slice(halo, -halo))
    assert found[inside].size > 3000
    assert_same(found[inside], whole[..., 8:, 12:90][inside])


def files_of(folder: Path) -> dict[str, bytes]:
    out = folder / "probabilities.ome.zarr"
    return {str(f.relative_to(out)): f.read_bytes() for f in out.rglob("*") if f.is_file()}


def test_files_are_the_same_bytes_for_one_worker_and_two(tmp_path: Path) -> None:
    values = noise((1, 2, 30, 40))
    for threads in (1, 2):
        probabilities_of(tmp_path / str(threads), values, shard=(2, 16, 24), threads=threads)
    assert files_of(tmp_path / "1") == files_of(tmp_path / "2")


def test_files_are_the_same_bytes_for_one_thread_and_five(tmp_path: Path) -> None:
    values = noise((1, 7, 30, 40))
    for threads in (1, 5):  # one block: one worker, which computes five tiles at a time
        probabilities_of(tmp_path / str(threads), values, shard=(7, 32, 40), threads=threads)
    assert files_of(tmp_path / "1") == files_of(tmp_path / "5")


def test_an_interrupted_run_goes_on_and_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    values = noise((1, 4, 16, 24))
    expected = probabilities_of(tmp_path / "a", values, shard=(1, 16, 24))
    write, written = inference.write_block, []

    def write_two(array: Any, box: Box, data: np.ndarray) -> str:
        if len(written) == 2:
            raise OSError("the disk is full")
        written.append(box)
        return write(array, box, data)

    monkeypatch.setattr(inference, "write_block", write_two)
    with pytest.raises(BlockError, match="the disk is full"):
        probabilities_of(tmp_path / "b", values, shard=(1, 16, 24))
    out = tmp_path / "b" / "probabilities.ome.zarr"
    with pytest.raises(StoreError, match="not finished"):
        attributes_of(out)

    monkeypatch.setattr(inference, "write_block", write)
    with caplog.at_level(logging.INFO):
        found = probabilities_of(tmp_path / "b", values, shard=(1, 16, 24))
    assert "infer: resumed 2, computed 2" in caplog.messages
    assert np.array_equal(found, expected)
    assert content_of(out) == content_of(tmp_path / "a" / "probabilities.ome.zarr")
    marker = "probabilities.ome.zarr/zarr.json"
    assert (tmp_path / "a" / marker).read_bytes() == (tmp_path / "b" / marker).read_bytes()


def test_another_tile_computes_nothing_anew_another_type_everything(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values = noise((1, 2, 16, 24))
    first = probabilities_of(tmp_path, values, shard=(1, 16, 24))
    for config, told in [
        (replace(CONFIG, tile_px=8), "infer: resumed 2, computed 0"),
        (replace(CONFIG, dtype="float16"), "infer: resumed 0, computed 2"),
        (replace(CONFIG, dtype="float16", averaging="symmetries"), "infer: resumed 0, computed 2"),
    ]:
        caplog.clear()
        with caplog.at_level(logging.INFO):
            found = probabilities_of(tmp_path, values, shard=(1, 16, 24), config=config)
        assert told in caplog.messages
        if config.averaging == "none":
            assert np.allclose(
                found / (255 if found.dtype == np.uint8 else 1), first / 255, atol=0.003
            )
    assert found.dtype == np.float16


def test_blocks_of_another_cut_are_not_taken_for_finished(tmp_path: Path) -> None:
    """The same voxels, stored in other shards: the same content, but no block is the same."""
    values = noise((1, 1, 24, 24))
    expected = probabilities_of(tmp_path / "whole", values, shard=(1, 24, 24))
    for shard in [(1, 24, 24), (1, 8, 8), (1, 16, 24)]:
        assert_same(probabilities_of(tmp_path / "cut", values, shard=shard), expected)
        assert shard_of(open_level(tmp_path / "cut/probabilities.ome.zarr")) == shard


def test_the_store_says_what_it_holds_and_what_it_was_made_from(tmp_path: Path) -> None:
    probabilities_of(tmp_path, noise((1, 3, 20, 40), "uint16"), shard=(3, 16, 16))
    out = tmp_path / "probabilities.ome.zarr"
    level, told = open_level(out), attributes_of(out)
    assert (level.shape, level.dtype, level.chunks) == ((2, 3, 20, 40), np.uint8, (1, 1, 8, 8))
    assert shard_of(level) == (3, 16, 16)
    assert [axis["name"] for axis in told["ome"]["multiscales"][0]["axes"]] == list("czyx")
    assert voxel_size_of(out) == SIZE
    assert told["unet"]["channels"] == ["class 1", "class 2"]
    assert told["unet"]["model"]["width"] == MODEL.width
    made = told["provenance"]
    assert "tile_px" not in made["settings"]["infer"]
    assert made["settings"]["infer"]["precision"] == "float32"
    assert made["inputs"] == {
        "raw": content_of(tmp_path / "raw.ome.zarr"),
        "checkpoint": read_checkpoint(tmp_path / "best.pt").content,
        "cut": {"chunk": [1, 8, 8], "shard": [3, 16, 16]},
    }
    assert str(tmp_path) not in json.dumps(told)


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_signed_and_floating_raw_with_holes_is_no_obstacle(dtype: str, tmp_path: Path) -> None:
    values = noise((1, 1, 20, 20), "int16").astype(dtype) - 100
    known = statistics_of(values)
    if dtype == "float32":
        values[0, 0, 3:5, 7] = np.nan
    found = probabilities_of(tmp_path, values, shard=(1, 16, 16), statistics=known)
    assert np.ptp(found) > 20


def test_a_constant_volume_has_one_probability(tmp_path: Path) -> None:
    found = probabilities_of(tmp_path, np.full((1, 2, 20, 20), 7, np.uint8), shard=(1, 16, 16))
    assert np.ptp(found, axis=(1, 2, 3)).max() <= 1


def test_what_does_not_fit_together_is_refused_before_any_block(tmp_path: Path) -> None:
    raw = raw_store(tmp_path / "raw.ome.zarr", noise((2, 1, 16, 16)), (1, 16, 16))
    keys: dict[str, Any] = {
        "raw": raw,
        "checkpoint": checkpoint_file(tmp_path / "best.pt"),
        "out": tmp_path / "out.ome.zarr",
        "resources": Resources(),
    }
    with pytest.raises(StoreError, match=r"has 2 channel.s., the network was trained on 1"):
        infer_probabilities(CONFIG, **keys)
    keys["checkpoint"] = checkpoint_file(tmp_path / "two.pt", replace(MODEL, channels=2))
    with pytest.raises(PlanError, match=r"4 px .*got 10.*nearest.*: 12"):
        infer_probabilities(replace(CONFIG, tile_px=10), **keys)
    with pytest.raises(PlanError, match=r"one block needs about \d+ MB, the job has 100 MB"):
        infer_probabilities(CONFIG, **{**keys, "resources": Resources(memory_mb=100)})
    with pytest.raises(StoreError, match="has no array '0'"):
        infer_probabilities(CONFIG, **{**keys, "raw": tmp_path / "none"})
    with pytest.raises(CheckpointError, match="does not exist"):
        infer_probabilities(CONFIG, **{**keys, "checkpoint": tmp_path / "none.pt"})
    if not torch.cuda.is_available():
        with pytest.raises(PlanError, match="finds none"):
            infer_probabilities(CONFIG, **{**keys, "resources": Resources(gpus=1)})
    infer_probabilities(CONFIG, **keys)
    with pytest.raises(StoreError, match="no raw store"):
        infer_probabilities(CONFIG, **{**keys, "raw": keys["out"], "out": tmp_path / "again"})


def test_ruined_weights_are_named_with_the_block(tmp_path: Path) -> None:
    network = initialise(Network.of(MODEL), seed=2)
    network.head.bias.data[0] = torch.inf
    write_checkpoint(tmp_path / "best.pt", Checkpoint(MODEL, "none", network.state_dict()))
    with pytest.raises(BlockError, match=r"block 0-0-0: CheckpointError.*not finite"):
        infer_probabilities(
            CONFIG,
            raw=raw_store(tmp_path / "raw.ome.zarr", noise((1, 1, 16, 16)), (1, 16, 16)),
            checkpoint=tmp_path / "best.pt",
            out=tmp_path / "out.ome.zarr",
            resources=Resources(),
        )
