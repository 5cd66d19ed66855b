"""Hair: which pixels are dark hair, and what the skin beneath may look like.

Hair is thin, dark and straight over many times its width; a pigment network or a fissure is thin
and dark too, but bends or branches within a few pixels. So: a black-hat finds what is thin and
dark, openings along lines keep what runs straight, and whole strands are kept or dropped.

Limits: white and very pale hair is left in; ruler marks count as hair; a scar or a vessel that is
long, dark in red light and straight may be taken for hair, and so may a coarse, very dark network.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

import cv2
import numpy as np

from dermx.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Bool, UInt8

Pixels: TypeAlias = "UInt8[np.ndarray, 'h w 3']"
Grey: TypeAlias = "UInt8[np.ndarray, 'h w']"
Mask: TypeAlias = "Bool[np.ndarray, 'h w']"

# Everything is searched in a picture of this many pixels, so all lengths below are shares of the
# picture's size and the search takes no longer in a larger one.
WORK_PIXELS = 400 * 300
THICKEST = 9  # pixels of the work picture; darker areas wider than this are not hair
SHORT, LONG = 15, 25  # how far a hair runs straight: its every part, and somewhere along it
FAINT = 10  # grey levels darker than the surroundings, by which every part of a hair shows
# A strand is hair when its darkness runs on along the long lines to this share, on average; a
# fine pigment network reaches 0.5 to 0.6, hair that lies criss-cross 0.8 ...
STRAIGHT = 0.65
# ... and when it is clearly dark, at its darkest and on average, or paler but long.
CLEAR_PEAK, CLEAR_MEAN = 22, 18.0  # grey levels
PALE_PEAK, PALE_MEAN, PALE_EXTENT = 14, 12.0, 70.0
EDGE = 0.4  # a hair ends where its darkness falls to this share of the darkness beside it
INPAINT_RADIUS = 2.0  # pixels of the work picture
CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)


def hair_mask(picture: Pixels) -> Mask:
    """Find dark hair, soft edges included.

    Args:
        picture: RGB, any size and shape.

    Returns:
        True where hair is and one pixel around it.

    Raises:
        InputError: Not an RGB uint8 picture, or without pixels.

    Source: the black-hat is DullRazor's generalised closing (Lee et al. 1997,
    doi:10.1016/S0010-4825(97)00020-6); the test for straightness is an opening by lines.
    """
    check_picture(picture)
    return _mask(_strands(_work(picture)), picture.shape[:2])


def remove_hair(picture: Pixels) -> Pixels:
    """Replace hair by what its surroundings suggest; every other pixel stays as it is.

    Large pictures are filled from an inpainted smaller one, so the fill is smoother than skin.

    Args:
        picture: RGB, any size and shape.

    Returns:
        A new picture; it differs from the given one only where `hair_mask` is True.

    Raises:
        InputError: Not an RGB uint8 picture, or without pixels.

    Source: the Navier-Stokes fill of Bertalmio et al. 2001, as OpenCV has it; beside Telea's it
    took two thirds of the time here and came a little closer to the skin beneath.
    """
    check_picture(picture)
    work = _work(picture)
    strands = _strands(work)
    result = picture.copy()
    if not strands.any():
        return result
    mask = _mask(strands, picture.shape[:2])
    # A rim more is filled than the strands: it is soft, and enlarging mixes it into the fill.
    unknown = cv2.dilate(strands.astype(np.uint8), CROSS)
    fill = cv2.inpaint(work, unknown, INPAINT_RADIUS, cv2.INPAINT_NS)
    fill = cv2.resize(fill, mask.shape[::-1], interpolation=cv2.INTER_LINEAR)
    result[mask] = fill[mask]
    return result


def check_picture(picture: Pixels) -> None:
    """Raise an InputError unless this is an RGB uint8 array with pixels."""
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise InputError(
            f"need an RGB picture of shape (h, w, 3) and type uint8, "
            f"got shape {picture.shape} and type {picture.dtype}"
        )
    if picture.size == 0:
        raise InputError(f"the picture has no pixels: shape {picture.shape}")


def _strands(work: Pixels) -> Mask:
    """Hair in a work picture, without its soft edges."""
    # Red light passes blood and most of the lesion's pigment, but not hair: measured against
    # grey levels, recall of drawn hair rose by one point and false hair did not.
    red = np.ascontiguousarray(work[:, :, 0])
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (THICKEST, THICKEST))
    dark = np.asarray(cv2.morphologyEx(red, cv2.MORPH_BLACKHAT, disc), np.uint8)
    # A line of pixels between two of the directions has steps that no straight kernel fits into.
    blurred = np.asarray(cv2.GaussianBlur(dark, (3, 3), 0), np.uint8)
    short, long = _straight(blurred, SHORT), _straight(blurred, LONG)
    candidate = (
        (cv2.dilate(short, np.ones((3, 3), np.uint8)) > FAINT)
        & (dark > FAINT)
        & (dark > EDGE * cv2.dilate(short, np.ones((5, 5), np.uint8)))
    )
    return _hairlike(candidate, blurred, long)


def _hairlike(candidate: Mask, dark: Grey, long: Grey) -> Mask:
    """Keep the strands that are dark and straight enough, whole."""
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(candidate.astype(np.uint8))
    area = np.maximum(boxes[:, cv2.CC_STAT_AREA], 1)
    extent = np.hypot(boxes[:, cv2.CC_STAT_WIDTH], boxes[:, cv2.CC_STAT_HEIGHT])
    flat = labels.ravel()
    mean = np.bincount(flat, long.ravel(), count) / area
    straight = mean / np.maximum(np.bincount(flat, dark.ravel(), count) / area, 1e-3)
    peak = np.zeros(count, np.uint8)
    number: Any = labels[candidate]  # whole, though OpenCV's types allow fractions
    np.maximum.at(peak, number, long[candidate])
    clear = (peak > CLEAR_PEAK) & (mean > CLEAR_MEAN)
    pale = (peak > PALE_PEAK) & (mean > PALE_MEAN) & (extent > PALE_EXTENT)
    keep = (straight > STRAIGHT) & (clear | pale)
    keep[0] = False  # what is no candidate
    return np.asarray(keep[labels], bool)


def _straight(dark: Grey, length: int) -> Grey:
    """How dark each pixel is as part of a straight line of this length in its best direction."""
    best = np.zeros_like(dark)
    for line in _lines(length):
        best = np.maximum(best, cv2.morphologyEx(dark, cv2.MORPH_OPEN, line))
    return best


@cache
def _lines(length: int) -> list[Grey]:
    lines = []
    reach = (length - 1) / 2
    for angle in np.arange(0, np.pi, np.pi / (length - 1)):  # ends 1.6 pixels apart
        dx, dy = reach * np.cos(angle), reach * np.sin(angle)
        kernel = np.zeros((length, length), np.uint8)
        start, end = (round(reach - dx), round(reach - dy)), (round(reach + dx), round(reach + dy))
        lines.append(np.asarray(cv2.line(kernel, start, end, 1), np.uint8))
    return lines


def _work(picture: Pixels) -> Pixels:
    height, width = picture.shape[:2]
    factor = np.sqrt(WORK_PIXELS / (height * width))
    if abs(factor - 1) < 0.01:
        return picture
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(cv2.resize(picture, size, interpolation=method), np.uint8)


def _mask(strands: Mask, size: tuple[int, ...]) -> Mask:
    """Strands of the work picture in the given picture, a pixel wider on every side."""
    share = strands.astype(np.uint8) * 255
    grey = cv2.resize(share, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.dilate((grey > 96).astype(np.uint8), CROSS) > 0)
