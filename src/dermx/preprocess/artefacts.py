"""What do light, lens, camera and hair do to a picture?

Deterministic functions, pixels in and pixels out: `shift.py` calls them by name and severity,
training's augmentation with parameters that it drew. Lengths are shares of the picture's shorter
side, so that a picture changes alike at every resolution; only noise and JPEG act on single pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float32, Float64, UInt8

Pixels: TypeAlias = "UInt8[np.ndarray, 'h w 3']"
Plane: TypeAlias = "Float32[np.ndarray, 'h w']"

GREY = 0.66  # of white: what the estimated light of HAM10000's training part is on average
MOST_GAIN = 4.0
NORM = 6  # of shades of grey: between the mean (1) and the brightest pixel (infinity)
GRAIN = 640  # pixels, side of the sheet of noise
FINE = 4  # hair is drawn this much larger, then averaged: smooth edges, widths in quarter pixels


@dataclass(frozen=True, kw_only=True)
class Field:
    """The round field of a dermatoscope, dark outside."""

    radius: float  # as a share of half the shorter side; above 1.42 a square picture keeps all
    right: float = 0.0  # of its centre, from the picture's, as a share of the shorter side
    down: float = 0.0
    softness: float = 0.04  # width of the edge, as a share of half the shorter side
    rest: float = 0.03  # share of the light that is left outside


@dataclass(frozen=True, kw_only=True)
class Strand:
    """One hair: a curve from root to tip that bends once, thinner in its second half."""

    root: tuple[float, float]  # right and down from the left upper corner, shares of the side
    bend: tuple[float, float]  # the curve is drawn towards it, without reaching it
    tip: tuple[float, float]
    width: float  # share of the shorter side
    cover: float = 0.9  # how much it hides, in [0, 1]


@dataclass(frozen=True, kw_only=True)
class Lettering:
    """One line of letters, as a watermark has: see-through, light or dark, anywhere."""

    text: str  # ASCII, which is all that the font has
    font: int  # of OpenCV's Hershey fonts, 0 to 7
    right: float  # of the line's middle from the left, share of the side
    down: float
    width: float  # of the line, share of the side
    shade: float  # grey level
    cover: float = 0.5  # how much it hides, in [0, 1]
    turns: int = 0  # quarter turns of the line about the picture's middle
    mirrored: bool = False


def blurred(picture: Pixels, sigma: float) -> Pixels:
    """Blur with a Gaussian; `sigma` is a share of the shorter side."""
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma * min(picture.shape[:2])))


def noisy(picture: Pixels, deviation: float, seed: int) -> Pixels:
    """Add Gaussian noise of this standard deviation, in grey levels, to every value.

    The grain is a window, chosen by the seed, of one fixed sheet, repeated where the picture is
    larger: drawing afresh would take longer than all else that is done to a picture.
    """
    sheet = _grain()
    height, width = picture.shape[:2]
    rng = np.random.default_rng(seed)
    top, left = (int(rng.integers(max(1, GRAIN - side))) for side in (height, width))
    grain = sheet[top : top + height, left : left + width]
    if grain.shape != picture.shape:
        rows, columns = np.arange(height) % GRAIN, np.arange(width) % GRAIN
        grain = sheet[rows][:, columns]
    changed = cv2.scaleAdd(grain, deviation, picture.astype(np.float32))
    return np.asarray(cv2.convertScaleAbs(np.maximum(changed, 0)))


def recompressed(picture: Pixels, quality: int) -> Pixels:
    """Store as JPEG of this quality, 1 to 100, and read it again."""
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    _, stored = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    read = np.asarray(cv2.imdecode(stored, cv2.IMREAD_COLOR))
    return np.asarray(cv2.cvtColor(read, cv2.COLOR_BGR2RGB))


def tinted(picture: Pixels, gains: Sequence[float]) -> Pixels:
    """Multiply each RGB channel by its gain."""
    return np.asarray(cv2.transform(picture, np.diag(np.asarray(gains, np.float64))))


def contrasted(picture: Pixels, factor: float) -> Pixels:
    """Stretch all values about the picture's mean grey."""
    grey = float(np.dot((0.299, 0.587, 0.114), cv2.mean(picture)[:3]))
    matrix = np.hstack([factor * np.eye(3), np.full((3, 1), (1 - factor) * grey)])
    return np.asarray(cv2.transform(picture, matrix))


def bent(picture: Pixels, gamma: float) -> Pixels:
    """Raise all values, as shares of white, to the power `gamma`: black and white stay."""
    curve = 255 * np.linspace(0, 1, 256) ** gamma
    return np.asarray(cv2.LUT(picture, np.rint(curve).astype(np.uint8)))


def lit(picture: Pixels, light: Plane) -> Pixels:
    """Multiply every pixel by its light."""
    planes = cv2.merge([light, light, light])
    return np.asarray(cv2.multiply(picture, planes, dtype=cv2.CV_8U))


def slope(height: int, width: int, right: float, down: float) -> Plane:
    """Light that grows evenly, by `right` and `down` from the middle to the edge of the square."""
    x, y = _grid(height, width)
    return np.asarray(1 + right * x + down * y, np.float32)


