"""Lesion: where it is in the picture, found without a network.

Skin is what the picture's border shows; the lesion is what differs from it. Two passes: the
border's colour, as a plane across the picture, gives a first outline; everything outside that
outline gives a better skin, as a curved surface that takes the uneven light with it, and the
second outline. Each outline is a threshold somewhat below Otsu's, because dermatologists draw
around the soft edge and Otsu cuts through it.

Limits: one lesion a picture, the most central; a lesion that fills the picture leaves no skin to
compare with and comes out too small; scale, scars and pale tumours are often missed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np

from dermx.errors import InputError
from dermx.preprocess.hair import check_picture

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Float32, UInt8

Pixels: TypeAlias = "UInt8[np.ndarray, 'h w 3']"
Plane: TypeAlias = "Float32[np.ndarray, 'h w']"
Mask: TypeAlias = "Bool[np.ndarray, 'h w']"
Box = tuple[int, int, int, int]

# Chosen on 600 pictures of HAM10000 whose lesions are not among those the results are told of.
WORK_PIXELS = 200 * 150  # the search runs in a picture of this many pixels
BLUR = 1.5  # pixels, deviation
BORDER = 0.12  # share of the shorter side that is skin at first
SOFT_EDGE = 0.7  # threshold, share of Otsu's
SMOOTH = 0.1  # share of the lesion's size: bays and spurs narrower than twice this go
GROW = 0.03  # share of the lesion's size that is added all round
AWAY = 0.1  # share of the lesion's size, all round, that is not used as skin
THIN = 7  # every seventh pixel of skin is enough to fit its colour
NOISE = 4.0  # variance added to the skin's spread in Lab, so that flat skin is no yardstick
LEAST_CONTRAST = 3.0  # distance in Lab between lesion and skin, below which there is no lesion
LEAST_AREA = 0.002  # share of the picture


def segment_lesion(picture: Pixels) -> Mask:
    """Outline the most central lesion.

    Args:
        picture: RGB, any size and shape; hair may be left in.

    Returns:
        True on the lesion; False everywhere when nothing credible is found.

    Raises:
        InputError: Not an RGB uint8 picture, or without pixels.

    Source: Otsu 1979, doi:10.1109/TSMC.1979.4310076, on the distance from the skin's colour
    (Mahalanobis in Lab) plus the darkness in blue light.
    """
    mask = _search(picture)
    height, width = picture.shape[:2]
    share = cv2.resize(mask.astype(np.uint8) * 255, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(share > 127)


def lesion_box(picture: Pixels, *, margin: float = 0.2) -> Box:
    """Find the rectangle around the lesion, with skin around it.

    Args:
        picture: RGB, any size and shape; hair may be left in.
        margin: Share of the box's own side that is added at each end, 0 or more.

    Returns:
        Top, left, bottom, right in pixels, the last two exclusive, inside the picture; the whole
        picture when nothing credible is found.

    Raises:
        InputError: Not an RGB uint8 picture, without pixels, or a margin below 0.
    """
    if not (np.isfinite(margin) and margin >= 0):
        raise InputError(f"the margin is a share of the box's side, 0 or more, got {margin}")
    mask = _search(picture)
    height, width = picture.shape[:2]
    if not mask.any():
        return 0, 0, height, width
    left, top, across, down = cv2.boundingRect(mask.astype(np.uint8))
    top, bottom = _span(top, down, height / mask.shape[0], height, margin)
    left, right = _span(left, across, width / mask.shape[1], width, margin)
    return top, left, bottom, right


def _span(first: int, count: int, factor: float, size: int, margin: float) -> tuple[int, int]:
    """Start and end, in a side of `size` pixels, of `count` larger ones, with the margin."""
    start, more = first * factor, margin * count * factor
    end = start + count * factor
    return max(0, int(np.floor(start - more))), min(size, int(np.ceil(end + more)))


def _search(picture: Pixels) -> Mask:
    """Find the lesion in the work picture; empty when none is credible."""
    check_picture(picture)
    height, width = picture.shape[:2]
    factor = np.sqrt(WORK_PIXELS / (height * width))
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    work = np.asarray(cv2.resize(picture, size, interpolation=method), np.uint8)
    lit = _lit(work)
    smooth = cv2.GaussianBlur(work, (0, 0), BLUR).astype(np.float32)
    lab = cv2.cvtColor(smooth / 255, cv2.COLOR_RGB2LAB)
    colours = np.dstack([lab, smooth[:, :, 2]])  # Lab and blue

    skin = _enough(_border(lit) & lit, lit)
    first = _outline(_difference(colours, skin, lit, order=1), lit)
    skin = _enough(lit & ~_grown(first, AWAY), skin)
    lesion = _outline(_difference(colours, skin, lit, order=2), lit)
    lesion = _grown(_smoothed(lesion), GROW)
    return lesion if _credible(lesion, lab, lit) else np.zeros_like(lesion)


def _lit(work: Pixels) -> Mask:
    """Find the field of view: without the dark corners a round lens leaves."""
    brightness = cv2.GaussianBlur(work.max(axis=2), (0, 0), 2)
    dark = brightness < min(90.0, 0.55 * float(np.percentile(brightness, 80)))
    _, labels = cv2.connectedComponents(dark.astype(np.uint8), connectivity=4)
    corners = np.unique(labels[[0, 0, -1, -1], [0, -1, 0, -1]])
    outside = np.isin(labels, corners[corners > 0])
    if outside.mean() > 0.5:  # a dark picture, not a dark rim
        return np.ones(outside.shape, bool)
    return np.asarray(cv2.dilate(outside.astype(np.uint8), _disc(4)) == 0)


def _border(lit: Mask) -> Mask:
    width = max(1, round(BORDER * min(lit.shape)))
    border = np.ones(lit.shape, bool)
    border[width:-width, width:-width] = False
    return border


def _enough(skin: Mask, otherwise: Mask) -> Mask:
    """Skin, if that is at least a twentieth of the picture."""
    return skin if skin.mean() >= 0.05 else otherwise


def _difference(colours: Float32[np.ndarray, "h w 4"], skin: Mask, lit: Mask, order: int) -> Plane:
    """How unlike the skin each pixel is: its distance in Lab and its darkness in blue light.

    Both are scaled by their 98th percentile, so that neither outweighs the other.
    """
    away = colours - _surface(colours, skin, order)
    spread = np.cov(away[skin][::THIN, :3].T) + NOISE * np.eye(3)
    whitened = away[:, :, :3] @ np.linalg.cholesky(np.linalg.inv(spread)).astype(np.float32)
    distance = np.sqrt((whitened**2).sum(axis=2))
    darkness = -away[:, :, 3]
    return np.asarray(_scaled(distance, lit) + _scaled(darkness, lit))


def _scaled(plane: Plane, lit: Mask) -> Plane:
    return np.asarray(plane / max(float(np.percentile(plane[lit], 98)), 1e-3), np.float32)


def _surface(
    colours: Float32[np.ndarray, "h w 4"], skin: Mask, order: int
) -> Float32[np.ndarray, "h w 4"]:
    """Skin's colour everywhere: a polynomial of the place, fitted twice, outliers left out."""
    height, width = skin.shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    terms = [x**i * y**j for i in range(order + 1) for j in range(order + 1 - i)]
    basis = np.stack(terms, axis=-1)
    thinned = np.flatnonzero(skin)[::THIN]
    known = basis.reshape(height * width, -1)[thinned]
    seen = colours.reshape(height * width, -1)[thinned]
    rest = seen - known @ _least_squares(known, seen)
    usual = 4.5 * float(np.median(np.abs(rest))) + 6  # Lab and grey levels
    inlier = np.abs(rest - np.median(rest, axis=0)).max(axis=1) < usual
    if inlier.mean() > 0.2:
        known, seen = known[inlier], seen[inlier]
    return np.asarray(basis @ _least_squares(known, seen), np.float32)


