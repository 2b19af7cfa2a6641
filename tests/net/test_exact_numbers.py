"""Exactness of what inference computes with: number types, batches, sections, intensities."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.net.exact import (
    FLOAT32,
    at_once,
    bits,
    flat,
    forward,
    in_drawn_numbers,
    in_tiles,
    in_whole_numbers,
    networks,
    probabilities,
    seeds,
    stacked,
    torch_as_before,
    whole_numbers,
)
from tests.strategies import zyx
from unet_core.config import NetworkConfig
from unet_core.config.networks.geometry import geometry_of
from unet_core.geometry import Zyx
from unet_core.net import predict
from unet_core.net.parts import tiling_of
from unet_core.net.predict import Predictor
from unet_core.ops.intensity import normalise, normaliser

__all__ = ["torch_as_before"]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(("up", "sections"), [("transposed", 1), ("nearest", 3), ("bilinear", 1)])
def test_passes_of_160_px_and_more_are_equal_bits_in_float32_and_bfloat16(
    up: str, sections: int, precision: str
) -> None:
    model = NetworkConfig(width=8, depth=2, up=up, sections=sections)  # type: ignore[arg-type]
    config = replace(FLOAT32, precision=precision)  # type: ignore[arg-type]
    predictor = Predictor(in_drawn_numbers(model, 1), config)
    volume = np.random.default_rng(0).standard_normal((1, 1, 333, 330)).astype(np.float32)
    whole = probabilities(predictor, volume, tiling_of(model, 336), (1, 336, 336))
    for tile_px, block in ((160, (1, 336, 336)), (192, (1, 200, 330))):
        tiled = probabilities(predictor, volume, tiling_of(model, tile_px), block)
        assert bits(tiled) == bits(whole)
    assert np.ptp(whole) > 0.1


@given(model=st.one_of(flat, stacked), seed=seeds, count=st.integers(2, 6), most=st.integers(1, 6))
@settings(deadline=None, max_examples=15)
def test_sections_at_a_time_and_in_a_tile_change_rounding_at_most(
    model: NetworkConfig, seed: int, count: int, most: int
) -> None:
    model = replace(model, depth=1)
    predictor = Predictor(in_drawn_numbers(model, seed), FLOAT32)
    predictor.network.double()
    predictor.dtype = torch.float64
    volume = whole_numbers(model, (count, 20, 22)).astype(np.float32)
    one = probabilities(predictor, volume, tiling_of(model, 8), (1, 16, 22))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predict, "batch_of", lambda *_, **__: most)
        tiling = tiling_of(model, 8, sections=count)
        together = probabilities(predictor, volume, tiling, (count, 16, 22))
    assert abs(together - one).max() < 1e-6


@given(model=networks, seed=seeds)
@settings(deadline=None, max_examples=15)
def test_inference_shows_the_network_its_sections_channel_by_channel(
    model: NetworkConfig, seed: int
) -> None:
    predictor = Predictor(in_drawn_numbers(model, seed), FLOAT32)
    predictor.network.double()
    predictor.dtype = torch.float64
    size = 2 * geometry_of(model).halo[2] + geometry_of(model).stride[2]
    sections = size if model.dimensions == 3 else model.sections + 1
    seen = whole_numbers(model, (sections, size, size + geometry_of(model).stride[2])).astype(
        np.float32
    )
    logits = torch.from_numpy(forward(predictor.network, seen.astype(np.float64)))
    found = predictor.probabilities(torch.from_numpy(seen)).numpy()
    assert abs(found - logits.softmax(dim=0)[1:].numpy()).max() < 1e-6


@given(model=stacked, seed=seeds, section=st.integers(0, 4), shape=zyx(1, 24))
@settings(deadline=None, max_examples=20)
def test_a_network_that_heeds_one_section_gives_what_is_there(
    model: NetworkConfig, seed: int, section: int, shape: Zyx
) -> None:
    model, section = replace(model, depth=1), section % model.sections
    volume = whole_numbers(model, shape)
    alone = in_whole_numbers(replace(model, sections=1), seed)
    one_of_many = in_whole_numbers(model, seed)
    state = alone.state_dict()
    first = torch.zeros_like(one_of_many.state_dict()["encoder.0.0.weight"])
    first[:, section :: model.sections] = state["encoder.0.0.weight"]
    one_of_many.load_state_dict({**state, "encoder.0.0.weight": first})
    found = in_tiles(one_of_many, volume, tiling_of(model, 8), block=(2, 8, 16))
    # Section z sees z - 1, z, z + 1 of three; before the first and after the last they mirror.
    beside = model.sections // 2
    order = np.pad(np.arange(shape[0]), beside, mode="reflect")[section : section + shape[0]]
    assert np.array_equal(found, at_once(alone, volume)[:, order])


@pytest.mark.parametrize("method", ["mean_std", "percentile"])
def test_intensities_follow_the_statistics_of_the_store_and_nothing_that_a_tile_sees(
    method: str,
) -> None:
    rng = np.random.default_rng(0)
    volume = rng.integers(90, 110, (2, 1, 60, 61)).astype(np.uint8)
    statistics = [  # not those of these voxels: they come from elsewhere
        {"mean": 50.0 + c, "sd": 25.0, "min": 0.0, "max": 200.0}
        | {"percentiles": np.linspace(10, 190 + c, 1001).tolist()}
        for c in range(2)
    ]
    by = normaliser(statistics, method, "uint8")  # type: ignore[arg-type]
    model = NetworkConfig(width=4, depth=1, channels=2)
    trained = in_drawn_numbers(model, 0)
    predictor, bare = Predictor(trained, FLOAT32, by=by), Predictor(trained, FLOAT32)
    tiling = tiling_of(model, 16)

    found = probabilities(predictor, volume, tiling, (1, 16, 40))
    assert np.array_equal(found, probabilities(bare, normalise(volume, by), tiling, (1, 16, 40)))
    # a quarter of the volume becomes white: mean, deviation and range of all of it change
    other = volume.copy()
    other[..., 30:] = 255
    far = (..., slice(0, 30 - geometry_of(model).reach[2]))
    changed = probabilities(predictor, other, tiling, (1, 16, 40))
    assert bits(changed[far]) == bits(found[far])
    # other statistics, same voxels: other results
    by = normaliser(
        [
            {**one, "mean": 60.0, "min": 5.0, "percentiles": [0.9 * p for p in one["percentiles"]]}
            for one in statistics
        ],
        method,
        "uint8",
    )  # type: ignore[arg-type, union-attr]
    elsewhere = probabilities(Predictor(trained, FLOAT32, by=by), volume, tiling, (1, 16, 40))
    assert abs(elsewhere - found).max() > 1e-3
