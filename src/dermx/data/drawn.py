"""Drawings that show no lesion: blank sheets, noise, patterns, shapes and text, made by code.

Each kind is drawn in many colours and sizes from a seed, so no file is needed. For fitting and
reporting there are different kinds: a gate that knows one sort of noise should meet another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

import cv2
import numpy as np

from dermx.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import UInt8

SIDE: Final = 256  # pixels
WORDS: Final = ("Invoice", "total", "12.80", "please", "note", "page", "name", "date", "thank you")

Drawing: TypeAlias = "UInt8[np.ndarray, '256 256 3']"


def draw_outliers(part: str, count: int, seed: int = 0) -> list[tuple[str, Drawing]]:
    """Draw pictures that show no lesion.

    Args:
        part: "fit" or "report"; no kind of drawing is in both.
        count: How many, spread evenly over the part's kinds.
        seed: Draws others.

    Returns:
        The kind and the picture, RGB.

    Raises:
        InputError: There is no such part, or the count is negative.
    """
    if part not in KINDS or count < 0:
        raise InputError(
            f"need a part of {', '.join(KINDS)} and a count >= 0, got {part!r} and {count}"
        )
    drawings = []
    for i in range(count):
        kind, draw = list(KINDS[part].items())[i % len(KINDS[part])]
        # One generator a picture, so that more pictures don't change the first ones.
        drawings.append((kind, draw(np.random.default_rng([seed, i]))))
    return drawings


def _blank(random: np.random.Generator) -> Drawing:
    return _sheet(random.integers(0, 256, 3))


def _gradient(random: np.random.Generator) -> Drawing:
    one, other = random.integers(0, 256, (2, 3))
    angle = random.uniform(0, 2 * np.pi)
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    along = (np.cos(angle) * x + np.sin(angle) * y)[..., None] / np.sqrt(8) + 0.5
    return _pixels(one + (other - one) * np.clip(along, 0, 1))


def _noise(random: np.random.Generator) -> Drawing:
    return _pixels(random.integers(0, 256, 3) + random.normal(0, 60, (SIDE, SIDE, 3)))


def _clouds(random: np.random.Generator) -> Drawing:
    cells = int(random.integers(3, 40))
    coarse = random.integers(0, 256, (cells, cells, 3)).astype(np.float32)
    return _pixels(cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC))


def _stripes(random: np.random.Generator) -> Drawing:
    width, angle = random.uniform(4, 40), random.uniform(0, np.pi)
    y, x = np.mgrid[:SIDE, :SIDE]
    phase = (np.cos(angle) * x + np.sin(angle) * y) / width
    one, other = random.integers(0, 256, (2, 3))
    return _pixels(np.where((phase.astype(int) % 2 == 0)[..., None], one, other))


def _checkers(random: np.random.Generator) -> Drawing:
    width = int(random.integers(6, 64))
    y, x = np.mgrid[:SIDE, :SIDE] // width
    one, other = random.integers(0, 256, (2, 3))
    return _pixels(np.where(((x + y) % 2 == 0)[..., None], one, other))


def _shapes(random: np.random.Generator) -> Drawing:
    sheet = _sheet(random.integers(0, 256, 3))
    for _ in range(int(random.integers(2, 9))):
        corners = random.integers(-20, SIDE + 20, (int(random.integers(3, 7)), 1, 2))
        colour = random.integers(0, 256, 3).tolist()
        cv2.fillPoly(sheet, [corners.astype(np.int32)], colour, cv2.LINE_AA)
    return sheet


def _scribble(random: np.random.Generator) -> Drawing:
    sheet = _sheet(random.integers(200, 256, 3))
    for _ in range(int(random.integers(2, 8))):
        path = np.cumsum(random.normal(0, 18, (60, 2)), axis=0) + random.integers(40, 216, 2)
        ink = random.integers(0, 150, 3).tolist()
        thick = int(random.integers(1, 5))
        cv2.polylines(sheet, [path.astype(np.int32)[:, None]], False, ink, thick, cv2.LINE_AA)
    return sheet


def _text(random: np.random.Generator) -> Drawing:
    sheet = _sheet(random.integers(220, 256, 3))
    size = float(random.uniform(0.35, 0.9))
    ink = random.integers(0, 90, 3).tolist()
    for top in range(24, SIDE, int(26 + 20 * size)):
        line = " ".join(random.choice(WORDS, int(random.integers(2, 6))))
        cv2.putText(sheet, line, (8, top), cv2.FONT_HERSHEY_SIMPLEX, size, ink, 1, cv2.LINE_AA)
    return sheet


def _chart(random: np.random.Generator) -> Drawing:
    sheet = _sheet((255, 255, 255))
    cv2.line(sheet, (24, 16), (24, 232), (0, 0, 0), 2)
    cv2.line(sheet, (24, 232), (244, 232), (0, 0, 0), 2)
    for left in range(36, 240, 24):
        top, colour = int(random.integers(30, 220)), random.integers(0, 256, 3).tolist()
        cv2.rectangle(sheet, (left, top), (left + 16, 230), colour, -1)
    return sheet


KINDS: Final[dict[str, dict[str, Callable[[np.random.Generator], Drawing]]]] = {
    "fit": {"gradient": _gradient, "clouds": _clouds, "stripes": _stripes, "scribble": _scribble},
    "report": {
        "blank": _blank,
        "noise": _noise,
        "checkers": _checkers,
        "shapes": _shapes,
        "text": _text,
        "chart": _chart,
    },
}


def _sheet(colour: object) -> Drawing:
    return np.full((SIDE, SIDE, 3), colour, np.uint8)


def _pixels(values: np.ndarray) -> Drawing:
    return np.asarray(np.clip(values, 0, 255), np.uint8)
