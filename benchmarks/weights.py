"""Speed of the border weight map beside the loops in common use.

    python benchmarks/weights.py

The last line is a JSON list of {name, value, target, met, against, how}. All are timed in this
process on one thread, taking turns, medians, in seconds of CPU time, so that other
load on the machine counts little. Results agree to 1e-5 or the run fails.
"""

# isort: off
from measure import Row, medians, row
# isort: on

import json

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unet_core.geometry import split
from unet_core.ops.boundary import target_of_instances
from unet_core.ops.phantom import make_phantom
from unet_core.ops.weight_map import border_halo, border_term

W0, SIGMA = 10.0, 5.0
Ids = NDArray[np.uint32]
Spacing = list[float] | None


def ours(ids: Ids) -> NDArray[np.floating]:
    sections = ids.reshape(-1, *ids.shape[-2:])
    target = target_of_instances(sections, border_px=0)
    return border_term(sections, target, weight=W0, sigma_px=SIGMA).reshape(ids.shape)


def stacked(ids: Ids) -> NDArray[np.floating]:
    """One distance transform of the whole image per cell, stacked and sorted."""
    away = np.stack([ndimage.distance_transform_edt(ids != i) for i in np.unique(ids[ids > 0])])
    away.sort(axis=0)
    return _term(away[0], away[1]) * (ids == 0)


def running(ids: Ids, spacing: Spacing = None) -> NDArray[np.floating]:
    """One distance transform of the whole image per cell, the two smallest kept."""
    first, second = np.full(ids.shape, np.inf), np.full(ids.shape, np.inf)
    for i in np.unique(ids[ids > 0]):
        _keep(ndimage.distance_transform_edt(ids != i, sampling=spacing), first, second)
    return _term(first, second) * (ids == 0)


def boxed(ids: Ids, spacing: Spacing = None) -> NDArray[np.floating]:
    """One distance transform per cell of its bounding box grown by 6 sigma."""
    reach = [int(np.ceil(6 * SIGMA / s)) for s in spacing or [1.0] * ids.ndim]
    first, second = np.full(ids.shape, np.inf), np.full(ids.shape, np.inf)
    for i, box in enumerate(ndimage.find_objects(ids.astype(np.int64)), start=1):
        if box is not None:
            grown = tuple(
                slice(max(0, s.start - r), s.stop + r) for s, r in zip(box, reach, strict=True)
            )
            away = ndimage.distance_transform_edt(ids[grown] != i, sampling=spacing)
            _keep(away, first[grown], second[grown])
    return _term(first, second) * (ids == 0)


def _keep(away: NDArray[np.floating], first: NDArray, second: NDArray) -> None:
    np.minimum(second, np.maximum(away, first), out=second)
    np.minimum(first, away, out=first)


def _term(first: NDArray, second: NDArray) -> NDArray[np.floating]:
    return W0 * np.exp(-((first + second) ** 2) / (2 * SIGMA**2))


def scattered(size: int, cells: int, radius: float) -> Ids:
    """Round cells, each clipped where another is nearer, with background between."""
    rng = np.random.default_rng(0)
    centre = rng.integers(0, size, (cells, 2))
    names = np.zeros((size, size), np.uint32)
    names[tuple(centre.T)] = np.arange(1, cells + 1)
    away, nearest = ndimage.distance_transform_edt(names == 0, return_indices=True)
    found: Ids = np.where(away < radius, names[tuple(nearest)], 0).astype(np.uint32)
    return found


