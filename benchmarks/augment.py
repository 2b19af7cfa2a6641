"""How fast patches are deformed, beside scipy on the same machine in the same run.

    python benchmarks/augment.py

CPU seconds of one thread, medians of interleaved repetitions. The last thing printed is a JSON
list.
"""

# isort: off
from measure import medians, row
# isort: on

import json
from typing import Any

import numpy as np
from scipy import ndimage

from unet_core.ops import elastic

SHAPE = (572, 572)
REPETITIONS = 15


def main() -> None:
    rng = np.random.default_rng(0)
    grid = elastic.draw_displacement(rng, 3, 10.0)
    (y0, x0), (y1, x1) = elastic.reach(elastic.source_coordinates(SHAPE, grid=grid))
    origin = np.array([y0, x0], np.float32)[:, None, None]
    image = rng.random((y1 - y0, x1 - x0), np.float32)
    border = rng.random(image.shape, np.float32)
    target = rng.integers(0, 3, image.shape).astype(np.uint8)

    def ours() -> Any:
        at = elastic.source_coordinates(SHAPE, grid=grid, code=5)
        at -= origin
        seen = elastic.warp(image, at, order=3)
        return seen, elastic.warp(target, at, order=0), elastic.warp(border, at, order=1)

    at = elastic.source_coordinates(SHAPE, grid=grid, code=5) - origin

    def scipys() -> Any:  # given the coordinates, which ours makes anew
        seen = ndimage.map_coordinates(image, at, order=3, mode="mirror")
        classes = ndimage.map_coordinates(target, at, order=0, mode="mirror")
        return seen, classes, ndimage.map_coordinates(border, at, order=1, mode="mirror")

    def our_field() -> Any:
        return elastic.displacement_field(grid, SHAPE)

    def scipys_field() -> Any:
        zoom = [n / 3 for n in SHAPE]
        return [ndimage.zoom(of, zoom, order=3, mode="mirror", grid_mode=False) for of in grid]

    warp, warp_scipy = medians(ours, scipys, rounds=REPETITIONS)
    field, field_scipy = medians(our_field, scipys_field, rounds=REPETITIONS)
    _, classes, weight = ours()
    _, classes_scipy, weight_scipy = scipys()
    wrong = float(np.mean(classes != classes_scipy))
    error = float(np.abs(weight - weight_scipy).max())
    print(f"warp       {1 / warp:8.1f} patches/s   scipy {1 / warp_scipy:8.1f} patches/s")
    print(f"field      {1e3 * field:8.3f} ms          scipy {1e3 * field_scipy:8.3f} ms")
    how = f"{SHAPE[0]}x{SHAPE[1]}, 1 thread, medians of {REPETITIONS}, interleaved"
    orders = "image cubic, target nearest, border linear"
    rows = [
        row(
            "patches deformed per second, times scipy",
            warp_scipy / warp,
            5,
            at_least=True,
            against=f"scipy.ndimage.map_coordinates, same orders: {1 / warp_scipy:.1f} patches/s",
            how=f"{orders}, ours with its field and coordinates: {1 / warp:.1f} patches/s; {how}",
        ),
        row(
            "displacement field, times faster than zoom",
            field_scipy / field,
            5,
            at_least=True,
            against=f"scipy.ndimage.zoom order 3: {1e3 * field_scipy:.2f} ms",
            how=f"3x3 nodes to {SHAPE[0]}x{SHAPE[1]}: {1e3 * field:.3f} ms; {how}",
        ),
        row(
            "border term, largest difference to scipy",
            error,
            1e-5,
            at_least=False,
            against="scipy.ndimage.map_coordinates order 1",
            how="random values in 0..1",
        ),
        row(
            "target pixels other than scipy's",
            wrong,
            1e-4,
            at_least=False,
            against="scipy.ndimage.map_coordinates order 0",
            how="coordinates half-way between two pixels may go either way",
        ),
    ]
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
