"""Warping error of ISBI 2012: what is wrong in topology, once borders may shift without cost."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from unet_core.metrics.thinning import _components

RADIUS_PX = 20
"""Half the window in which a pixel is said to hold an object together."""


class Mismatches(NamedTuple):
    """Pixels of a section that are still wrong after warping."""

    all: int
    splits_and_mergers: int


def warping_mismatches(
    truth: npt.NDArray[np.bool_],
    probability: npt.NDArray[Any],
    threshold: float,
    ignored: npt.NDArray[np.bool_] | None = None,
) -> Mismatches:
    """Warp truth towards the result without changing its topology; count what stays wrong.

    Mismatched pixels are flipped in truth, the surest first, where that is simple (foreground
    4-connected, background 8-connected), until none is left that may be (Jain et al. 2010).
    Divided by the pixels of the section this is the warping error; 0 is best.

    Parameters
    ----------
    truth : (y, x) bool
        Interior of the objects.
    probability : (y, x) float
        Of the interior; what is above `threshold` was found.
    ignored : (y, x) bool
        Pixels where truth is taken to be what was found.
    """
    found = probability > threshold
    warped = np.zeros((truth.shape[0] + 2, truth.shape[1] + 2), np.uint8)
    warped[1:-1, 1:-1] = truth if ignored is None else np.where(ignored, found, truth)
    target = np.zeros_like(warped)
    target[1:-1, 1:-1] = found
    x, y = np.nonzero((warped != target)[1:-1, 1:-1].T)  # column by column
    order = np.argsort(-np.abs(probability[y, x] - threshold), kind="stable")
    left = _warp(warped, target, (y[order] + 1), (x[order] + 1), _SIMPLE)
    if left == 0:
        return Mismatches(0, 0)
    counted = _splits_and_mergers(warped, target, _components(warped), RADIUS_PX)
    return Mismatches(int(left), int(counted))


@njit(cache=True)
def _around(image: Any, y: int, x: int) -> int:
    """The eight neighbours as bits 0..7, clockwise from the upper left."""
    return int(
        image[y - 1, x - 1]
        | image[y - 1, x] << 1
        | image[y - 1, x + 1] << 2
        | image[y, x + 1] << 3
        | image[y + 1, x + 1] << 4
        | image[y + 1, x] << 5
        | image[y + 1, x - 1] << 6
        | image[y, x - 1] << 7
    )


def _is_simple(around: int) -> bool:
    """Whether flipping the centre keeps the topology, foreground 4- and background 8-connected.

    That is: one run of foreground on the ring of eight holds a 4-neighbour (an odd bit), and the
    ring is not all foreground.
    """
    if around == 255:
        return False
    bits = [around >> i & 1 for i in range(8)]
    # Starting after a background bit no run goes over the end.
    first = bits.index(0)
    runs, touching = 0, False
    for i in [(first + k) % 8 for k in range(1, 9)]:
        if bits[i]:
            touching = touching or i % 2 == 1
        else:
            runs, touching = runs + touching, False
    return runs == 1


_SIMPLE = np.array([_is_simple(around) for around in range(256)])


@njit(cache=True)
def _warp(warped: Any, target: Any, ys: Any, xs: Any, simple: Any) -> int:
    """Flip simple mismatches of `warped` in place, in the order given; returns how many stay."""
    left = len(ys)
    before = left + 1
    # The list is kept packed: who was flipped agrees with the target and is not seen again.
    while left != before:
        before = left
        kept = 0
        for k in range(left):
            y, x = ys[k], xs[k]
            if simple[_around(warped, y, x)]:
                warped[y, x] = target[y, x]
            else:
                ys[kept], xs[kept] = y, x
                kept += 1
        left = kept
    return left


@njit(cache=True)
def _splits_and_mergers(warped: Any, target: Any, labels: Any, radius: int) -> int:
    height, width = warped.shape
    count = 0
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            if warped[y, x] == target[y, x]:
                continue
            different = _different(labels, y, x)
            if different >= 3:
                count += 1
            elif different == 2 and warped[y, x]:
                y0, x0 = max(0, y - radius), max(0, x - radius)
                window = warped[y0 : y + radius + 1, x0 : x + radius + 1].copy()
                window[y - y0, x - x0] = 0
                if _different(_components(window), y - y0, x - x0) > 2:
                    count += 1
    return count


@njit(cache=True)
def _different(labels: Any, y: int, x: int) -> int:
    """Different ids, 0 included, among the eight neighbours."""
    seen = np.empty(8, np.int64)
    n = 0
    for v in range(y - 1, y + 2):
        for u in range(x - 1, x + 2):
            if v == y and u == x:
                continue
            known = False
            for k in range(n):
                known = known or seen[k] == labels[v, u]
            if not known:
                seen[n] = labels[v, u]
                n += 1
    return n
