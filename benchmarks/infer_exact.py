"""Whether tiles agree with one pass over the whole, and what that costs.

    python benchmarks/infer_exact.py

The last line is a JSON list of {name, value, target, met, against, how}. Weights are drawn, not
trained, and the head's are scaled so that probabilities are not all 0 or 1; the image is noise.
Every pass has one thread. The negative controls must fail.
"""

# isort: off
from measure import Row, row
# isort: on

import json
import sys

import numpy as np
import torch
from numpy.typing import NDArray

from unet_core.config import InferConfig, NetworkConfig
from unet_core.config.networks.cost import multiply_adds
from unet_core.config.networks.geometry import geometry_of
from unet_core.geometry import Box, split
from unet_core.net.checkpoint import Checkpoint
from unet_core.net.initial import initialise
from unet_core.net.network import Network
from unet_core.net.parts import tiling_of
from unet_core.net.predict import Predictor

SIZE = 768
NETWORKS = [(64, 4), (32, 4), (16, 4), (16, 3), (8, 2)]
Probabilities = NDArray[np.float32]


def predictor(width: int, depth: int, precision: str) -> Predictor:
    model = NetworkConfig(width=width, depth=depth)
    network = initialise(Network.of(model), seed=1)
    with torch.no_grad():
        network.head.weight.mul_(0.2)
    config = InferConfig(precision=precision)  # type: ignore[arg-type]
    return Predictor(Checkpoint(model, "none", network.state_dict()), config)


def tiled(net: Predictor, image: NDArray[np.float32], tile: int, block: int) -> Probabilities:
    """The stage's loop, in memory."""
    out = np.zeros((1, SIZE, SIZE), np.float32)
    halo = geometry_of(net.model).halo[2]
    for write in split((1, SIZE, SIZE), block=(1, block, block)):
        for each in tiling_of(net.model, tile).tiles(write):
            result = seen(net, image, each.read.shift((0, halo, halo)))
            inset = each.core.relative_to(each.core.start).shift(each.inset)
            out[each.core.slices] = result[inset.slices]
    return out


def shifted(net: Predictor, image: NDArray[np.float32], offset: int) -> Probabilities:
    """One tile that starts `offset` px off the grid."""
    halo, lost = geometry_of(net.model).halo[2], geometry_of(net.model).lost[2]
    tile = Box((0, offset, offset), (1, offset + 192, offset + 192))
    result = seen(net, image, tile.grow((0, halo, halo)).shift((0, halo, halo)))
    inset = slice(halo - lost, halo - lost + 192)
    return result[:, inset, inset]


def seen(net: Predictor, image: NDArray[np.float32], box: Box) -> Probabilities:
    """Probabilities of class 1, before they are rounded, of what the network is shown."""
    found: Probabilities = net.probabilities(torch.from_numpy(image[(None, *box.slices)])).numpy()
    return found[0]


def main() -> int:
    rows = []
    for precision in ("float32", "bfloat16"):
        for width, depth in NETWORKS:
            net = predictor(width, depth, precision)
            sides = SIZE + 2 * geometry_of(net.model).halo[2]
            image = np.random.default_rng(0).standard_normal((1, sides, sides)).astype(np.float32)
            whole = tiled(net, image, SIZE, SIZE)
            named = f"{precision}, width {width}, depth {depth}"
            worst = max(
                float(abs(tiled(net, image, tile, block) - whole).max())
                for tile, block in ((384, SIZE), (512, 512), (256, 300))
            )
            told = {
                "against": "one pass over the whole",
                "how": "largest difference of a probability",
            }
            rows.append(row(f"tiles, {named}", worst, 0.0, at_least=False, **told))
            off = shifted(net, image, 2) - whole[:, 2:194, 2:194]
            worst = float(abs(off).max())
            rows.append(row(f"control: tile off the grid by 2, {named}", worst, 1e-3, **told))
    rows += [work(tile, limit) for tile, limit in ((256, None), (384, 1.40), (512, 1.30))]
    rows.append(work(1024, 1.16))
    print(json.dumps(rows))
    return 1 if any(each["met"] is False for each in rows) else 0


def work(tile: int, limit: float | None) -> Row:
    """Multiply-adds of the published network per voxel that a tile yields."""
    model = NetworkConfig()
    spent, floor = (
        multiply_adds(model, size + 2 * geometry_of(model).halo[2]) / size**2
        for size in (tile, 2**20)
    )
    return row(
        f"work per voxel, tile {tile}",
        spent / floor,
        limit,
        at_least=False,
        against="an infinite tile",
        how="ratio of multiply-adds, counted",
    )


if __name__ == "__main__":
    sys.exit(main())
