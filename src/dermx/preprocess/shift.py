"""What if the picture had been taken otherwise? Ten changes by name, each in five severities.

Deterministic: the same picture, name and severity always give the same pixels. Where a change has
two directions or a random part (brighter or darker, which cast, nearer or further, the grain), the
picture's own pixels decide, alike at all severities; so a set of pictures has all of them.

Severity 1 is hardly seen, 3 is what another clinic's pictures may be, 5 is a bad picture that a
dermatologist would still read. These are steps of a ladder, not a model of any one camera.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

import cv2
import numpy as np

from dermx.errors import InputError
from dermx.preprocess.artefacts import (
    Field,
    blurred,
    contrasted,
    field_light,
    lit,
    noisy,
    recompressed,
    tinted,
)

if TYPE_CHECKING:
    from jaxtyping import UInt8

Pixels: TypeAlias = "UInt8[np.ndarray, 'h w 3']"
Change = Callable[[Pixels], Pixels]
Shift = Callable[[Pixels, int, np.random.Generator], Pixels]

SEVERITIES: Final = (1, 2, 3, 4, 5)


def shifted(picture: Pixels, name: str, severity: int) -> Pixels:
    """Change a picture as another camera, light or hand would.

    Args:
        picture: Upright RGB, at best with 450 pixels or more on its shorter side: noise and JPEG
            act on single pixels, all else on shares of the sides.
        name: One of `SHIFTS`.
        severity: 1 to 5.

    Returns:
        The changed picture, of the same size except after "crop".

    Raises:
        InputError: There is no such change or severity.
    """
    if name not in SHIFTS:
        raise InputError(f"no change {name!r}; known are {', '.join(SHIFTS)}")
    if severity not in SEVERITIES:
        raise InputError(f"severity must be 1 to 5, got {severity}")
    rng = np.random.default_rng(zlib.crc32(np.ascontiguousarray(picture).data))
    return SHIFTS[name](picture, severity - 1, rng)


def _blur(picture: Pixels, step: int, _: np.random.Generator) -> Pixels:
    return blurred(picture, (0.002, 0.004, 0.006, 0.009, 0.013)[step])


def _noise(picture: Pixels, step: int, rng: np.random.Generator) -> Pixels:
    return noisy(picture, (4, 8, 12, 18, 26)[step], int(rng.integers(2**32)))


def _jpeg(picture: Pixels, step: int, _: np.random.Generator) -> Pixels:
    return recompressed(picture, (50, 30, 20, 14, 10)[step])


def _brightness(picture: Pixels, step: int, rng: np.random.Generator) -> Pixels:
    """Brighter by less than darker: skin is bright already, and what is white has no colour."""
    gain = math.exp((0.06, 0.11, 0.17, 0.24, 0.32)[step])
    if _sign(rng) < 0:
        gain = gain**-1.6
    return tinted(picture, (gain, gain, gain))


def _contrast(picture: Pixels, step: int, rng: np.random.Generator) -> Pixels:
    return contrasted(picture, math.exp(_sign(rng) * (0.12, 0.24, 0.38, 0.54, 0.72)[step]))


def _colour_cast(picture: Pixels, step: int, rng: np.random.Generator) -> Pixels:
    """Gains whose product is 1, towards a hue from anywhere on the circle."""
    hue = rng.uniform(0, 2 * math.pi)
    strength = (0.04, 0.08, 0.12, 0.17, 0.22)[step]
    thirds = (0, 2 * math.pi / 3, 4 * math.pi / 3)
    return tinted(picture, [math.exp(strength * math.cos(hue - third)) for third in thirds])


def _rotation(picture: Pixels, step: int, rng: np.random.Generator) -> Pixels:
    height, width = picture.shape[:2]
    middle = ((width - 1) / 2, (height - 1) / 2)
    matrix = cv2.getRotationMatrix2D(middle, _sign(rng) * (9, 18, 27, 36, 45)[step], 1)
    mirror = cv2.BORDER_REFLECT_101
    return np.asarray(cv2.warpAffine(picture, matrix, (width, height), borderMode=mirror))


def _zoom(picture: Pixels, step: int, rng: np.random.Generator) -> Pixels:
    """Nearer, or half as much further with the mirror image around."""
    height, width = picture.shape[:2]
    nearer = _sign(rng) > 0
    factor = (1.10, 1.20, 1.35, 1.55, 1.80)[step] ** (1.0 if nearer else 0.5)
    inner = (max(1, round(height / factor)), max(1, round(width / factor)))
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    if nearer:
        part = picture[top : top + inner[0], left : left + inner[1]]
        return np.asarray(cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR))
    small = cv2.resize(picture, inner[::-1], interpolation=cv2.INTER_AREA)
    below, beside = height - inner[0] - top, width - inner[1] - left
    return np.asarray(cv2.copyMakeBorder(small, top, below, left, beside, cv2.BORDER_REFLECT_101))


def _vignette(picture: Pixels, step: int, _: np.random.Generator) -> Pixels:
    field = Field(radius=(1.25, 1.1, 1.0, 0.9, 0.8)[step])
    height, width = picture.shape[:2]
    return lit(picture, field_light(height, width, field))


def _crop(picture: Pixels, step: int, rng: np.random.Generator) -> Pixels:
    """Keep a part that reaches into one corner, so that the lesion is no longer in the middle."""
    height, width = picture.shape[:2]
    share = (0.95, 0.90, 0.85, 0.78, 0.70)[step]
    inner = (max(1, round(height * share)), max(1, round(width * share)))
    top = (height - inner[0]) * int(rng.integers(2))
    left = (width - inner[1]) * int(rng.integers(2))
    return picture[top : top + inner[0], left : left + inner[1]]


def _sign(rng: np.random.Generator) -> float:
    return 1.0 if rng.random() < 0.5 else -1.0


SHIFTS: Final[dict[str, Shift]] = {
    "blur": _blur,
    "noise": _noise,
    "jpeg": _jpeg,
    "brightness": _brightness,
    "contrast": _contrast,
    "colour_cast": _colour_cast,
    "rotation": _rotation,
    "zoom": _zoom,
    "vignette": _vignette,
    "crop": _crop,
}
