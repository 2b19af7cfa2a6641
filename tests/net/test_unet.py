"""What a result depends on, and what it must not depend on, in float64."""

import itertools

import pytest
import torch
from torch import Tensor

from unet_core.config import NetworkConfig
from unet_core.config.networks.cost import parameters
from unet_core.config.networks.geometry import (
    geometry_of,
    nearest_input_size,
    output_size,
    padded_halo,
)
from unet_core.net.folding import folded, without_padding
from unet_core.net.initial import initialise
from unet_core.net.layers import CONVOLUTION
from unet_core.net.network import Network

UPS = ("transposed", "nearest", "bilinear")
CASES = [
    (2, up, padding, depth, convolutions)
    for up, padding in itertools.product(UPS, ("valid", "same"))
    for depth, convolutions in ((1, 2), (2, 2), (3, 2), (2, 1), (1, 3))
] + [(3, up, padding, 1, 2) for up, padding in itertools.product(UPS, ("valid", "same"))]


def network(dimensions: int, up: str, padding: str, depth: int, convolutions: int) -> Network:
    config = NetworkConfig(
        dimensions=dimensions,  # type: ignore[arg-type]
        up=up,  # type: ignore[arg-type]
        padding=padding,  # type: ignore[arg-type]
        depth=depth,
        convolutions=convolutions,
        width=3,
        channels=2,
        activation="leaky_relu",  # no dead units: what could matter does
    )
    return initialise(Network.of(config), seed=1).double().eval()


def noise(model: Network, size: int) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    shape = [1, model.config.channels, *[size] * model.config.dimensions]
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def along_y(x: Tensor, start: int, stop: int) -> Tensor:
    return x.narrow(-2, start, stop - start)


