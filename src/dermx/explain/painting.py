"""What is painted over, left alone or drawn in, to see what a model leans on?

Two kinds of change. `PAINTED` acts on the model's own square input with the lesion's outline: what
is taken away there is away whatever the recipe did. `ADDED` acts on the upright picture, before
the recipe, and draws what shortcuts are suspected to be: hair, a ruler, ink, a dark rim, a
watermark. Both are deterministic: the same picture always gets the same hairs.

Limits: drawn things look drawn, and what is painted over looks painted over; an answer may change
because of that alone.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

import cv2
import numpy as np

from dermx.preprocess.artefacts import Field, Strand, field_light, lit, with_strands

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, UInt8

Pixels: TypeAlias = "UInt8[np.ndarray, 'h w 3']"
Mask: TypeAlias = "Bool[np.ndarray, 'h w']"
Paint = Callable[[Pixels, Mask], Pixels]
Change = Callable[[Pixels], Pixels]

NOTHING: Final = np.array(
    (124, 116, 104), np.uint8
)  # the mean colour of ImageNet: 0 after the usual normalisation
SKIN: Final = np.array((205, 165, 145), np.uint8)  # of the drawing of a lesion's shape
LESION: Final = np.array((120, 75, 60), np.uint8)
SOFT: Final = 0.03  # of the side: how far beyond the outline a lesion's soft edge is taken to reach
BORDER: Final = 0.1  # of the side, each side: what is left of the picture by `only_border`
HAIRS: Final = 24


def without_lesion(picture: Pixels, lesion: Mask) -> Pixels:
    """Paint skin over the lesion: the colours around it, without detail; its outline stays."""
    return _skin_over(picture, _grown(lesion))


def without_box(picture: Pixels, lesion: Mask) -> Pixels:
    """Paint skin over the box around the lesion, so that its outline is gone, too."""
    box = np.zeros(lesion.shape, bool)
    if lesion.any():
        left, top, across, down = cv2.boundingRect(_grown(lesion).astype(np.uint8))
        box[top : top + down, left : left + across] = True
    return _skin_over(picture, box)


def without_background(picture: Pixels, lesion: Mask) -> Pixels:
    """Leave the lesion and its soft edge on a plain colour."""
    return np.where(_grown(lesion)[..., None], picture, NOTHING)


def only_border(picture: Pixels, lesion: Mask) -> Pixels:
    """Leave the picture's outermost tenth on every side on a plain colour, less the lesion.

    Half of the lesions reach into it: with them left there, answers would come from the lesion.
    """
    rim = round(BORDER * min(picture.shape[:2]))
    left = np.where(_grown(lesion)[..., None], NOTHING, picture)
    left[rim:-rim, rim:-rim] = NOTHING
    return left


def only_shape(_: Pixels, lesion: Mask) -> Pixels:
    """Draw the lesion's outline in two colours, alike for all: shape, size and place are left."""
    return np.where(lesion[..., None], LESION, SKIN)


def hairy(picture: Pixels) -> Pixels:
    """Lay dark hairs over the picture."""
    rng, height, width = _rng(picture), *picture.shape[:2]
    side = min(height, width)
    right, down = width / side, height / side
    strands = []
    for _ in range(HAIRS):
        root = rng.uniform(0, (right, down))
        angle, length = rng.uniform(0, 2 * math.pi), rng.uniform(0.3, 0.9)
        tip = root + length * np.array([math.cos(angle), math.sin(angle)])
        bend = (root + tip) / 2 + rng.normal(0, 0.08, 2)
        strands.append(Strand(root=_pair(root), bend=_pair(bend), tip=_pair(tip),
                              width=rng.uniform(0.004, 0.008)))  # fmt: skip
    return with_strands(picture, strands, (45, 32, 28))


def ruled(picture: Pixels) -> Pixels:
    """Print a ruler's marks along one side of the centre square, as on a dermatoscope's plate."""
    rng, height, width = _rng(picture), *picture.shape[:2]
    side = min(height, width)
    left, top = (width - side) / 2 / side, (height - side) / 2 / side
    edge = int(rng.integers(4))
    strands = []
    for i in range(1, 24):
        length = 0.08 if i % 5 == 0 else 0.045
        along, near, far = i / 24, 0.03, 0.03 + length
        if edge in (1, 2):
            near, far = 1 - near, 1 - far
        ends = ((along, near), (along, far)) if edge in (0, 1) else ((near, along), (far, along))
        (x0, y0), (x1, y1) = ((left + x, top + y) for x, y in ends)
        strands.append(Strand(root=(x0, y0), bend=((x0 + x1) / 2, (y0 + y1) / 2), tip=(x1, y1),
                              width=0.006, cover=0.85))  # fmt: skip
    return with_strands(picture, strands, (30, 30, 34))


