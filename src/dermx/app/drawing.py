"""What pictures does the page show? The original, the map over it, the frame, the hair removed.

Everything is made from pixels in memory: a new opacity or another class needs no forward pass,
and what is handed out is encoded anew, so nothing of the file's EXIF data is left in it.
"""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np
from PIL import Image

from dermx.explain.overlay import colours, overlay, seen
from dermx.preprocess.hair import hair_mask, remove_hair
from dermx.preprocess.lesion import lesion_box
from dermx.records import Assessment

if TYPE_CHECKING:
    from jaxtyping import Bool, UInt8

Pixels: TypeAlias = "UInt8[np.ndarray, 'h w 3']"
Box = tuple[int, int, int, int]  # top, left, bottom, right; pixels, the last two exclusive


def mapped(pixels: Pixels, assessment: Assessment, code: str, opacity: float) -> Pixels:
    """Lay one class's map over a picture of any scale.

    Args:
        pixels: The upright picture.
        assessment: Its answer.
        code: The class to explain.
        opacity: Of the colours, in [0, 1].
    """
    size = (pixels.shape[0], pixels.shape[1])
    heat = assessment.view.paste(class_map(assessment, code), size)
    return overlay(pixels, heat, seen(assessment.view, size), opacity=opacity)


def class_map(assessment: Assessment, code: str) -> np.ndarray:
    """The coarse map of one class, in [0, 1]; all 0 where nothing speaks for it."""
    found: np.ndarray = assessment.maps[list(assessment.probabilities).index(code)]
    return found


def cut_off(pixels: Pixels, assessment: Assessment) -> bool:
    """Whether the model saw only a part of the picture."""
    return not seen(assessment.view, (pixels.shape[0], pixels.shape[1])).all()


def find_box(pixels: Pixels) -> Box | None:
    """Find the lesion's frame; None where nothing stands out from the skin."""
    box = lesion_box(pixels, margin=0.05)
    return None if box == (0, 0, *pixels.shape[:2]) else box


def framed(pixels: Pixels, box: Box) -> Pixels:
    """Draw a frame: white on dark, so that it is seen on any skin."""
    top, left, bottom, right = box
    result = pixels.copy()
    for colour, thick in (((20, 24, 28), 5), ((255, 255, 255), 2)):
        cv2.rectangle(result, (left, top), (right - 1, bottom - 1), colour, thick, cv2.LINE_AA)
    return result


def without_hair(pixels: Pixels) -> tuple[Pixels, bool]:
    """Remove dark hair.

    Returns:
        The picture and whether any hair was found.
    """
    found: Bool[np.ndarray, "h w"] = hair_mask(pixels)
    return (remove_hair(pixels), True) if found.any() else (pixels, False)


def jpeg(pixels: Pixels, quality: int = 88) -> bytes:
    """Encode pixels; there is nothing but pixels in the file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return file.getvalue()


def data_uri(pixels: Pixels) -> str:
    """Return a JPEG as an address that holds the picture itself."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg(pixels)).decode()}"


def thumbnail(pixels: Pixels, side: int = 112) -> Pixels:
    """Cut the centre square and scale it."""
    short = min(pixels.shape[:2])
    top, left = ((length - short) // 2 for length in pixels.shape[:2])
    square = pixels[top : top + short, left : left + short]
    return np.asarray(cv2.resize(square, (side, side), interpolation=cv2.INTER_AREA))


def gradient(opacity: float, steps: int = 9) -> str:
    """CSS colours of the map, from 0 to 1, at the opacity at which they lie over the picture."""
    ramp = colours(np.linspace(0, 1, steps, dtype=np.float32)[None])[0]
    return ", ".join(f"rgb({r} {g} {b} / {opacity:.2f})" for r, g, b in ramp)


def icon() -> Image.Image:
    """The page's sign: a spot in a ring; a named icon would be fetched from the internet."""
    canvas = np.full((64, 64, 3), 255, np.uint8)
    cv2.circle(canvas, (32, 32), 27, (11, 96, 120), 5, cv2.LINE_AA)
    cv2.circle(canvas, (32, 32), 13, (120, 72, 48), cv2.FILLED, cv2.LINE_AA)
    return Image.fromarray(canvas)
