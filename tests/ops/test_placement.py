from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from unet_core.config import AugmentConfig, load
from unet_core.errors import ConfigError
from unet_core.geometry import Box
from unet_core.ops.placement import Place, Scene, border_voxels, draw_place

PLAIN = AugmentConfig(patch=(1, 40, 40))

RARE = np.zeros((2, 200, 300), np.uint8)
"""Class 1 in the second section, class 2 one voxel of it."""
RARE[1, 40:44, 250:254] = 1
RARE[1, 41, 251] = 2


def scene(target: NDArray[np.uint8], *classes: int) -> Scene:
    def read(volume: int, box: Box) -> Any:
        assert volume == 0
        assert all(
            0 <= a < b <= n for a, b, n in zip(box.start, box.stop, target.shape, strict=True)
        )
        return target[box.slices]

    return Scene([target.shape], read, classes or (1,))  # type: ignore[list-item]


def place(index: int, config: AugmentConfig, of: Scene) -> Place:
    return draw_place(np.random.default_rng([7, index]), config, of)


def found(config: AugmentConfig, target: NDArray[np.uint8], *classes: int, n: int = 40) -> NDArray:
    """Class at the centre of the first patches."""
    of = scene(target, *classes)
    return np.array([target[place(i, config, of)[1]] for i in range(n)])


def anywhere(n: int, target: NDArray[np.uint8] = RARE) -> list[Place]:
    return [place(i, PLAIN, scene(target)) for i in range(n)]


def test_a_bias_of_1_centres_every_patch_on_a_rare_border() -> None:
    config = replace(PLAIN, border_bias=1.0)
    places = [place(i, config, scene(RARE))[1] for i in range(40)]
    assert all(border_voxels(RARE[z])[y, x] for z, y, x in places)


def test_border_voxels_are_of_class_0_beside_another_class() -> None:
    target = np.array([[0, 0, 1, 1, 0, 255, 0]], np.uint8)
    assert border_voxels(target).tolist() == [[False, True, False, False, True, False, False]]


def test_a_share_of_1_centres_every_patch_on_a_class_and_each_class_as_often() -> None:
    classes = found(replace(PLAIN, foreground_share=1.0), RARE, 1, 2, n=200)
    assert set(classes) == {1, 2}
    assert (classes == 2).mean() == pytest.approx(0.5, abs=0.12)


def test_a_class_that_is_not_found_is_replaced_by_another() -> None:
    classes = found(replace(PLAIN, foreground_share=1.0), RARE, 1, 2, 3)
    assert (classes > 0).all()


@pytest.mark.parametrize("settings", [{"border_bias": 1.0}, {"foreground_share": 1.0}])
@pytest.mark.parametrize("value", [0, 255])
def test_where_nothing_is_to_be_found_patches_are_placed_anywhere(
    settings: dict[str, float], value: int
) -> None:
    target = np.full((2, 200, 300), value, np.uint8)
    places = [place(i, replace(PLAIN, **settings), scene(target)) for i in range(5)]  # type: ignore[arg-type]
    assert places == anywhere(5)


@given(share=st.floats(0, 1), bias=st.floats(0, 1))
@settings(deadline=None, max_examples=10)
def test_a_share_leaves_the_other_patches_where_they_were(share: float, bias: float) -> None:
    bias = min(bias, 1 - share)
    config = replace(PLAIN, foreground_share=share, border_bias=bias)
    places = [place(i, config, scene(RARE)) for i in range(30)]
    moved = sum(a != b for a, b in zip(places, anywhere(30), strict=True))
    assert moved == pytest.approx(30 * (share + bias), abs=12)


def test_the_border_share_stays_where_it_was_beside_one_of_classes() -> None:
    alone = [place(i, replace(PLAIN, border_bias=0.4), scene(RARE)) for i in range(40)]
    both = [
        place(i, replace(PLAIN, border_bias=0.4, foreground_share=0.3), scene(RARE))
        for i in range(40)
    ]
    assert [b for a, b in zip(alone, both, strict=True) if a != b] == [
        b for b in both if RARE[b[1]] > 0
    ]


def test_background_is_kept_with_its_chance_and_ignored_voxels_never() -> None:
    # Half background, a quarter class 1, a quarter ignored: of those kept, 0.1 / (0.1 + 0.5) = 1/6.
    target = np.zeros((1, 100, 100), np.uint8)
    target[:, 50:, :50], target[:, 50:, 50:] = 1, 255
    classes = found(replace(PLAIN, background_chance=0.1), target, n=600)
    assert set(classes) == {0, 1}
    assert (classes == 0).mean() == pytest.approx(1 / 6, abs=0.05)
    assert set(found(replace(PLAIN, background_chance=0.0), target, n=100)) == {1}


def test_a_patch_that_is_nearly_one_class_is_placed_again() -> None:
    # Class 1 right of column 100: patches of 40 pixels see both only near it.
    target = np.zeros((1, 200, 200), np.uint8)
    target[:, :, 100:] = 1

    def shares(config: AugmentConfig) -> list[float]:
        places = [place(i, config, scene(target))[1] for i in range(100)]
        seen = [target[0, :, max(x - 20, 0) : x + 20] for _, _, x in places]
        return [max(part.mean(), 1 - part.mean()) for part in seen]

    assert np.mean(np.array(shares(PLAIN)) < 0.75) < 0.2
    # One of 11 places at least: 1 - 0.9^11 = 0.69.
    assert np.mean(np.array(shares(replace(PLAIN, largest_share=0.75))) < 0.75) > 0.55


def test_a_patch_that_is_mixed_enough_stays() -> None:
    target = np.indices((1, 200, 300)).sum(0).astype(np.uint8) % 2
    config = replace(PLAIN, largest_share=0.75)
    assert [place(i, config, scene(target)) for i in range(5)] == anywhere(5, target)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"foreground_share": 1.5}, "foreground_share must be in"),
        ({"foreground_share": 0.6, "border_bias": 0.6}, "add up to 1 at most"),
        ({"background_chance": -0.1}, "background_chance must be in"),
        ({"largest_share": 0}, "largest_share must be in"),
    ],
)
def test_shares_that_are_none_are_refused(wrong: dict[str, float], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load(AugmentConfig, wrong, section="augment")