def inked(picture: Pixels) -> Pixels:
    """Draw strokes of a violet surgical marker around the middle, as before an excision."""
    rng, height, width = _rng(picture), *picture.shape[:2]
    side = min(height, width)
    middle = np.array([width, height]) / side / 2
    strands = []
    start = rng.uniform(0, math.pi)
    for i in range(4):
        angle = start + i * math.pi / 2 + rng.normal(0, 0.1)
        out, across = _unit(angle), _unit(angle + math.pi / 2)
        centre = middle + 0.42 * out
        root, tip = centre - 0.09 * across, centre + 0.09 * across
        bend = centre + 0.03 * out
        strands.append(Strand(root=_pair(root), bend=_pair(bend), tip=_pair(tip),
                              width=0.03, cover=0.7))  # fmt: skip
    return with_strands(picture, strands, (85, 50, 140))


def vignetted(picture: Pixels) -> Pixels:
    """Darken what lies outside a round field that cuts off the centre square's corners."""
    height, width = picture.shape[:2]
    return lit(picture, field_light(height, width, Field(radius=1.0)))


def watermarked(picture: Pixels) -> Pixels:
    """Write grey letters across the middle, where DermNet's photographs have theirs."""
    height, width = picture.shape[:2]
    text, font = "(c) Example.com", cv2.FONT_HERSHEY_SIMPLEX
    (across, down), _ = cv2.getTextSize(text, font, 1.0, 2)
    scale = 0.5 * min(1.4 * height, width) / across
    left, low = round((width - across * scale) / 2), round((height + down * scale) / 2)
    thick = max(1, round(2 * scale))
    marked = picture.astype(np.float64)
    for shade, away in ((70, thick), (215, 0)):  # light letters with a shadow
        letters = np.zeros((height, width), np.uint8)
        at = (left + away, low + away)
        cv2.putText(letters, text, at, font, scale, 255, thick, cv2.LINE_AA)
        cover = letters[..., None] / 510
        marked = marked * (1 - cover) + shade * cover
    return np.rint(marked).astype(np.uint8)


def unmarked(picture: Pixels) -> Pixels:
    """Paint the surroundings over the band in the middle that holds DermNet's watermark."""
    height, width = picture.shape[:2]
    longer = max(height, width)  # the letters are as wide on portraits as on landscapes
    rows, columns = np.ogrid[:height, :width]
    above, beside = abs(rows - height / 2) / longer, abs(columns - width / 2) / longer
    band = (above < 0.05) & (beside < 0.32)
    return _skin_over(picture, band, reach=0.03)


def grey(picture: Pixels) -> Pixels:
    """Take the colour away."""
    return np.repeat(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)


ColourStatistics: TypeAlias = "Float[np.ndarray, '2 3']"


def colour_statistics(picture: Pixels) -> ColourStatistics:
    """Mean and standard deviation of the three values of CIELAB."""
    lab = cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_RGB2LAB).reshape(-1, 3)
    return np.stack([lab.mean(axis=0), lab.std(axis=0)])


def colour_matched(picture: Pixels, wanted: ColourStatistics) -> Pixels:
    """Give the picture other mean colours and spreads.

    Source: Reinhard et al. 2001, doi:10.1109/38.946629, in CIELAB.
    """
    mean, spread = colour_statistics(picture)
    lab = cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    moved = (lab - mean) * (wanted[1] / np.maximum(spread, 1e-3)) + wanted[0]
    rgb = cv2.cvtColor(moved.astype(np.float32), cv2.COLOR_LAB2RGB)
    return np.asarray(np.rint(255 * np.clip(rgb, 0, 1)), np.uint8)


PAINTED: Final[dict[str, Paint]] = {
    "lesion painted out": without_lesion,
    "lesion's box painted out": without_box,
    "background painted out": without_background,
    "only the border left": only_border,
    "only the lesion's shape left": only_shape,
}
ADDED: Final[dict[str, Change]] = {
    "hair drawn in": hairy,
    "ruler drawn in": ruled,
    "ink drawn in": inked,
    "dark rim drawn in": vignetted,
    "watermark drawn in": watermarked,
    "colour taken away": grey,
}


def _skin_over(picture: Pixels, hidden: Mask, reach: float = 0.08) -> Pixels:
    """Fill with a blur of what is not hidden; where nothing is near, with its mean."""
    if not hidden.any():
        return picture.copy()
    shown = (~hidden).astype(np.float32)
    if not shown.any():
        return np.broadcast_to(NOTHING, picture.shape).copy()
    mean = picture[~hidden].mean(axis=0)
    sigma = reach * min(picture.shape[:2])
    weight = cv2.GaussianBlur(shown, (0, 0), sigma)[..., None] + 1e-4
    known = (picture - mean) * shown[..., None]
    fill = mean + cv2.GaussianBlur(known.astype(np.float32), (0, 0), sigma) / weight
    return np.where(hidden[..., None], np.clip(np.rint(fill), 0, 255), picture).astype(np.uint8)


def _grown(lesion: Mask) -> Mask:
    reach = max(1, round(SOFT * min(lesion.shape)))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return np.asarray(cv2.dilate(lesion.astype(np.uint8), disc) > 0)


def _rng(picture: Pixels) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(np.ascontiguousarray(picture).data))


def _unit(angle: float) -> Float[np.ndarray, " 2"]:
    return np.array([math.cos(angle), math.sin(angle)])


def _pair(point: Float[np.ndarray, " 2"]) -> tuple[float, float]:
    return float(point[0]), float(point[1])
