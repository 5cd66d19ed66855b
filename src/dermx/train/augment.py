"""Which changes of a picture leave its diagnosis the same?

A lesion has no upright position, so any turn and mirror image is as good; cameras differ in zoom,
framing, brightness, colour, light and border, and hair lies anywhere. A change is first drawn, then
applied by a deterministic function, so each can be tested, repeated and shown.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import cv2
import numpy as np

from dermx.config import AugmentConfig
from dermx.preprocess.artefacts import (
    Field,
    Lettering,
    Strand,
    bent,
    blurred,
    erased,
    field_light,
    grey_gains,
    lettered,
    lit,
    noisy,
    recompressed,
    slope,
    with_strands,
)

if TYPE_CHECKING:
    from jaxtyping import Float64, UInt8

MOST_STRANDS: Final = 18  # hairs on one picture
LETTERS: Final = "ABCDEFGHIKLMNOPRSTUVWabcdefghiklmnoprstuvw0123456789 .-@"
MOST_LETTERS: Final = 20
Square: TypeAlias = "UInt8[np.ndarray, 'size size 3']"
Draws: TypeAlias = "Float64[np.ndarray, ' n']"  # each in [0, 1)


@dataclass(frozen=True, kw_only=True)
class Change:
    """One drawn change; the defaults change nothing but cut the centre square."""

    angle: float = 0.0  # radians
    mirrored: bool = False
    width: float = 1.0  # of what is in view, as a share of the centre square's side
    height: float = 1.0
    right: float = 0.0  # shift of its centre, as a share of that, too
    down: float = 0.0
    gains: tuple[float, float, float] = (1.0, 1.0, 1.0)  # per RGB channel
    contrast: float = 1.0
    saturation: float = 1.0
    constancy: float = 0.0  # share of the way to grey light; negative: away from it
    gamma: float = 1.0
    slope: tuple[float, float] = (0.0, 0.0)  # growth of the light to the right and downwards
    field: Field | None = None
    strands: tuple[Strand, ...] = ()
    hair_colour: tuple[float, float, float] = (0.0, 0.0, 0.0)  # RGB, 0 to 255
    blur: float = 0.0  # standard deviation, as a share of the side
    noise: float = 0.0  # standard deviation, grey levels
    noise_seed: int = 0
    jpeg: int | None = None  # quality
    erased: tuple[float, float, float, float] | None = None  # top, left, bottom, right; shares
    lettering: Lettering | None = None
    colourless: bool = False


def draw_change(config: AugmentConfig, rng: np.random.Generator) -> Change:
    """Draw one change; always takes the same number of random numbers, whatever is switched off.

    What is added here must draw after all that is here, so that no older setting draws otherwise.
    """
    u = rng.random(12)
    v = rng.random(28)
    strands = rng.random((MOST_STRANDS, 5))
    w = rng.random(10 + MOST_LETTERS)
    side = math.sqrt(config.min_area + (config.max_area - config.min_area) * u[0])
    aspect = math.exp(math.log(config.max_aspect) * (2 * u[1] - 1) / 2)
    sway = 2 * u[2:] - 1  # each in [-1, 1)
    brightness = 1 + config.brightness * sway[0]
    cast = 1 + config.colour_cast * sway[1:4]
    return Change(
        angle=_draw_angle(config, u[6]),
        mirrored=bool(config.flip and u[7] < 0.5),
        width=side * aspect,
        height=side / aspect,
        right=config.shift * sway[6],
        down=config.shift * sway[7],
        gains=(brightness * cast[0], brightness * cast[1], brightness * cast[2]),
        contrast=1 + config.contrast * sway[8],
        saturation=1 + config.saturation * sway[9],
        constancy=config.colour_constancy * (2 * v[0] - 1),
        gamma=math.exp(config.gamma * (2 * v[1] - 1)),
        slope=_draw_slope(config.light_slope, v[2:4]),
        field=_draw_field(v[5:10]) if v[4] < config.vignette else None,
        strands=_draw_strands(v[11:13], strands) if v[10] < config.hair else (),
        hair_colour=_draw_hair_colour(v[13:15]) if v[10] < config.hair else (0.0, 0.0, 0.0),
        blur=0.003 + 0.008 * v[16] if v[15] < config.blur else 0.0,
        noise=2 + 10 * v[18] if v[17] < config.noise else 0.0,
        noise_seed=int(2**32 * v[19]) if v[17] < config.noise else 0,
        jpeg=int(25 + 65 * v[21]) if v[20] < config.jpeg else None,
        erased=_draw_box(v[23:27]) if v[22] < config.erasing else None,
        lettering=_draw_lettering(w[2:]) if w[0] < config.lettering else None,
        colourless=bool(w[1] < config.grey),
    )


def apply_change(
    picture: UInt8[np.ndarray, "h w 3"], change: Change, size: int, crop_fraction: float = 1.0
) -> UInt8[np.ndarray, "size size 3"]:
    """Cut, turn and recolour: one warp and one colour matrix, each a single pass over the pixels.

    What lies outside the picture is its mirror image, so no black corner gives the turn away.
    The order is that of a picture's making: hair on the skin, the camera's colours, its light and
    field, letters over it, its sharpness, its grain, its file.
    """
    warped = cv2.warpAffine(
        picture,
        _placement(picture.shape[0], picture.shape[1], change, size, crop_fraction),
        (size, size),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    pixels = np.asarray(warped)
    if change.strands:
        pixels = with_strands(pixels, change.strands, change.hair_colour)
    pixels = _finished(_recoloured(pixels, change), change)
    return pixels if change.erased is None else erased(pixels, change.erased)


def _recoloured(pixels: Square, change: Change) -> Square:
    if change.colourless:
        grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        pixels = np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB))
    gains = np.array(change.gains)
    if change.constancy:
        gains *= grey_gains(pixels) ** change.constancy
    if not (gains == 1).all() or not change.contrast == change.saturation == 1.0:
        pixels = np.asarray(cv2.transform(pixels, _colours(pixels, gains, change)))
    return pixels if change.gamma == 1.0 else bent(pixels, change.gamma)


def _finished(pixels: Square, change: Change) -> Square:
    size = len(pixels)
    if change.field is not None or change.slope != (0.0, 0.0):
        light = slope(size, size, *change.slope)
        pixels = lit(
            pixels, light if change.field is None else light * field_light(size, size, change.field)
        )
    if change.lettering is not None:
        pixels = lettered(pixels, change.lettering)
    if change.blur:
        pixels = blurred(pixels, change.blur)
    if change.noise:
        pixels = noisy(pixels, change.noise, change.noise_seed)
    return pixels if change.jpeg is None else recompressed(pixels, change.jpeg)


def _placement(
    height: int, width: int, change: Change, size: int, crop_fraction: float
) -> Float64[np.ndarray, "2 3"]:
    """Matrix from a pixel of the result to its place in the picture, both at pixel centres."""
    square = min(height, width) * crop_fraction
    along = (-1 if change.mirrored else 1) * change.width * square / size
    down = change.height * square / size
    cos, sin = math.cos(change.angle), math.sin(change.angle)
    turn = np.array([[cos * along, -sin * down], [sin * along, cos * down]])
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    centre += square * np.array([change.right, change.down])
    middle = np.full(2, (size - 1) / 2)
    return np.column_stack([turn, centre - turn @ middle])


def _colours(
    picture: Square, gains: Float64[np.ndarray, " 3"], change: Change
) -> Float64[np.ndarray, "3 4"]:
    """Saturation about each pixel's grey, channel gains, contrast about the mean grey, as one."""
    grey = np.array([0.299, 0.587, 0.114])
    saturate = change.saturation * np.eye(3) + (1 - change.saturation) * np.tile(grey, (3, 1))
    linear = np.diag(gains) @ saturate
    mean = float(grey @ linear @ np.array(cv2.mean(picture)[:3]))
    offset = np.full((3, 1), (1 - change.contrast) * mean)
    return np.hstack([change.contrast * linear, offset])


