"""How fast scores are counted, beside scikit-image and the plain way, in the same run.

    python benchmarks/score.py

CPU time of one thread, medians of interleaved repetitions; under three minutes. The last thing
printed is a JSON list.
"""

# isort: off
from measure import Row, medians, row
# isort: on

import json
from collections import deque

import numpy as np
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from skimage.metrics import adapted_rand_error

from unet_core.metrics.contingency import contingency
from unet_core.metrics.isbi import isbi_counts, threshold_grid, truth_objects
from unet_core.metrics.overlap import match, overlaps
from unet_core.metrics.rand import rand_scores
from unet_core.metrics.thinning import thin_borders

REPETITIONS = 9
IOU_THRESHOLDS = [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]


def main() -> None:
    rows = [*tables(), *thinning(), *matching(), *whole_set()]
    print(json.dumps(rows, indent=1))


def tables() -> list[Row]:
    truth, found = cells((24, 512, 512), sd_px=6, shift=0), cells((24, 512, 512), sd_px=6, shift=2)

    def ours() -> float:
        return rand_scores(contingency(truth, found), "pairs_zero_is_label").error

    def theirs() -> float:
        return float(adapted_rand_error(truth, found)[0])

    mine, other = medians(ours, theirs, rounds=REPETITIONS)
    difference = abs(ours() - theirs())
    speed = truth.size / mine / 1e6
    how = f"24x512x512, {truth.max()} objects, {speed:.0f} Mvoxel/s, CPU s, medians of "
    return [
        row(
            "adapted Rand error, times scikit-image",
            other / mine,
            3,
            at_least=True,
            against=f"skimage.metrics.adapted_rand_error: {other:.3f} s",
            how=f"{how}{REPETITIONS}, interleaved: {mine:.3f} s",
        ),
        row(
            "adapted Rand error, difference to scikit-image",
            difference,
            1e-12,
            at_least=False,
            against="skimage.metrics.adapted_rand_error",
            how="variant pairs_zero_is_label on the same volumes",
        ),
    ]


def thinning() -> list[Row]:
    rng = np.random.default_rng(1)
    inside = np.abs(ndimage.gaussian_filter(rng.normal(size=(512, 512)), 5)) > 0.03
    mine, other = medians(
        lambda: thin_borders(inside), lambda: thin_plainly(inside), rounds=REPETITIONS
    )
    wrong = int((thin_borders(inside) != thin_plainly(inside)).sum())
    return [
        row(
            "border thinning, times plain Python",
            other / mine,
            50,
            at_least=True,
            against=f"components and queue rule in plain Python: {other:.2f} s",
            how=f"512x512, {1e3 * mine:.1f} ms, CPU s, medians of {REPETITIONS}, interleaved",
        ),
        row(
            "border thinning, pixels that differ",
            wrong,
            0,
            at_least=False,
            against="components and queue rule in plain Python",
            how="512x512",
        ),
    ]


def matching() -> list[Row]:
    truth, found = (
        cells((1, 2048, 2048), sd_px=2, shift=0)[0],
        cells((1, 2048, 2048), sd_px=2, shift=1)[0],
    )
    number = int(truth.max())

    def ours() -> list[int]:
        return [m.tp for m in match(overlaps(contingency(truth, found)), IOU_THRESHOLDS)]

    def naive() -> list[int]:
        wide = int(found.max()) + 1
        pair = truth.ravel().astype(np.int64) * wide + found.ravel()
        table = np.bincount(pair, minlength=(number + 1) * wide).reshape(number + 1, wide)
        sizes = table.sum(1, keepdims=True) + table.sum(0, keepdims=True)
        iou = (table / np.maximum(sizes - table, 1))[1:, 1:]
        counts = []
        for threshold in IOU_THRESHOLDS:
            good = iou >= threshold
            counts.append(int(good[linear_sum_assignment(-good.astype(float))].sum()))
        return counts

    mine, other = medians(ours, naive, rounds=5)
    return [
        row(
            "average precision, times a dense table with an assignment",
            other / mine,
            10,
            at_least=True,
            against=f"numpy.bincount and scipy linear_sum_assignment: {other:.3f} s",
            how=f"2048x2048, {number} objects, 10 thresholds, equal counts: {ours() == naive()}; "
            f"{1e3 * mine:.1f} ms, CPU s, medians of 5, interleaved",
        )
    ]


