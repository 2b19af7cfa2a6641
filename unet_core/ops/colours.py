"""Colours of RGB patches: brightness, contrast, saturation and hue, changed within their range."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

_CHANCE = 0.5


@dataclass(frozen=True)
class Colours:
    """What is done to one patch; the defaults change nothing."""

    shift: float = 0.0
    """Added to all three, of the range."""

    gain: float = 1.0
    """All three are multiplied by this."""

    gain_last: bool = False
    """That is done after all else, not after the shift."""

    saturation: float = 1.0
    """By which it is multiplied."""

    hue: float = 0.0
    """By which it is turned, of the circle."""


def draw_colours(
    rng: np.random.Generator, *, brightness: float, contrast: float, saturation: float, hue: float
) -> Colours:
    """Each of four changes with a chance of a half: shift ``+- brightness``, gain ``1 +- contrast``
    (first or last), saturation ``1 +- saturation``, hue ``+- hue``, uniform; always the same draws.

    These are mmsegmentation's, there with 32/255, 0.5, 0.5 and 0.1. The result is exact in float32.
    """
    changed = rng.random(4) < _CHANCE
    by = np.where(changed, rng.uniform(-1, 1, 4), 0)
    last = bool(rng.random() < _CHANCE)
    shift, gain, more, turn = (
        float(np.float32(n)) for n in (0, 1, 1, 0) + by * (brightness, contrast, saturation, hue)
    )
    return Colours(shift, gain, last and gain != 1, more, turn)


def recoloured(rgb: FloatArray, by: Colours) -> FloatArray:
    """Red, green and blue, changed.

    Parameters
    ----------
    rgb : (3, ...) float32
        Of the range 0 to 1; what is beyond it is cut off, as after every change.
    by
        Of `draw_colours`.

    Returns
    -------
    (3, ...) float32, in [0, 1]
    """
    out = np.clip(rgb, 0, 1)
    if by.shift != 0:
        out = np.clip(out + np.float32(by.shift), 0, 1)
    if by.gain != 1 and not by.gain_last:
        out = np.clip(out * np.float32(by.gain), 0, 1)
    if by.saturation != 1 or by.hue != 0:
        out = _in_hsv(out, by)
    if by.gain_last:
        out = np.clip(out * np.float32(by.gain), 0, 1)
    return out


def _in_hsv(rgb: FloatArray, by: Colours) -> FloatArray:
    cv2.setNumThreads(1)  # workers share the cores out; cv2 would take all of them in each
    flat = np.ascontiguousarray(rgb.reshape(3, -1).T)[None]
    hsv = np.asarray(cv2.cvtColor(flat, cv2.COLOR_RGB2HSV))
    hsv[..., 0] = (hsv[..., 0] + np.float32(360 * by.hue)) % 360
    hsv[..., 1] = np.clip(hsv[..., 1] * np.float32(by.saturation), 0, 1)
    back = np.clip(np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)), 0, 1)
    return np.ascontiguousarray(back[0].T, np.float32).reshape(rgb.shape)
