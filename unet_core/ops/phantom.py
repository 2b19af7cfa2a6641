"""A synthetic stack that looks like serial sections of neural tissue, with exact ids as truth.

Cells are a power diagram of discs that drift, swell and shrink from section to section, seen
through a smooth random bend of space. A section is thick: what lies obliquely in it is smeared,
so that membranes that graze a section are wide and pale, as in electron micrographs.
"""

from dataclasses import dataclass
from typing import Any

import cc3d
import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage

from unet_core.errors import ConfigError

Floats = NDArray[np.float64]

VOXEL_SIZE_NM = (50.0, 4.0, 4.0)
"""Edge lengths (z, y, x) that the sizes of membranes, vesicles and mitochondria are made for."""

_MARGIN_PX = 80
_RADII_PX = (7.0, 52.0)
_MEMBRANE_PX = 4.8
_SMALLEST_VX = 50
_DEPTHS = (-0.4, 0.0, 0.4)
"""Planes through one section (in sections) of which its picture is the mean."""


@dataclass(frozen=True)
class _Field:
    """Smooth noise of mean 0 and deviation 1 in a volume: cubic B-splines between random nodes."""

    nodes: Floats
    z_step: float
    across: tuple[Floats, Floats]

    @staticmethod
    def draw(
        rng: np.random.Generator, shape: tuple[int, int, int], *, px: float, z_step: float
    ) -> "_Field":
        """Nodes every `px` pixels and every `z_step` sections."""
        counts = [int(n // step) + 4 for n, step in zip(shape, (z_step, px, px), strict=True)]
        nodes = rng.standard_normal(counts) / 0.692**3  # mean squared spline weights per axis
        y, x = (_splines(np.arange(n) / px, k) for n, k in zip(shape[1:], counts[1:], strict=True))
        return _Field(nodes, z_step, (y, x))

    def at(self, z: float) -> Floats:
        """The field in the plane `z`: (y, x)."""
        weights = _splines(np.array([max(z, 0.0) / self.z_step]), len(self.nodes))[0]
        plane = np.einsum("k,kij->ij", weights, self.nodes)
        rows = np.einsum("yi,ij->yj", self.across[0], plane)
        found: Floats = np.einsum("yj,xj->yx", rows, self.across[1])
        return found


@dataclass(frozen=True)
class _Cells:
    """Discs whose power diagram is the cells; n of them."""

    centre: Floats  # (n, 2) y, x at rest
    radius: Floats  # (n,) at rest
    sway: Floats  # (n, 2) px
    swell: Floats  # (n,) part of the radius
    period: Floats  # (n, 3) sections: of y, of x, of the radius
    phase: Floats  # (n, 3)
    tone: Floats  # (n,) grey levels

    def at(self, z: float) -> tuple[Floats, Floats]:
        """Centres (n, 2) and radii (n,) in the plane `z`."""
        turn = np.sin(2 * np.pi * z / self.period + self.phase)
        return self.centre + self.sway * turn[:, :2], self.radius * (1 + self.swell * turn[:, 2])


@dataclass(frozen=True)
class _Mitochondria:
    """Ellipsoids in cells; n of them."""

    host: NDArray[np.int64]  # (n,) cell
    offset: Floats  # (n, 2) px from the host's centre
    z: Floats  # (n,) sections
    half: Floats  # (n, 3) half axes: sections, px, px
    angle: Floats  # (n,)


def make_phantom(
    shape: tuple[int, int, int], seed: int = 0
) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    """Raw and truth of a synthetic stack of sections; the same for the same shape and seed.

    Parameters
    ----------
    shape
        Voxels (z, y, x), each >= 1; sizes are made for voxels of `VOXEL_SIZE_NM`.
    seed
        >= 0.

    Returns
    -------
    raw : (z, y, x) uint8
        Dark membranes, and mitochondria, vesicles and densities as dark as they are.
    ids : (z, y, x) uint32
        0 is membrane; every other id is one object, 6-connected in 3-D, numbered 1, 2, ...
        in raster order. Two ids never touch within a section.
    """
    if min(shape) < 1 or seed < 0:
        raise ConfigError(
            f"a phantom needs >= 1 voxel per axis and a seed >= 0, got {shape} and {seed}"
        )
    rng = np.random.default_rng([seed, 0])
    cells = _draw_cells(rng, shape)
    organelles = _draw_mitochondria(rng, cells, shape[0])
    bends = [
        [(sd, _Field.draw(rng, shape, px=px, z_step=dz)) for _ in "yx"]
        for sd, px, dz in ((13.0, 70.0, 9.0), (6.0, 28.0, 5.0))
    ]
    marks = [_Field.draw(rng, shape, px=px, z_step=2.5) for px in (45.0, 60.0, 50.0)]
    raw, ids = np.empty(shape, np.uint8), np.empty(shape, np.uint32)
    for z in range(shape[0]):
        rng = np.random.default_rng([seed, 1, z])
        jitter = rng.normal(0, 0.5, 2)
        planes = [_plane(cells, bends, z + depth, jitter) for depth in _DEPTHS]
        cell, edge = planes[1][0], planes[1][1]
        ids[z] = np.where(_inside(planes), cell + 1, 0)
        lines = np.mean([np.exp(-((plane[1] / 2.0) ** 2)) for plane in planes], axis=0)
        dark = lines * np.clip(96 + 30 * marks[0].at(z), 40, 130)
        dark += _densities(lines, marks[1].at(z))
        dark += _vesicles(rng, edge, marks[2].at(z))
        dark += _draw_in(organelles, cells, cell, edge, planes[1][2], z)
        raw[z] = _photograph(rng, cells.tone[cell] - dark)
    return raw, _one_id_per_object(ids)


def _draw_cells(rng: np.random.Generator, shape: tuple[int, int, int]) -> _Cells:
    """Discs of very different sizes, large ones first, next to each other and beyond the edge."""
    size = np.array(shape[1:]) + 2.0 * _MARGIN_PX
    low, high = np.log(_RADII_PX)
    wanted = int(1.5 * size.prod() / 20**2)
    radii = np.sort(np.exp(np.clip(rng.normal(2.45, 0.55, wanted), low, high)))[::-1]
    centre, radius = np.empty((wanted, 2)), np.empty(wanted)
    n = 0
    for r in radii:
        darts = rng.random((12, 2)) * size - _MARGIN_PX
        away = np.hypot(*(darts[:, None] - centre[None, :n]).transpose(2, 0, 1))
        free = np.flatnonzero((away > 0.93 * (r + radius[:n])).all(axis=1))
        if free.size:
            centre[n], radius[n] = darts[free[0]], r
            n += 1
    return _Cells(
        centre=centre[:n],
        radius=radius[:n],
        sway=rng.normal(0, 5.0, (n, 2)) + 2.0,
        swell=rng.uniform(0.05, 0.4, n),
        period=rng.uniform(14, 50, (n, 3)),
        phase=rng.uniform(0, 2 * np.pi, (n, 3)),
        tone=165 + rng.normal(0, 15, n),
    )


def _draw_mitochondria(rng: np.random.Generator, cells: _Cells, depth: int) -> _Mitochondria:
    """About one in twelve sections of every large cell."""
    large = np.flatnonzero(cells.radius > 20)
    host = np.repeat(large, rng.poisson(0.15 + depth / 40, large.size))
    n, r = host.size, cells.radius[host]
    width = np.clip(r * rng.uniform(0.3, 0.5, n), 9, 20)
    return _Mitochondria(
        host=host,
        offset=rng.normal(0, 0.28, (n, 2)) * r[:, None],
        z=rng.uniform(-3, depth + 3, n),
        half=np.stack([rng.uniform(3, 9, n), width * rng.uniform(1, 1.8, n), width], axis=1),
        angle=rng.uniform(0, np.pi, n),
    )


def _plane(
    cells: _Cells, bends: list[list[tuple[float, _Field]]], z: float, jitter: Floats
) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Cell and distance to its edge (px) per pixel, and the unbent place (2, y, x) of each."""
    nodes = bends[0][0][1].across
    place = np.indices((len(nodes[0]), len(nodes[1]))).astype(np.float64)
    for scale in bends:
        for axis, (sd, field) in enumerate(scale):
            place[axis] += sd * field.at(z + 1) + jitter[axis] / len(bends)
    cell = np.empty(place.shape[1:], np.int64)
    edge = np.empty(place.shape[1:])
    centre, radius = cells.at(z)
    _power_diagram(place, centre, radius**2, cell, edge)
    return cell, edge, place


@njit(cache=True)
def _power_diagram(place: Any, centre: Any, power: Any, cell: Any, edge: Any) -> None:
    """The disc of least power per pixel, and the distance to where another takes over.

    Tiles look only at discs whose reach meets them.
    """
    _, ny, nx = place.shape
    reach = 1.6 * np.sqrt(power.max())
    near = np.empty(len(power), np.int64)
    for y0 in range(0, ny, 32):
        for x0 in range(0, nx, 32):
            tile = place[:, y0 : y0 + 32, x0 : x0 + 32]
            top, left = tile[0].min() - reach, tile[1].min() - reach
            low, right = tile[0].max() + reach, tile[1].max() + reach
            n = 0
            for i in range(len(power)):
                if top < centre[i, 0] < low and left < centre[i, 1] < right:
                    near[n] = i
                    n += 1
            for y in range(tile.shape[1]):
                for x in range(tile.shape[2]):
                    py, px = tile[0, y, x], tile[1, y, x]
                    first, second, a, b = np.inf, np.inf, -1, -1
                    for k in range(n):
                        i = near[k]
                        p = (py - centre[i, 0]) ** 2 + (px - centre[i, 1]) ** 2 - power[i]
                        if p < first:
                            first, second, a, b = p, first, i, a
                        elif p < second:
                            second, b = p, i
                    cell[y0 + y, x0 + x] = max(a, 0)
                    edge[y0 + y, x0 + x] = np.inf
                    if b >= 0:
                        apart = np.hypot(centre[a, 0] - centre[b, 0], centre[a, 1] - centre[b, 1])
                        edge[y0 + y, x0 + x] = (second - first) / (2 * apart + 1e-9)


def _inside(planes: list[tuple[NDArray[np.int64], Floats, Floats]]) -> NDArray[np.bool_]:
    """Where no membrane is: not in the middle plane, nor in most of the section's thickness."""
    cell, edge, _ = planes[1]
    beyond = np.sum([plane[1] > _MEMBRANE_PX / 2 for plane in planes], axis=0)
    inside: NDArray[np.bool_] = (beyond >= 2) & (edge > 0.6 * _MEMBRANE_PX / 2)
    # A steep bend can make a membrane thinner than a pixel.
    inside[:-1] &= cell[:-1] == cell[1:]
    inside[:, :-1] &= cell[:, :-1] == cell[:, 1:]
    return inside


def _densities(lines: Floats, mark: Floats) -> Floats:
    """Dark smudges over membranes, in few places."""
    return 150 * ndimage.gaussian_filter(lines, 5.0) * np.clip(mark - 1.2, 0, 1)


def _vesicles(rng: np.random.Generator, edge: Floats, mark: Floats) -> Floats:
    """Dark rings (vesicles) where `mark` is high, and dark dots (microtubules) anywhere."""
    dark = np.zeros(edge.shape)
    reach = np.arange(-8, 9)
    away = np.hypot(*np.meshgrid(reach, reach))
    for number, radius, wall, height, where in (
        (edge.size // 300, 4.3, 1.4, 62.0, (edge > 8) & (mark > 0.5)),
        (edge.size // 1200, 5.5, 1.5, 62.0, edge > 9),
        (edge.size // 250, 0.0, 1.8, 45.0, edge > 5),
    ):
        spots = rng.integers(0, edge.shape, (number, 2))
        spots = spots[where[tuple(spots.T)]]
        stamp = height * np.exp(-(((away - radius) / wall) ** 2))
        strength = rng.uniform(0.5, 1.1, len(spots))
        at = spots[:, :, None, None] + np.stack(np.meshgrid(reach, reach, indexing="ij"))
        seen = ((at >= 0) & (at < np.array(edge.shape)[:, None, None])).all(axis=1)
        ink = np.broadcast_to(strength[:, None, None] * stamp, seen.shape)
        np.maximum.at(dark, (at[:, 0][seen], at[:, 1][seen]), ink[seen])
    return dark


def _draw_in(
    organelles: _Mitochondria,
    cells: _Cells,
    cell: NDArray[np.int64],
    edge: Floats,
    place: Floats,
    z: int,
) -> Floats:
    """Mitochondria of one section: a double membrane, a dark matrix and folds in it."""
    dark = np.zeros(cell.shape)
    centre, _ = cells.at(z)
    for i in np.flatnonzero(np.abs(organelles.z - z) < organelles.half[:, 0]):
        host = organelles.host[i]
        pixels = np.nonzero(cell == host)
        offset = np.stack([axis[pixels] for axis in place])
        offset -= (centre[host] + organelles.offset[i])[:, None]
        turn = np.array([np.cos(organelles.angle[i]), np.sin(organelles.angle[i])])
        along, aside = turn @ offset, turn[::-1] * [1, -1] @ offset
        depth, long, wide = organelles.half[i]
        q = np.sqrt(
            (along / long) ** 2 + (aside / wide) ** 2 + ((z - organelles.z[i]) / depth) ** 2
        )
        within = np.minimum((1 - q) * wide, edge[pixels] - 5)
        ring = np.exp(-((within / 1.5) ** 2)) + 0.7 * np.exp(-(((within - 4.2) / 1.4) ** 2))
        folds = np.sin(2 * np.pi * (along + 2.5 * np.sin(aside / 4)) / 7.5)
        matrix = np.clip(within, 0, 1) * (38 + 20 * folds * np.clip(within - 4, 0, 1))
        dark[pixels] = np.maximum(dark[pixels], np.maximum(85 * ring, matrix) * (within > -4))
    return dark


def _splines(position: Floats, nodes: int) -> Floats:
    """Weights of the cubic B-spline nodes, one step apart, at each position >= 0: (n, nodes)."""
    away = np.abs(position[:, None] + 1 - np.arange(nodes))
    near = 2 / 3 - away**2 + away**3 / 2
    far = np.clip(2 - away, 0, None) ** 3 / 6
    weights: Floats = np.where(away < 1, near, far)
    return weights


def _photograph(rng: np.random.Generator, scene: Floats) -> NDArray[np.uint8]:
    """Grain of the tissue, then focus, light and noise of one section."""
    grain = np.zeros(scene.shape)
    for sigma, sd in ((0.9, 19.0), (2.5, 11.0), (20.0, 5.0)):
        noise = ndimage.gaussian_filter(rng.standard_normal(scene.shape), sigma)
        grain += sd * noise * (2 * np.sqrt(np.pi) * sigma)
    focus = rng.uniform(0.5, 1.0)
    seen = ndimage.gaussian_filter(scene + grain, focus)
    contrast, light = rng.uniform(0.85, 1.15), rng.normal(0, 9)
    slope = rng.normal(0, 8, 2)
    rows, columns = (np.linspace(-1, 1, n) for n in scene.shape)
    seen = 120 + light + contrast * (seen - 135)
    seen += slope[0] * rows[:, None] + slope[1] * columns + rng.normal(0, 10, scene.shape)
    return np.clip(np.rint(seen), 0, 255).astype(np.uint8)


def _one_id_per_object(ids: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Ids 1, 2, ... in raster order of the 6-connected parts; specks become 0."""
    parts = cc3d.connected_components(ids, connectivity=6, out_dtype=np.uint32)
    sizes = np.bincount(parts.ravel())
    names, first = np.unique(parts, return_index=True)
    order = names[np.argsort(first)]
    kept = order[(order != 0) & (sizes[order] >= _SMALLEST_VX)]
    new = np.zeros(sizes.size, np.uint32)
    new[kept] = np.arange(1, kept.size + 1)
    found: NDArray[np.uint32] = new[parts]
    return found
