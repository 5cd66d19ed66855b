"""From an upright RGB picture to a model's input: the one recipe that every door uses.

A `PreprocessConfig` travels with the model, so inference can't differ from training. Steps are
`clean` (optional hair removal and lesion crop, on the whole picture) and `square` (the geometry),
then `relit` (optional colour constancy, on the square). Training varies the picture in place of
`square`; everything else runs `prepare`, which is all three.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np

from dermx.config import PreprocessConfig
from dermx.preprocess.artefacts import in_grey_light
from dermx.preprocess.hair import remove_hair
from dermx.preprocess.lesion import lesion_box
from dermx.records import View

if TYPE_CHECKING:
    from jaxtyping import UInt8

Pixels: TypeAlias = "UInt8[np.ndarray, 'h w 3']"


def clean(picture: Pixels, spec: PreprocessConfig) -> tuple[Pixels, View]:
    """Apply the switches of the spec: hair removal, then the crop to the lesion.

    Returns:
        The picture, unchanged when both switches are off, and which part of the given one it is.
    """
    if spec.hair_removal:
        picture = remove_hair(picture)
    if not spec.lesion_crop:
        return picture, View()
    height, width = picture.shape[:2]
    top, left, bottom, right = lesion_box(picture, margin=spec.lesion_margin)
    view = View(
        left=left / width,
        top=top / height,
        width=(right - left) / width,
        height=(bottom - top) / height,
    )
    return picture[top:bottom, left:right], view


def square(
    picture: Pixels, size: int, crop_fraction: float = 1.0
) -> tuple[UInt8[np.ndarray, "size size 3"], View]:
    """Cut the centre square and scale it.

    Args:
        picture: Any shape.
        size: Side of the result, pixels.
        crop_fraction: Side of the square as a share of the shorter side, above 0, at most 1.

    Returns:
        The square, averaged over areas when shrinking, and which part of the picture it is.
    """
    height, width = picture.shape[:2]
    side = max(1, round(min(height, width) * crop_fraction))
    top, left = (height - side) // 2, (width - side) // 2
    view = View(left=left / width, top=top / height, width=side / width, height=side / height)
    return resize(picture[top : top + side, left : left + side], (size, size)), view


def prepare(
    picture: Pixels, spec: PreprocessConfig
) -> tuple[UInt8[np.ndarray, "size size 3"], View]:
    """Run the whole recipe but the normalisation, which `normalize` does for a batch."""
    cleaned, outer = clean(picture, spec)
    pixels, inner = square(cleaned, spec.image_size, spec.crop_fraction)
    return relit(pixels, spec), View(
        left=outer.left + inner.left * outer.width,
        top=outer.top + inner.top * outer.height,
        width=inner.width * outer.width,
        height=inner.height * outer.height,
    )


def relit(pixels: Pixels, spec: PreprocessConfig) -> Pixels:
    """Apply colour constancy, where the spec asks for it: the last step, in training as well."""
    return in_grey_light(pixels) if spec.colour_constancy else pixels


def shorter_side_to(picture: Pixels, side: int) -> Pixels:
    """Scale down until the shorter side is `side` pixels; smaller pictures stay as they are."""
    height, width = picture.shape[:2]
    factor = side / min(height, width)
    if factor >= 1:
        return picture
    return resize(picture, (max(side, round(height * factor)), max(side, round(width * factor))))


def resize(picture: Pixels, size: tuple[int, int]) -> Pixels:
    """Scale to a height and width: by area when shrinking, which keeps fine texture honest."""
    shrink = picture.shape[0] >= size[0] and picture.shape[1] >= size[1]
    method = cv2.INTER_AREA if shrink else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (size[1], size[0]), interpolation=method))