def usual_loops() -> list[Row]:
    ids = scattered(512, 300, 9.0)
    for other in (stacked, running, boxed):
        np.testing.assert_allclose(ours(ids), other(ids), rtol=0, atol=1e-5)
    a, b, c, d = medians(*(lambda f=f: f(ids) for f in (ours, stacked, running, boxed)))
    how = f"512x512, 300 cells, {(ids > 0).mean():.0%} foreground"
    return [
        row(
            "border map, times the stacked loop",
            b / a,
            100,
            against="one full EDT per cell, stacked and sorted",
            how=f"{how}: {a:.4f} s and {b:.3f} s",
        ),
        row(
            "border map, times the running-minimum loop",
            c / a,
            50,
            against="one full EDT per cell, two smallest kept",
            how=f"{how}: {a:.4f} s and {c:.3f} s",
        ),
        row(
            "border map, times bounding boxes",
            d / a,
            None,
            against="one EDT per cell's bounding box grown by 6 sigma",
            how=f"{how}: {a:.4f} s and {d:.4f} s",
        ),
    ]


def large_section() -> Row:
    ids = scattered(2048, 5000, 9.0)
    some = np.where(ids <= 8, ids, 0).astype(np.uint32)
    (a,) = medians(lambda: ours(ids))
    (b,) = medians(lambda: running(some), rounds=1)
    how = f"2048x2048, 5000 cells: {a:.3f} s and {b * 5000 / 8:.0f} s (8 cells timed, scaled)"
    against = "one full EDT per cell, two smallest kept"
    return row(
        "border map of a large section, times the loop",
        b * 5000 / 8 / a,
        1000,
        against=against,
        how=how,
    )


def dense_sections() -> Row:
    ids = make_phantom((4, 512, 512), 0)[1]
    np.testing.assert_allclose(ours(ids), np.stack([boxed(s) for s in ids]), rtol=0, atol=1e-5)
    a, b = medians(lambda: ours(ids), lambda: [boxed(s) for s in ids])
    how = f"4 sections of the phantom, 512x512: {a:.4f} s and {b:.3f} s; {b / a:.0f}x boxes"
    return row(
        "border map of tissue, MPx/s", ids.size / a / 1e6, 10, against="its own target", how=how
    )


def in_3d() -> list[Row]:
    ids = make_phantom((24, 192, 192), 0)[1]
    target = target_of_instances(ids, border_px=0)
    spacing, cells = 12.5, int(ids.max())
    some = np.where(ids <= 4, ids, 0).astype(np.uint32)

    def whole() -> NDArray[np.floating]:
        return border_term(ids, target, weight=W0, sigma_px=SIGMA, z_spacing=spacing)

    np.testing.assert_allclose(whole(), boxed(ids, [spacing, 1, 1]), rtol=0, atol=1e-5)
    a, b = medians(whole, lambda: boxed(ids, [spacing, 1, 1]))
    (c,) = medians(lambda: running(some, [spacing, 1, 1]))
    c *= cells / 4
    how = f"phantom of 24x192x192, {cells} cells, spacing 12.5: {a:.3f} s and"
    return [
        row(
            "border map in 3-D, times the loop",
            c / a,
            20,
            against="one full EDT per cell, two smallest kept",
            how=f"{how} {c:.1f} s (4 cells timed, scaled)",
        ),
        row(
            "border map in 3-D, times bounding boxes",
            b / a,
            None,
            against="one EDT per cell's bounding box grown by 6 sigma",
            how=f"{how} {b:.3f} s",
        ),
    ]


def blocks_differ() -> Row:
    ids = make_phantom((2, 512, 512), 0)[1]
    target = target_of_instances(ids, border_px=1)
    whole, differ = border_term(ids, target), 0
    for edge in (128, 200, 333):
        for box in split(ids.shape, block=(1, edge, edge)):
            seen = box.grow(border_halo(SIGMA)).clip(ids.shape)
            part = border_term(ids[seen.slices], target[seen.slices])
            core = part[box.relative_to(seen.start).slices]
            differ += int((core != whole[box.slices]).sum())
    return row(
        "border map, pixels that differ between blockings",
        differ,
        0,
        at_least=False,
        against="the whole section",
        how="blocks of 128, 200 and 333 px, 2 x 512x512",
    )


if __name__ == "__main__":
    ours(scattered(64, 4, 5.0))  # compile
    results = [*usual_loops(), large_section(), dense_sections(), *in_3d(), blocks_differ()]
    print(json.dumps(results))
