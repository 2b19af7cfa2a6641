"""The components of one block are those of scipy, and its pieces know their place."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from unet_core.config.result import Scope
from unet_core.ops.components import label_block, pieces_of

SCOPES = ("section", "volume")
MASKS = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=9))


def scipy_labels(mask: np.ndarray, scope: Scope) -> tuple[np.ndarray, int]:
    structure = ndimage.generate_binary_structure(3, 1)
    if scope == "section":
        structure[[0, 2]] = False
    return ndimage.label(mask, structure)


@pytest.mark.parametrize("scope", SCOPES)
@settings(deadline=None, max_examples=50)
@given(mask=MASKS)
def test_components_are_those_of_scipy_with_the_same_ids(scope: Scope, mask: np.ndarray) -> None:
    expected, n = scipy_labels(mask, scope)
    for form in (mask, mask.view(np.uint8) * np.uint8(7), np.asfortranarray(mask)):
        labels, count = label_block(form, scope)
        assert count == n
        assert labels.dtype == np.uint32
        assert labels.flags.c_contiguous
        np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize("scope", SCOPES)
def test_dense_noise_with_odd_columns_is_that_of_scipy(scope: Scope) -> None:
    for seed, width in enumerate((31, 32, 33)):
        mask = np.random.default_rng(seed).random((5, 31, width)) < 0.6
        np.testing.assert_array_equal(label_block(mask, scope)[0], scipy_labels(mask, scope)[0])


@settings(deadline=None, max_examples=30)
@given(mask=MASKS, start=st.tuples(*[st.integers(0, 5)] * 3))
def test_first_is_the_smallest_index_in_the_whole_volume(
    mask: np.ndarray, start: tuple[int, int, int]
) -> None:
    shape = tuple(a + n + 2 for a, n in zip(start, mask.shape, strict=True))
    labels, count = label_block(mask, "volume")
    pieces = pieces_of(labels, count, start=start, shape=shape, scope="volume")
    whole = np.zeros(shape, np.uint32)
    whole[tuple(slice(a, a + n) for a, n in zip(start, mask.shape, strict=True))] = labels
    for piece in range(1, count + 1):
        where = np.flatnonzero(whole == piece)
        assert (pieces.first[piece - 1], pieces.size[piece - 1]) == (where[0], len(where))


def test_faces_are_the_outermost_layers() -> None:
    labels = np.arange(24, dtype=np.uint32).reshape(2, 3, 4)
    pieces = pieces_of(labels, 23, start=(0, 0, 0), shape=(2, 3, 4), scope="volume")
    np.testing.assert_array_equal(pieces.faces["z1"], labels[1])
    np.testing.assert_array_equal(pieces.faces["y0"], labels[:, 0])
    np.testing.assert_array_equal(pieces.faces["x1"], labels[:, :, 3])
    alone = pieces_of(labels, 23, start=(0, 0, 0), shape=(2, 3, 4), scope="section")
    assert set(alone.faces) == {"y0", "y1", "x0", "x1"}