def equal(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("case", CASES)
@torch.inference_mode()
def test_a_tile_with_its_halo_equals_the_whole_and_one_voxel_less_does_not(case: tuple) -> None:
    model = network(*case)
    config, step = model.config, geometry_of(model.config).stride[2]
    halo = padded_halo(config)[2]
    if config.padding == "same":
        size = -(-(4 * halo + 2 * step) // step) * step
        x = noise(model, size) if config.dimensions == 2 else noise(model, 2 * halo + 2 * step)
    else:
        x = noise(model, nearest_input_size(config, 2 * halo + 4 * step) + step)
    whole = model(x)

    if config.padding == "valid":
        tile = model(along_y(x, step, x.shape[-2]))
        assert equal(tile, along_y(whole, step, whole.shape[-2]))
        # the first voxel of the halo reaches the first voxel of the result
        changed = x.clone()
        changed[..., 0, :] += 10
        assert not equal(along_y(model(changed), 0, 1), along_y(whole, 0, 1))
        return
    tile = model(along_y(x, step, x.shape[-2]))
    kept = along_y(tile, halo, tile.shape[-2])
    assert equal(kept, along_y(whole, step + halo, x.shape[-2]))
    assert not equal(along_y(tile, halo - step, halo), along_y(whole, halo, step + halo))


@pytest.mark.parametrize("case", [case for case in CASES if case[2] == "same"])
@torch.inference_mode()
def test_a_padded_network_run_without_padding_gives_the_same_inside(case: tuple) -> None:
    model = network(*case)
    config, step = model.config, geometry_of(model.config).stride[2]
    around, length = geometry_of(config).halo[2], step * 2
    x = noise(model, 2 * padded_halo(config)[2] + length)
    inside = padded_halo(config)[2]
    start = inside - around
    seen = x
    for axis in range(2, x.ndim):
        seen = seen.narrow(axis, start, length + 2 * around)
    valid = without_padding(model)
    result = valid(seen)
    beyond = (result.shape[-1] - length) // 2
    expected = model(x)
    for axis in range(2, x.ndim):
        result = result.narrow(axis, beyond, length)
        expected = expected.narrow(axis, inside, length)
    assert equal(result, expected)
    assert next(valid.parameters()).data_ptr() == next(model.parameters()).data_ptr()


@pytest.mark.parametrize("up", UPS)
@torch.inference_mode()
def test_two_tiles_on_the_grid_make_the_whole_and_off_the_grid_do_not(up: str) -> None:
    model = network(2, up, "valid", 3, 2)
    config = model.config
    around, tile = geometry_of(config).halo[2], 2 * geometry_of(config).stride[2]
    x = noise(model, 2 * tile + 2 * around)
    beyond = (output_size(config, tile + 2 * around) - tile) // 2

    def run(start: int, length: int) -> Tensor:
        result = model(along_y(x, start, start + length + 2 * around))
        return along_y(result, beyond, beyond + length)

    whole = run(0, 2 * tile)
    assert equal(torch.cat([run(0, tile), run(tile, tile)], dim=-2), whole)
    shifted = run(4, tile)
    assert not torch.allclose(shifted, along_y(whole, 4, 4 + tile), atol=1e-3)


@pytest.mark.parametrize(
    ("up", "norm", "dimensions"),
    list(itertools.product(UPS, ("none", "batch", "instance", "group"), (2, 3))),
)
def test_parameters_and_sizes_are_those_of_the_network(up: str, norm: str, dimensions: int) -> None:
    for padding in ("valid", "same"):
        config = NetworkConfig(
            dimensions=dimensions,
            up=up,
            norm=norm,
            padding=padding,
            width=8,
            depth=2,
            classes=3,  # type: ignore[arg-type]
        )
        size = nearest_input_size(config, 60)
        with torch.device("meta"):
            model = Network.of(config)
            result = model(torch.zeros(1, 1, *[size] * dimensions))
        assert sum(p.numel() for p in model.parameters()) == parameters(config)
        assert result.shape == (1, 3, *[output_size(config, size)] * dimensions)


@pytest.mark.parametrize("padding", ["valid", "same"])
@torch.inference_mode()
def test_folding_the_normalisation_changes_nothing(padding: str) -> None:
    config = NetworkConfig(norm="batch", padding=padding, width=4, depth=2)  # type: ignore[arg-type]
    model = initialise(Network.of(config), seed=0).double()
    x = noise(model, nearest_input_size(config, 60))
    for _ in range(3):
        model(x)
    model.eval()
    without = folded(model)
    assert not any("running" in name for name in without.state_dict())
    assert equal(without(x), model(x))


def test_weights_have_the_deviation_of_the_paper() -> None:
    model = initialise(Network.of(NetworkConfig(width=16, depth=2)), seed=3)
    weight = model.at("decoder.0.0").weight  # 64 channels of 3x3: N = 576
    assert weight.std().item() == pytest.approx((2 / 576) ** 0.5, rel=0.02)
    assert all((p == 0).all() for name, p in model.named_parameters() if name.endswith("bias"))


def test_dropout_acts_in_training_alone() -> None:
    model = initialise(Network.of(NetworkConfig(width=4, depth=1, dropout=0.5)), seed=0)
    x = torch.ones(1, 1, 20, 20)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


@pytest.mark.parametrize("channels", [1, 8])
@pytest.mark.parametrize("sections", [1, 2, 3])
def test_few_sections_are_computed_and_learnt_in_bfloat16_as_in_float32(
    sections: int, channels: int
) -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2, channels, sections, 6, 6, generator=generator)
    x = x.to(memory_format=torch.channels_last_3d)
    layer = CONVOLUTION[3](channels, 4, kernel_size=3, padding=1)
    with torch.no_grad():
        layer.weight.normal_(generator=generator)

    def run(dtype: torch.dtype) -> list[Tensor]:
        given = x.clone().requires_grad_()
        poison = [torch.full((size,), torch.nan) for size in 20 * [100, 500, 1000, 2000]]
        del poison  # what is left unwritten shows
        with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
            result = layer(given).float()
        return [result, *torch.autograd.grad(result.square().sum(), [given, *layer.parameters()])]

    for got, expected in zip(run(torch.bfloat16), run(torch.float32), strict=True):
        assert (got - expected).abs().max() < 0.03 * expected.abs().max()
