"""How is a class map shown to a person? The picture, the map over it, and what its colours mean.

Under the colours the picture is grey, so that every colour seen is the map's; the coloured
original stands beside it. What the model did not see is dimmed, not coloured.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dermx.diagnoses import BY_CODE
from dermx.errors import InputError
from dermx.preprocess.pipeline import resize, square
from dermx.records import Assessment, View, write_whole

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32, UInt8

Pixels: TypeAlias = "UInt8[np.ndarray, 'h w 3']"
Heat: TypeAlias = "Float32[np.ndarray, 'h w']"  # in [0, 1]

OPACITY: Final = 0.55  # of the colours over the picture
SHARE: Final = 0.2  # of the seen area, inside the contour
SHORTEST, LONGEST = 320, 640  # pixels of a shown picture's longer side
THUMB: Final = 150  # pixels, side of a picture on a contact sheet
MARGIN, BAR, NARROWEST = 24, 16, 560  # pixels
LEGIBLE: Final = 192  # pixels, least width of the room for a picture's name
INK, FAINT, PAPER = (28, 28, 30), (110, 110, 115), (255, 255, 255)


def colours(values: Heat) -> Pixels:
    """Viridis: equal steps look equal, also in grey and to colour-blind eyes; RGB."""
    steps = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(steps, cv2.COLORMAP_VIRIDIS)[..., ::-1])


def seen(view: View, size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """Which pixels of a picture of this height and width the model saw."""
    return view.paste(np.ones((1, 1), np.float32), size) > 0


def strongest(
    heat: Heat, inside: Bool[np.ndarray, "h w"], share: float = SHARE
) -> Bool[np.ndarray, "h w"]:
    """Mark the strongest share of the seen area; where less than that is above 0, all of it.

    Raises:
        InputError: `share` is not between 0 and 1.

    >>> heat = np.float32([[0.1, 0.9, 0.3, 0.2, 0.0]])
    >>> strongest(heat, np.ones((1, 5), bool), 0.4).tolist()
    [[False, True, True, False, False]]
    """
    if not 0 < share < 1:
        raise InputError(f"share must be between 0 and 1, got {share}")
    if not inside.any():
        return np.zeros(heat.shape, bool)
    edge = np.quantile(heat[inside], 1 - share, method="lower")
    return np.asarray(inside & (heat > edge) if edge > 0 else inside & (heat > 0))


def overlay(
    pixels: Pixels, heat: Heat, inside: Bool[np.ndarray, "h w"], *, opacity: float = OPACITY
) -> Pixels:
    """Lay a map over a picture and outline its strongest part.

    Args:
        pixels: The picture, RGB.
        heat: In [0, 1], at the picture's size.
        inside: What the model saw.
        opacity: Of the colours, in [0, 1].

    Raises:
        InputError: The sizes differ or the opacity is out of range.
    """
    if pixels.shape[:2] != heat.shape or heat.shape != inside.shape:
        raise InputError(f"picture {pixels.shape}, map {heat.shape}, seen {inside.shape} differ")
    if not 0 <= opacity <= 1:
        raise InputError(f"opacity must be in [0, 1], got {opacity}")
    grey = np.repeat(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    blended = (1 - opacity) * grey + opacity * colours(heat)
    dimmed = 0.5 * grey + 0.5 * 255
    result = np.where(inside[..., None], blended, dimmed).round().astype(np.uint8)
    mask = strongest(heat, inside).astype(np.uint8)
    outlines, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)  # of holes, too
    lined = result.copy()
    cv2.drawContours(lined, outlines, -1, (0, 0, 0), 4, cv2.LINE_AA)  # a dark seam on bright skin
    cv2.drawContours(lined, outlines, -1, (255, 255, 255), 2, cv2.LINE_AA)
    return np.where(inside[..., None], lined, result)


def panel(
    pixels: Pixels,
    assessment: Assessment,
    code: str | None = None,
    *,
    cells: Heat | None = None,
    against: str | None = None,
) -> Pixels:
    """Draw the original, the class map over it and the colour bar side by side, with a title.

    Args:
        pixels: The upright picture that was assessed, at any scale.
        assessment: Its answer.
        code: The class whose map is shown; the predicted one when None.
        cells: Another map for it than the assessment's, over what the model saw.
        against: The class that `cells` compares it with, for the caption.

    Raises:
        InputError: A code is not one of the model's.
    """
    code = assessment.prediction if code is None else code
    codes = list(assessment.probabilities)
    for named in (code, against):
        if named is not None and named not in codes:
            raise InputError(f"no class {named!r}; the classes are {', '.join(codes)}")
    shown = _fit(pixels)
    height, width = shown.shape[:2]
    size = (height, width)
    class_map = assessment.maps[codes.index(code)] if cells is None else cells
    inside = seen(assessment.view, size)
    mapped = overlay(shown, assessment.view.paste(class_map, size), inside)

    top, label = 64, 64  # pixels: above the pictures, right of the bar
    column, tall = max(width, LEGIBLE), max(height, 3 * BAR)  # room for names and for the bar
    title = _title(assessment, code, against)
    wanted = 2 * MARGIN + round(_font(20).getlength(title))
    across = max(4 * MARGIN + 2 * column + BAR + label, wanted)
    canvas = Image.new("RGB", (across, top + tall + 2 * MARGIN), PAPER)
    left, right = MARGIN, 2 * MARGIN + column
    bar = right + column + MARGIN
    canvas.paste(Image.fromarray(shown), (left, top))
    canvas.paste(Image.fromarray(mapped), (right, top))
    canvas.paste(Image.fromarray(_bar(tall)), (bar, top))
    draw = ImageDraw.Draw(canvas)
    draw.text((left, 16), title, INK, _font(20))
    draw.text((left, 42), _shorten(Path(assessment.image).name, column, draw), FAINT, _font(13))
    caption = f"what speaks for {BY_CODE[code].name}" if class_map.any() else _NOTHING
    draw.text((right, 42), _shorten(caption, column, draw), FAINT, _font(13))
    draw.text((bar + BAR + 6, top), "most", INK, _font(13), anchor="lt")
    draw.text((bar + BAR + 6, top + tall - 1), "none", INK, _font(13), anchor="lb")
    grey = "" if inside.all() else "Grey: not seen by the model. "
    line = "Line: strongest fifth of the area seen. " if np.ptp(class_map) > 0 else ""
    foot = f"{line}{grey}Not a medical device."
    draw.text((left, top + tall + MARGIN), foot, FAINT, _font(12), anchor="lm")
    return np.asarray(canvas)


def _title(assessment: Assessment, code: str, against: str | None) -> str:
    codes = [named for named in (code, against) if named is not None]
    named = (f"{BY_CODE[k].name}, {percent(assessment.probabilities[k])}" for k in codes)
    return " rather than ".join(named)


def percent(probability: float) -> str:
    """Never a rounded 0% or 100%, which would claim certainty.

    >>> percent(0.456), percent(0.9999), percent(0.001)
    ('46%', '>99%', '<1%')
    """
    return ">99%" if probability > 0.99 else "<1%" if probability < 0.01 else f"{probability:.0%}"


def save_overlay(
    path: Path, pixels: Pixels, assessment: Assessment, code: str | None = None
) -> None:
    """Write `panel` as a PNG, whole or not at all."""
    save_png(path, panel(pixels, assessment, code))


def save_png(path: Path, pixels: Pixels) -> None:
    """Write a PNG, whole or not at all."""
    with write_whole(path) as file:
        Image.fromarray(pixels).save(file, "PNG", compress_level=3)


class Tile(NamedTuple):
    """One picture of a contact sheet."""

    pixels: Pixels  # the upright picture, at any scale
    cells: Heat  # the map of its answer
    view: View
    caption: str


def contact_sheet(title: str, rows: Sequence[tuple[str, Sequence[Tile]]]) -> Pixels:
    """Lay pictures and their maps out in rows, each under its heading.

    Args:
        title: Above all.
        rows: Each a heading and its pictures; a row without pictures says so.
    """
    across = max([len(tiles) for _, tiles in rows] + [1])
    step = 2 * THUMB + MARGIN
    width = max(MARGIN + across * step, NARROWEST)
    heights = [30 + (THUMB + 24 if tiles else 26) for _, tiles in rows]
    canvas = Image.new("RGB", (width, 56 + sum(heights) + 2 * MARGIN), PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.text((MARGIN, 16), title, INK, _font(20))
    top = 56
    for (heading, tiles), height in zip(rows, heights, strict=True):
        draw.text((MARGIN, top), heading, INK, _font(14))
        if not tiles:
            draw.text((MARGIN, top + 24), "none", FAINT, _font(13))
        for i, tile in enumerate(tiles):
            left = MARGIN + i * step
            pair = _thumbs(tile)
            canvas.paste(Image.fromarray(pair), (left, top + 24))
            text = _shorten(tile.caption, pair.shape[1], draw)
            draw.text((left, top + 28 + THUMB), text, FAINT, _font(13))
        top += height
    foot = "Right: what speaks for the answer. Line: strongest fifth. Not a medical device."
    draw.text((MARGIN, top + MARGIN), foot, FAINT, _font(12), anchor="lm")
    return np.asarray(canvas)


def _thumbs(tile: Tile) -> Pixels:
    """The picture and its map, both cut to a square around what the model saw."""
    height, width = tile.pixels.shape[:2]
    heat = tile.view.paste(tile.cells, (height, width))
    mapped = overlay(tile.pixels, heat, seen(tile.view, (height, width)))
    view = tile.view
    side = round(max(view.width * width, view.height * height))
    down, across = min(side, height), min(side, width)
    top = round((view.top + view.height / 2) * height - down / 2)
    left = round((view.left + view.width / 2) * width - across / 2)
    top, left = min(max(top, 0), height - down), min(max(left, 0), width - across)
    cut = np.s_[top : top + down, left : left + across]
    return np.hstack([square(one[cut], THUMB)[0] for one in (tile.pixels, mapped)])


_NOTHING: Final = "nothing in the picture speaks for it"


def _fit(pixels: Pixels) -> Pixels:
    """Scale so that small pictures can be looked at and large ones stay small files."""
    longer = max(pixels.shape[:2])
    factor = min(max(longer, SHORTEST), LONGEST) / longer
    height, width = (max(1, round(side * factor)) for side in pixels.shape[:2])
    return pixels if factor == 1 else resize(pixels, (height, width))


def _bar(height: int) -> Pixels:
    """Colours from 1 at the top to 0, as they look over middle grey."""
    ramp = np.repeat(np.linspace(1, 0, height, dtype=np.float32)[:, None], BAR, axis=1)
    return np.asarray((1 - OPACITY) * 128 + OPACITY * colours(ramp), np.float64).astype(np.uint8)


def _shorten(text: str, width: int, draw: ImageDraw.ImageDraw) -> str:
    text = " ".join(text.split())  # a file's name may hold line breaks
    while draw.textlength(text, _font(13)) > width and len(text) > 4:
        text = text.rstrip("…")[:-1] + "…"
    return text


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
