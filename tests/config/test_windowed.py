"""Which windows a network gets: those that are set, or the patches it was trained on."""

import pytest

from tests.config.test_demand import DEFAULTS, described
from unet_core.config import ConvertConfig, InferConfig, NetworkConfig, work_net
from unet_core.config.networks.cost import multiply_adds
from unet_core.config.windowed import in_windows, part_sizes, windows_for
from unet_core.errors import PlanError
from unet_core.geometry import Zyx
from unet_core.windows import Windows

EXACT = NetworkConfig(depth=2, padding="same", width=8)
CORNERS = NetworkConfig(depth=2, padding="same", width=8, up="bilinear", align_corners=True)
DEEP = NetworkConfig(depth=2, dimensions=3, padding="same", norm="instance", width=8)
FLAT = NetworkConfig(dimensions=3, depth=(1, 2, 1), padding="same", width=8)
LARGE = (3, 960, 999)


def windows(
    model: NetworkConfig, shape: Zyx = LARGE, patch: Zyx | None = None, **settings: object
) -> Windows | None:
    config = InferConfig(**settings)  # type: ignore[arg-type]
    return windows_for(config, model, shape=shape, patch=patch)


def test_windows_are_for_those_that_see_all_of_their_input_and_for_those_that_are_asked() -> None:
    assert windows(EXACT) is None
    assert not in_windows(InferConfig(), EXACT)
    assert in_windows(InferConfig(window=64), EXACT)
    assert in_windows(InferConfig(), CORNERS)
    for model in (
        DEEP,
        NetworkConfig(norm="group", width=8, depth=1, padding="same"),
        NetworkConfig(head="psp", depth=2, padding="same"),
        NetworkConfig(head="aspp", depth=2, padding="same"),
    ):
        assert in_windows(InferConfig(), model)


def test_windows_are_the_patches_of_training_unless_they_are_set() -> None:
    found = windows(CORNERS, patch=(1, 128, 160))
    assert found == Windows(LARGE, (1, 128, 160), (1, 85, 106))
    found = windows(CORNERS)
    assert found is not None
    assert found.size == (1, 512, 512)
    found = windows(CORNERS, patch=(1, 128, 160), window=64, window_stride=(42, 40))
    assert found == Windows(LARGE, (1, 64, 64), (1, 42, 40))
    found = windows(DEEP, (80, 90, 100), (16, 64, 64), window_weight="gaussian")
    assert found == Windows((80, 90, 100), (16, 64, 64), (8, 32, 32), weight="gaussian")


def test_windows_of_networks_that_lose_voxels_are_what_these_yield() -> None:
    valid = NetworkConfig(depth=1, norm="instance", sections=3)
    found = windows(valid, patch=(3, 60, 60))
    assert found is not None
    assert found.halo == (1, 8, 8)
    assert found.size == (1, 44, 44)
    assert found.seen_size == (3, 60, 60)


def test_along_a_short_axis_a_window_is_the_least_that_holds_it() -> None:
    found = windows(CORNERS, (2, 90, 999), (1, 128, 128))
    assert found is not None
    assert found.size == (1, 92, 128)
    assert found.starts[1] == (0,)
    found = windows(DEEP, (1, 90, 100), (16, 64, 64))
    assert found is not None
    assert found.size == (4, 64, 64)


@pytest.mark.parametrize(
    ("model", "settings", "told"),
    [
        (CORNERS, {"window": 63}, "63 x 63 .*nearest that is: 64 x 64"),
        (CORNERS, {"window": (1, 64, 64)}, "3 numbers.*2 axes.*y, x"),
        (DEEP, {"window": (64, 64)}, "z, y, x"),
        (FLAT, {"averaging": "turns"}, "turns lets y and x.*4 and 2 px"),
        (CORNERS, {"window": 64, "window_stride": 65}, "65 x 65 is larger than the window, 64"),
    ],
)
def test_windows_that_do_not_fit_are_refused(
    model: NetworkConfig, settings: dict[str, object], told: str
) -> None:
    with pytest.raises(PlanError, match=told):
        windows(model, **settings)


def test_what_windows_take_is_reckoned() -> None:
    """Those of CHASE_DB1 by mmsegmentation: 132 of 128 px, each 12.65 GMAC or so of its network."""
    model = NetworkConfig(depth=4, padding="same", norm="batch", up="bilinear", head="psp")
    extent = described(ConvertConfig(), (1, 960, 999))
    work = {
        averaging: work_net.infer(
            DEFAULTS
            | {
                "infer": InferConfig(averaging=averaging, window=128, window_stride=85),  # type: ignore[arg-type]
            },
            [model],
            extent,
            threads=1,
            gpus=0,
        )
        for averaging in ("none", "mirrors", "symmetries")
    }
    whole = 132 * 2 * multiply_adds(model, 128)
    again = work["none"].flops / whole
    assert 1 <= again < 1.5
    assert work["mirrors"].flops == pytest.approx(4 * again * whole)
    assert work["symmetries"].flops == pytest.approx(8 * again * whole)


@pytest.mark.parametrize("block", [512, 1024, 2048])
def test_the_largest_part_computes_the_fewest_windows_again(block: int) -> None:
    found = windows(CORNERS, (1, 4096, 4096), (1, 128, 128))
    assert found is not None
    sizes = part_sizes([found], step=1, shard=(1, block, block), shape=found.shape)
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == 1024
    again = [found.repeated((1, px, px)) for px in sizes]
    assert again[-1] == min(again) < 1.27