def field_light(height: int, width: int, field: Field) -> Plane:
    """Light of a round field: 1 inside, `field.rest` outside, a straight edge between."""
    x, y = _grid(height, width)
    away = cv2.magnitude(x - np.float32(2 * field.right), y - np.float32(2 * field.down))
    inside = np.clip((field.radius - away) / max(field.softness, 1e-3) + 0.5, 0, 1)
    return np.asarray(field.rest + (1 - field.rest) * inside, np.float32)


def estimated_light(picture: Pixels) -> Float64[np.ndarray, " 3"]:
    """Estimate the colour of the light, per RGB channel, 0 to 1: shades of grey with the 6-norm.

    Source: Finlayson and Trezzi 2004; for dermoscopy Barata et al. 2015,
    doi:10.1109/JBHI.2014.2336473.
    """
    step = max(1, min(picture.shape[:2]) // 40)  # two thousand pixels tell as much as all
    values = picture[::step, ::step].reshape(-1, 3).astype(np.float64) / 255
    light = np.maximum(((values**2) ** (NORM // 2)).mean(axis=0), 1e-12) ** (1 / NORM)
    return np.asarray(light)


def grey_gains(picture: Pixels) -> Float64[np.ndarray, " 3"]:
    """Gains that make the picture's estimated light grey and leave its brightness.

    Returns:
        Per RGB channel, all 1 where the light is grey already; their mean inverse is 1.
    """
    light = estimated_light(picture)
    return np.asarray(light.mean() / light)


def in_grey_light(picture: Pixels) -> Pixels:
    """Take out the light's colour and strength: afterwards the estimated light is `GREY`.

    What is nearly black stays nearly black: no gain is above `MOST_GAIN`.
    """
    return tinted(picture, np.minimum(GREY / estimated_light(picture), MOST_GAIN).tolist())


def with_strands(
    picture: Pixels, strands: Sequence[Strand], colour: tuple[float, float, float]
) -> Pixels:
    """Draw hairs of one RGB colour, 0 to 255, over the picture."""
    height, width = picture.shape[:2]
    side = min(height, width) * FINE
    canvas = np.zeros((height * FINE, width * FINE), np.uint8)
    t = np.linspace(0, 1, 17)[:, None]
    for strand in strands:
        root, bend, tip = (np.array(p) for p in (strand.root, strand.bend, strand.tip))
        curve = (1 - t) ** 2 * root + 2 * t * (1 - t) * bend + t**2 * tip
        points = np.rint(curve * side * 16).astype(np.int32)  # in sixteenths of a fine pixel
        for part, share in ((points[:9], 1.0), (points[8:], 0.75)):
            thick = max(1, round(strand.width * share * side))
            cv2.polylines(canvas, [part], False, 255 * strand.cover, thick, cv2.LINE_8, 4)
    for finer in (2, 1):  # halving twice is several times as fast as quartering once
        size = (width * finer, height * finer)
        canvas = np.asarray(cv2.resize(canvas, size, interpolation=cv2.INTER_AREA))
    cover = canvas.ravel()
    where = np.flatnonzero(cover)
    weight = cover[where, None].astype(np.float32) / 255
    hairy = picture.copy()
    flat = hairy.reshape(-1, 3)
    flat[where] = flat[where] * (1 - weight) + np.asarray(colour, np.float32) * weight + 0.5
    return hairy


def lettered(picture: Pixels, line: Lettering) -> Pixels:
    """Write a line of letters over a square picture."""
    side = len(picture)
    (across, tall), _ = cv2.getTextSize(line.text, line.font, 1.0, 2)
    scale = line.width * side / max(1, across)
    left = round(line.right * side - across * scale / 2)
    low = round(line.down * side + tall * scale / 2)
    canvas = np.zeros((side, side), np.uint8)
    thick = max(1, round(2 * scale))
    cv2.putText(canvas, line.text, (left, low), line.font, scale, 255, thick, cv2.LINE_AA)
    canvas = np.rot90(canvas[:, ::-1] if line.mirrored else canvas, line.turns)
    cover = canvas[..., None].astype(np.float32) * np.float32(line.cover / 255)
    return np.asarray(np.rint(picture + (line.shade - picture) * cover), np.uint8)


def erased(picture: Pixels, box: tuple[float, float, float, float]) -> Pixels:
    """Fill a rectangle (top, left, bottom, right; shares of height and width) with the mean colour.

    Source: random erasing, Zhong et al. 2017 (arXiv:1708.04896), which compares fills.
    """
    height, width = picture.shape[:2]
    top, bottom = (round(min(max(share, 0), 1) * height) for share in box[::2])
    left, right = (round(min(max(share, 0), 1) * width) for share in box[1::2])
    wiped = picture.copy()
    wiped[top:bottom, left:right] = np.rint(cv2.mean(picture)[:3])
    return wiped


@cache
def _grain() -> Float32[np.ndarray, "side side 3"]:
    return np.random.default_rng(0).standard_normal((GRAIN, GRAIN, 3), np.float32)


@lru_cache(maxsize=8)
def _grid(height: int, width: int) -> tuple[Plane, Plane]:
    """Right and down from the middle of the picture, in halves of the shorter side."""
    half = min(height, width) / 2
    x = (np.arange(width, dtype=np.float32) - (width - 1) / 2) / half
    y = (np.arange(height, dtype=np.float32) - (height - 1) / 2) / half
    right, down = np.meshgrid(x, y)
    return right, down