def _least_squares(
    known: Float32[np.ndarray, "n terms"], seen: Float32[np.ndarray, "n channels"]
) -> Float32[np.ndarray, "terms channels"]:
    square = (known.T @ known).astype(np.float64) + 1e-3 * np.eye(known.shape[1])
    return np.asarray(np.linalg.solve(square, (known.T @ seen).astype(np.float64)), np.float32)


def _outline(difference: Plane, lit: Mask) -> Mask:
    """Threshold, then the most central piece without holes."""
    values = difference[lit]
    low, high = float(values.min()), float(np.percentile(values, 99.8))
    if high - low < 1e-6:
        return np.zeros(lit.shape, bool)
    grey = np.clip((values - low) * (255 / (high - low)), 0, 255).astype(np.uint8)
    level, _ = cv2.threshold(grey[:, None], 0, 255, cv2.THRESH_OTSU)
    otsu = low + (level + 0.5) * (high - low) / 255
    found = ((difference > SOFT_EDGE * otsu) & lit).astype(np.uint8)
    return _filled(_central(cv2.morphologyEx(found, cv2.MORPH_OPEN, _disc(2)) > 0))


def _central(mask: Mask) -> Mask:
    """Choose the piece with most pixels, those near the picture's centre counting more."""
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    if count <= 2:
        return mask
    height, width = mask.shape
    y = (np.arange(height) + 0.5) / height - 0.5
    x = (np.arange(width) + 0.5) / width - 0.5
    weight = np.exp(-((y[:, None] / 0.3) ** 2) - (x[None, :] / 0.3) ** 2)
    score = np.bincount(labels.ravel(), weight.ravel(), count)
    return np.asarray(labels == 1 + int(np.argmax(score[1:])))


def _filled(mask: Mask) -> Mask:
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros(mask.shape, np.uint8)
    return np.asarray(cv2.drawContours(filled, outlines, -1, 1, cv2.FILLED) > 0)


def _smoothed(mask: Mask) -> Mask:
    """Close narrow bays, cut narrow spurs."""
    reach = SMOOTH * float(np.sqrt(mask.sum()))
    closed = _filled(~_widened(~_widened(mask, reach), reach))
    return _central(_widened(~_widened(~closed, reach), reach))


def _grown(mask: Mask, share: float) -> Mask:
    return _widened(mask, share * float(np.sqrt(mask.sum())))


def _widened(mask: Mask, reach: float) -> Mask:
    """Dilate by a disc; the distance map makes the time independent of its radius."""
    if not mask.any():
        return mask
    away = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)
    return np.asarray(away <= reach)


def _credible(lesion: Mask, lab: Float32[np.ndarray, "h w 3"], lit: Mask) -> bool:
    """Whether the lesion is no speck and its colour is another than the skin's."""
    skin = lit & ~lesion
    if lesion.mean() < LEAST_AREA:
        return False
    if not skin.any():
        return True
    contrast: Float[np.ndarray, "3"] = lab[lesion].mean(axis=0) - lab[skin].mean(axis=0)
    return bool(np.linalg.norm(contrast) >= LEAST_CONTRAST)


def _disc(reach: int) -> UInt8[np.ndarray, "k k"]:
    side = 2 * reach + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), np.uint8)
