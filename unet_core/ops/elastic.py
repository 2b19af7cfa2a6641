"""Elastic deformation of sections: random vectors on a coarse grid, drawn first and applied then.

One map of coordinates is made per patch and raw, target and weights are all sampled through it, so
that they share one deformation by construction.
"""

from functools import lru_cache
from typing import Literal, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from unet_core.ops import symmetry

FloatArray = NDArray[np.float32]
Scalar = TypeVar("Scalar", bound=np.generic)

_ORDERS = {0: cv2.INTER_NEAREST, 1: cv2.INTER_LINEAR, 3: cv2.INTER_CUBIC}


def draw_displacement(rng: np.random.Generator, nodes: int, sd_px: float) -> FloatArray:
    """Gaussian displacements (y, x) at `nodes` x `nodes` points of the section.

    Returns
    -------
    (2, nodes, nodes) float32, pixels, of standard deviation `sd_px` (Ronneberger et al. 2015,
    section 3.1: 3 nodes, 10 px).
    """
    return np.float32(sd_px) * rng.standard_normal((2, nodes, nodes), np.float32)


def displacement_field(grid: FloatArray, shape_yx: tuple[int, int]) -> FloatArray:
    """Displacement of every pixel: bicubic spline through the nodes, ``B_y @ grid @ B_x.T``.

    The first and last nodes are the centres of the corner pixels, the others evenly between them.
    The spline *interpolates* (at a node the field is that node's vector) and ends naturally
    (second derivative 0). With 3 x 3 nodes of 10 px the field's root mean square is 7.7 px; a cubic
    B-spline, which only approximates its nodes, would give 4.8 px from the same numbers.

    Parameters
    ----------
    grid : (2, k, k) float32
        Of `draw_displacement`, k >= 2.
    shape_yx
        Pixels of the section.

    Returns
    -------
    (2, y, x) float32, pixels
    """
    y, x = (_basis(n, grid.shape[-1]) for n in shape_yx)
    field: FloatArray = np.matmul(y @ grid, x.T, dtype=np.float32)
    return field


def source_coordinates(
    shape_yx: tuple[int, int],
    *,
    grid: FloatArray | None = None,
    angle: float = 0.0,
    scale: float = 1.0,
    code: int = 0,
) -> FloatArray:
    """Where every pixel of a deformed section is read, relative to the undeformed one.

    ``centre + R (p - centre) / scale + displacement(p)`` for the pixels p of a section that is then
    flipped and turned by `code`.

    Parameters
    ----------
    shape_yx
        Pixels of the deformed section. With codes 4 to 7 the undeformed section has y and x
        exchanged (`symmetry.shape_before`).
    grid : (2, k, k) float32, pixels
        Displacements at the nodes; None: no bending.
    angle
        Of the rotation R, radians, from y towards x.
    scale
        By which the section is enlarged about its centre, > 0.
    code
        A symmetry, 0 to 7.

    Returns
    -------
    (2, y, x) float32
        Pixel coordinates (y, x); 0 is the first pixel of the undeformed section. May reach
        beyond it on all sides.
    """
    before = symmetry.shape_before(shape_yx, code)
    field = np.zeros((2, *before), np.float32) if grid is None else displacement_field(grid, before)
    y = np.arange(before[0], dtype=np.float32)[:, None]
    x = np.arange(before[1], dtype=np.float32)[None, :]
    if angle == 0 and scale == 1:
        field[0] += y
        field[1] += x
    else:
        (cy, cx), (cos, sin) = _centre(before), _turn(angle, scale)
        field[0] += (cos * (y - cy) + cy) - sin * (x - cx)
        field[1] += (cos * (x - cx) + cx) + sin * (y - cy)
    return np.ascontiguousarray(symmetry.apply(field, code))


def reach(coordinates: FloatArray) -> tuple[tuple[int, int], tuple[int, int]]:
    """First pixel and the one after the last, (y, x), that sampling at `coordinates` touches.

    The same for every order of interpolation: a cubic looks one pixel before and two after.
    """
    low = np.floor(coordinates.min(axis=(1, 2))).astype(int) - 1
    high = np.floor(coordinates.max(axis=(1, 2))).astype(int) + 3
    return (int(low[0]), int(low[1])), (int(high[0]), int(high[1]))


def warp(
    array: NDArray[Scalar], coordinates: FloatArray, *, order: Literal[0, 1, 3]
) -> NDArray[Scalar]:
    """Every section of `array` sampled at the same coordinates.

    Parameters
    ----------
    array : (..., y, x) float32, or uint8, uint16 and int32 with order 0
        Beyond its edges it is mirrored; it should hold the pixels of `reach(coordinates)`.
    coordinates : (2, y', x') float32
        Where each pixel of the result lies in the sections of `array`.
    order
        0 nearest (ids and classes are never averaged), 1 linear (never beyond the values it lies
        between: weights), 3 cubic convolution with a = -0.75 (intensities).

    Returns
    -------
    (..., y', x'), type of `array`
    """
    y, x = coordinates
    sections = array.reshape(-1, *array.shape[-2:])
    out = np.empty((len(sections), *coordinates.shape[1:]), array.dtype)
    cv2.setNumThreads(1)  # workers share the cores out; cv2 would take all of them in each
    for section, warped in zip(sections, out, strict=True):
        source = np.ascontiguousarray(section)
        cv2.remap(source, x, y, _ORDERS[order], warped, cv2.BORDER_REFLECT_101)
    return out.reshape(*array.shape[:-2], *coordinates.shape[1:])


@lru_cache(maxsize=32)
def _basis(pixels: int, nodes: int) -> FloatArray:
    """(pixels, nodes) float32: the value at every pixel of the spline that is 1 at one node."""
    spline = CubicSpline(np.arange(nodes), np.eye(nodes), bc_type="natural")
    at = np.linspace(0, nodes - 1, pixels) if pixels > 1 else np.array([(nodes - 1) / 2])
    basis: FloatArray = spline(at).astype(np.float32)
    return basis


def _centre(shape_yx: tuple[int, int]) -> tuple[np.float32, np.float32]:
    return np.float32((shape_yx[0] - 1) / 2), np.float32((shape_yx[1] - 1) / 2)


def _turn(angle: float, scale: float) -> tuple[np.float32, np.float32]:
    return np.float32(np.cos(angle) / scale), np.float32(np.sin(angle) / scale)
