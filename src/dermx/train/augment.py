"""Which changes of a picture leave its diagnosis the same?

A lesion has no upright position, so any turn and mirror image is as good; cameras differ in zoom,
framing, brightness and colour. A change is first drawn, then applied by a deterministic function,
so each can be tested, repeated and shown.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float64, UInt8

from dermx.config import AugmentConfig


@dataclass(frozen=True, kw_only=True)
class Change:
    """One drawn change; the defaults change nothing but cut the centre square."""

    angle: float = 0.0  # radians
    mirrored: bool = False
    width: float = 1.0  # of the square in view, as a share of the picture's shorter side
    height: float = 1.0
    right: float = 0.0  # shift of its centre, as a share of the picture's shorter side
    down: float = 0.0
    gains: tuple[float, float, float] = (1.0, 1.0, 1.0)  # per RGB channel
    contrast: float = 1.0
    saturation: float = 1.0


def draw_change(config: AugmentConfig, rng: np.random.Generator) -> Change:
    """Draw one change; always takes the same number of random numbers, whatever is switched off."""
    u = rng.random(12)
    side = math.sqrt(config.min_area + (1 - config.min_area) * u[0])
    aspect = math.exp(math.log(config.max_aspect) * (2 * u[1] - 1) / 2)
    sway = 2 * u[2:] - 1  # each in [-1, 1)
    brightness = 1 + config.brightness * sway[0]
    cast = 1 + config.colour_cast * sway[1:4]
    return Change(
        angle=2 * math.pi * u[6] if config.rotation else 0.0,
        mirrored=bool(config.flip and u[7] < 0.5),
        width=side * aspect,
        height=side / aspect,
        right=config.shift * sway[6],
        down=config.shift * sway[7],
        gains=(brightness * cast[0], brightness * cast[1], brightness * cast[2]),
        contrast=1 + config.contrast * sway[8],
        saturation=1 + config.saturation * sway[9],
    )


def apply_change(
    picture: UInt8[np.ndarray, "h w 3"], change: Change, size: int
) -> UInt8[np.ndarray, "size size 3"]:
    """Cut, turn and recolour: one warp and one colour matrix, each a single pass over the pixels.

    What lies outside the picture is its mirror image, so no black corner gives the turn away.
    """
    warped = cv2.warpAffine(
        picture,
        _placement(picture.shape[0], picture.shape[1], change, size),
        (size, size),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    if change.gains == (1.0, 1.0, 1.0) and change.contrast == change.saturation == 1.0:
        return np.asarray(warped)
    return np.asarray(cv2.transform(warped, _colours(warped, change)))


def _placement(height: int, width: int, change: Change, size: int) -> Float64[np.ndarray, "2 3"]:
    """Matrix from a pixel of the result to its place in the picture, both at pixel centres."""
    shorter = min(height, width)
    along = (-1 if change.mirrored else 1) * change.width * shorter / size
    down = change.height * shorter / size
    cos, sin = math.cos(change.angle), math.sin(change.angle)
    turn = np.array([[cos * along, -sin * down], [sin * along, cos * down]])
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    centre += shorter * np.array([change.right, change.down])
    middle = np.full(2, (size - 1) / 2)
    return np.column_stack([turn, centre - turn @ middle])


def _colours(picture: UInt8[np.ndarray, "h w 3"], change: Change) -> Float64[np.ndarray, "3 4"]:
    """Saturation about each pixel's grey, channel gains, contrast about the mean grey, as one."""
    grey = np.array([0.299, 0.587, 0.114])
    saturate = change.saturation * np.eye(3) + (1 - change.saturation) * np.tile(grey, (3, 1))
    linear = np.diag(change.gains) @ saturate
    mean = float(grey @ linear @ np.array(cv2.mean(picture)[:3]))
    offset = np.full((3, 1), (1 - change.contrast) * mean)
    return np.hstack([change.contrast * linear, offset])
