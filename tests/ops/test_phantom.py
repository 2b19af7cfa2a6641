from itertools import pairwise

import cc3d
import numpy as np
import pytest
from numpy.typing import NDArray

from unet_core.errors import ConfigError
from unet_core.ops.phantom import make_phantom

Phantom = tuple[NDArray[np.uint8], NDArray[np.uint32]]


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_phantom((24, 512, 512), seed=1)


def rand_f(truth: np.ndarray, found: np.ndarray) -> float:
    """Foreground-restricted Rand F of one section: pixels of `found` 0 are objects of their own."""
    key, count = np.unique(
        truth[truth > 0] * np.int64(2**32) + found[truth > 0], return_counts=True
    )
    i, j, n = key >> 32, key & (2**32 - 1), count.astype(float)
    a, b = np.bincount(i, n), np.bincount(j, n)
    joint = (n[j > 0] ** 2).sum() + b[0]
    return float(2 * joint / ((a**2).sum() + (b[1:] ** 2).sum() + b[0]))


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 40, 300), (3, 65, 50), (2, 7, 3)])
def test_same_shape_and_seed_give_the_same_stack(shape: tuple[int, int, int]) -> None:
    raw, ids = make_phantom(shape, seed=5)
    again, same = make_phantom(shape, seed=5)
    np.testing.assert_array_equal(raw, again)
    np.testing.assert_array_equal(ids, same)
    assert raw.shape == ids.shape == shape
    assert (raw.dtype, ids.dtype) == (np.uint8, np.uint32)


def test_another_seed_gives_another_stack() -> None:
    raws = [make_phantom((1, 64, 64), seed=seed)[0] for seed in (0, 1)]
    assert (raws[0] != raws[1]).mean() > 0.9


def test_every_id_is_one_object_in_3d_numbered_in_raster_order(phantom: Phantom) -> None:
    ids = phantom[1]
    parts, n = cc3d.connected_components(ids, connectivity=6, return_N=True)
    assert n == ids.max() == np.unique(parts[ids > 0]).size
    names, first = np.unique(ids, return_index=True)
    assert names.tolist() == list(range(n + 1))
    assert (np.diff(first[1:]) > 0).all()


def test_ids_never_touch_within_a_section(phantom: Phantom) -> None:
    ids = phantom[1]
    for a, b in ((ids[:, 1:], ids[:, :-1]), (ids[:, :, 1:], ids[:, :, :-1])):
        assert not ((a != b) & (a > 0) & (b > 0)).any()


def test_hundreds_of_cells_go_on_from_section_to_section(phantom: Phantom) -> None:
    ids = phantom[1]
    assert 200 < ids.max() < 2000
    depths = [np.unique(section[section > 0]) for section in ids]
    assert 80 < np.mean([len(d) for d in depths]) < 300
    kept = [np.isin(b, a).mean() for a, b in pairwise(depths)]
    assert 0.9 < np.mean(kept) < 1
    assert (ids[1:] != ids[:-1]).mean() > 0.03  # cells drift


def test_membranes_are_about_a_fifth_and_darker_than_cells(phantom: Phantom) -> None:
    raw, ids = phantom
    assert 0.15 < (ids == 0).mean() < 0.30
    assert raw[ids == 0].mean() < raw[ids > 0].mean() - 30
    assert np.std([section.mean() for section in raw]) > 3  # sections differ in brightness


def test_a_plain_threshold_fails(phantom: Phantom) -> None:
    raw, ids = phantom
    best = max(
        np.mean(
            [
                rand_f(t, cc3d.connected_components((r > level).view(np.uint8), connectivity=4))
                for r, t in zip(raw[::6], ids[::6], strict=True)
            ]
        )
        for level in range(60, 200, 10)
    )
    assert best < 0.5


@pytest.mark.parametrize(("shape", "seed"), [((0, 5, 5), 0), ((1, 5, 5), -1)])
def test_nonsense_is_refused(shape: tuple[int, int, int], seed: int) -> None:
    with pytest.raises(ConfigError, match=">= 1 voxel per axis"):
        make_phantom(shape, seed)