def _draw_angle(config: AugmentConfig, u: float) -> float:
    if config.quarter_turns:
        return math.pi / 2 * int(4 * u)
    return 2 * math.pi * u if config.rotation else 0.0


def _draw_slope(most: float, v: Draws) -> tuple[float, float]:
    angle, strength = 2 * math.pi * v[0], most * v[1]
    return (strength * math.cos(angle), strength * math.sin(angle))


def _draw_field(v: Draws) -> Field:
    """From a field that only darkens the corners to one that nearly reaches the lesion."""
    return Field(
        radius=0.8 + 0.5 * v[0],
        right=0.16 * (v[1] - 0.5),
        down=0.16 * (v[2] - 0.5),
        softness=0.02 + 0.2 * v[3] ** 2,
        rest=0.12 * v[4],
    )


def _draw_strands(v: Draws, each: Float64[np.ndarray, "n 5"]) -> tuple[Strand, ...]:
    """A few hairs more often than many, roughly side by side as hair lies on skin."""
    count = 1 + int(MOST_STRANDS * v[0] ** 2)
    lie = math.pi * v[1]
    strands = []
    for x, y, turn, bend, kind in each[:count]:
        angle = lie + 1.6 * (turn - 0.5)
        along = np.array([math.cos(angle), math.sin(angle)]) * (0.2 + 0.5 * kind)
        across = np.array([-along[1], along[0]]) * 1.2 * (bend - 0.5)
        middle = np.array([x, y])
        strands.append(
            Strand(
                root=tuple(middle - along),
                bend=tuple(middle + across),
                tip=tuple(middle + along),
                width=0.004 + 0.008 * kind * turn,
                cover=0.55 + 0.4 * bend,
            )
        )
    return tuple(strands)


def _draw_hair_colour(v: Draws) -> tuple[float, float, float]:
    """From black to brown."""
    shade = 15 + 75 * v[0]
    return (shade * (1.1 + 0.4 * v[1]), shade * 0.95, shade * (0.9 - 0.2 * v[1]))


def _draw_box(v: Draws) -> tuple[float, float, float, float]:
    """A rectangle of 2 to 15 % of the picture, up to twice as long as wide, its middle anywhere."""
    side, aspect = math.sqrt(0.02 + 0.13 * v[0]), 2 ** (v[1] - 0.5)
    down, right = side * aspect / 2, side / aspect / 2
    return (v[2] - down, v[3] - right, v[2] + down, v[3] + right)


def _draw_lettering(v: Draws) -> Lettering:
    """From a small line in a corner to one that nearly fills the picture, faint or plain."""
    count = 3 + int((MOST_LETTERS - 2) * v[0])
    width = min(0.9, (0.03 + 0.05 * v[1]) * count)
    return Lettering(
        text="".join(LETTERS[int(len(LETTERS) * u)] for u in v[8 : 8 + count]),
        font=int(8 * v[2]),
        right=width / 2 + (1 - width) * v[3],
        down=0.05 + 0.9 * v[4],
        width=width,
        shade=255 * v[5],
        cover=0.25 + 0.65 * v[6],
        turns=int(4 * v[7]),
        mirrored=bool(8 * v[7] % 2 >= 1),
    )