def whole_set() -> list[Row]:
    rng = np.random.default_rng(3)
    smooth = np.abs(ndimage.gaussian_filter(rng.normal(size=(512, 512)), 6))
    smooth /= smooth.max()
    noise = ndimage.gaussian_filter(rng.normal(size=smooth.shape), 2)
    probability = np.round(255 * np.clip(4 * smooth + 0.4 * noise, 0, 1)) / 255
    objects = truth_objects((smooth > 0.06).astype(np.uint32))
    (mine,) = medians(
        lambda: isbi_counts(objects, probability, threshold_grid(11)), rounds=REPETITIONS
    )
    return [
        row(
            "ISBI set of 30 sections, seconds",
            30 * mine,
            20,
            at_least=False,
            against="a target: no other complete implementation was run",
            how="30 times one 512x512 section with 11 thresholds (V_rand, V_info, Rand, pixel and "
            f"warping error): {mine:.3f} s, CPU s, median of {REPETITIONS}",
        )
    ]


def cells(shape: tuple[int, int, int], *, sd_px: float, shift: int) -> np.ndarray:
    """Blobs with borders between in every section, sizes by `sd_px`; `shift` moves them."""
    rng = np.random.default_rng(0)
    labels, last = np.zeros(shape, np.uint32), 0
    for section in labels:
        rough = ndimage.gaussian_filter(rng.normal(size=shape[1:]), sd_px)
        found, n = ndimage.label(np.roll(np.abs(rough) > 0.05 / sd_px, shift, axis=1))
        section[...] = np.where(found, found + last, 0)
        last += n
    return labels


def thin_plainly(inside: np.ndarray) -> np.ndarray:
    """Components and the queue rule without any compiled loop."""
    height, width = inside.shape
    solid = inside.tolist()
    label = [[0] * width for _ in solid]  # 0 untouched, -1 queued, -2 dam
    queue: deque[tuple[int, int]] = deque()
    steps = ((0, -1), (-1, 0), (0, 1), (1, 0))
    number = 0
    for y in range(height):
        for x in range(width):
            if solid[y][x] and not label[y][x]:
                number += 1
                label[y][x] = number
                queue.append((y, x))
            while queue:
                b, a = queue.popleft()
                for dy, dx in steps:
                    v, u = b + dy, a + dx
                    if 0 <= v < height and 0 <= u < width and solid[v][u] and not label[v][u]:
                        label[v][u] = number
                        queue.append((v, u))
    for x in range(width):
        for y in range(height):
            if label[y][x] == 0:
                for dy, dx in steps:
                    v, u = y + dy, x + dx
                    if 0 <= v < height and 0 <= u < width and label[v][u] > 0:
                        label[y][x] = -1
                        queue.append((y, x))
                        break
    while queue:
        y, x = queue.popleft()
        own, inherited = -1, False
        for dy, dx in steps:
            v, u = y + dy, x + dx
            if not (0 <= v < height and 0 <= u < width):
                continue
            other = label[v][u]
            if other > 0:
                if own == -1 or (own == -2 and inherited):
                    own = other
                elif own > 0 and own != other:
                    own, inherited = -2, False
            elif other == -2 and own == -1:
                own, inherited = -2, True
            elif other == 0:
                label[v][u] = -1
                queue.append((v, u))
        label[y][x] = own
    return np.maximum(np.array(label), 0)


if __name__ == "__main__":
    main()
